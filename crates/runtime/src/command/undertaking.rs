//! Making a container: the record before the deed, and everything taken back where a step fails.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use sys::{During, Slots};

use super::create::CreateRequest;
use super::want_of_memory::with_want_of_memory;
use crate::error::{Error, Result, Within};
use crate::execute::{self, Progress, Start, Started};
use crate::handover;
use crate::hook::Output;
use crate::plan::Plan;
use crate::process::Process;
use crate::record::{Entry, Record, Root, Stage};
use crate::slot;
use crate::start_socket;
use crate::state;

/// How long the end of a container that could not be made is waited for.
const CLEANUP: Duration = Duration::from_secs(10);

/// A container that is being made: all of it, or in the end nothing.
pub(super) struct Undertaking {
    record: Record,
    entry: Entry,
    init: Option<Started>,
    /// Whether it is given a way to say that it is ready.
    notifies: bool,
    /// Whether what is in its cgroup is ours to end.
    owns_cgroup: bool,
    /// Whether it was there as far as hooks can see: those that are called after its end are due.
    built: Cell<bool>,
}

impl Undertaking {
    pub(super) const fn new(record: Record, entry: Entry, notifies: bool) -> Self {
        Self { record, entry, init: None, notifies, owns_cgroup: false, built: Cell::new(false) }
    }

    /// Makes the container up to the point where its init waits, or is the user's program already. `base` is kept
    /// behind its plan.
    ///
    /// # Errors
    /// What could not be done; everything before it is taken back.
    pub(super) fn carry_out(
        mut self,
        plan: &mut Plan,
        base: &[u8],
        request: &CreateRequest,
        slots: Slots,
        root: &Root,
    ) -> Result<(Started, Record, Entry)> {
        match self.make(plan, base, request, slots) {
            Ok(init) => Ok((init, self.record, self.entry)),
            Err(error) => Err(self.undo(root, error)),
        }
    }

    fn make(
        &mut self,
        plan: &mut Plan,
        base: &[u8],
        request: &CreateRequest,
        mut slots: Slots,
    ) -> Result<Started> {
        let _lock = self.entry.lock(Duration::ZERO)?;
        if let Some(cgroup) = &self.record.cgroup {
            cgroup.refuse_occupied().within(|| "linux.cgroupsPath")?;
        }
        self.owns_cgroup = true;
        // Before the deed: whatever happens from here on, `delete --force` finds what was made.
        if let Some(member) = self.record.cgroup.as_ref().and_then(|cgroup| cgroup.members.first())
        {
            self.entry.note_cgroup(&member.path)?;
        }
        let ahead = self.may_go_ahead(plan, request);
        if !ahead {
            self.entry.write_record(&self.record)?;
        }
        Output::open(&plan.hook_output)?.put(&mut slots);
        if self.notifies {
            self.entry.make_notify_directory()?;
        }
        // A cgroup that is made around a process comes after it.
        let comes_later = plan.cgroup.iter().any(cgroups::Op::wants_process);
        let cgroup = match comes_later {
            true => None,
            false => self.make_cgroup(plan, None)?.and_then(|join| put(join, &mut slots)),
        };
        self.make_resctrl_group(plan)?;
        if !request.options.start_at_once {
            slots.put(slot::START, start_socket::open(&self.entry)?);
        }
        let mut outside = rootfs::Context::new(slots);
        rootfs::apply(&plan.outside, &mut outside).map_err(|failure| {
            let step = plan.outside.get(failure.op).map(|op| op.origin.to_string());
            Error::from(failure.error).within(step.unwrap_or_default())
        })?;
        privileges::apply(&plan.raise).map_err(|failure| {
            let step = plan.raise.get(failure.op).map(ToString::to_string);
            Error::from(failure.error).within(step.unwrap_or_default())
        })?;
        if ahead {
            plan.init.go_ahead();
        }
        let init = execute::start(Start {
            plan: std::mem::take(&mut plan.init),
            born: &plan.born,
            id_maps: plan.id_maps.clone(),
            moves: plan.moves.clone(),
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            slots: outside.slots,
            file: &|bytes| self.entry.write_plan(bytes, base),
        })?;
        let pid = init.pid.as_raw();
        self.init = Some(init);
        if comes_later {
            self.make_cgroup(plan, Some(pid))?;
        }
        if let Some(group) = &self.record.resctrl {
            group.assign(pid).within(|| "linux.intelRdt: tasks")?;
        }
        let Some(init) = &mut self.init else { return Err(Error::new("init is gone")) };
        if comes_later {
            init.go()?;
        }
        let hooks = |pid: Pid| {
            self.built.set(true);
            run_hooks(plan, &self.record, pid)
        };
        let progress = init.listen(&hooks);
        let progress = progress.map_err(|error| with_want_of_memory(error, &self.record))?;
        match progress {
            Progress::Executed if ahead => self.built.set(true),
            Progress::Created => {}
            Progress::Executed => return Err(Error::new("davit's init did not wait")),
        }
        let init = self.init.take().ok_or_else(|| Error::new("init is gone"))?;
        match self.write_down(request, &init) {
            Ok(()) => Ok(init),
            Err(error) => {
                self.init = Some(init);
                Err(error)
            }
        }
    }

    /// `run` need not stop at the created container where nobody wants anything of it there: each word between two
    /// processes wakes one up, and the record is written once. What has begun when this process is killed is found by
    /// the note of its cgroup.
    fn may_go_ahead(&self, plan: &Plan, request: &CreateRequest) -> bool {
        let handed_out = request.console_socket.is_some()
            || request.pidfd_socket.is_some()
            || request.pid_file.is_some()
            || request.notify.is_some();
        request.options.start_at_once
            && !handed_out
            && !plan.init.asks()
            && self.record.inner_hooks == 0
            && self.record.listener.is_none()
            && self.record.resctrl.is_none()
            && self.record.mounts_before.is_none()
            && self.record.cgroup.is_some()
    }

    fn make_cgroup(&mut self, plan: &Plan, process: Option<i32>) -> Result<Option<cgroups::Join>> {
        let Some(cgroup) = self.record.cgroup.as_mut() else { return Ok(None) };
        let mut context = cgroups::Context { process, ..cgroups::Context::default() };
        let applied = match cgroups::apply(&plan.cgroup, &mut context) {
            Ok(applied) => applied,
            Err(failure) => {
                let op = plan.cgroup.get(failure.op);
                // A unit that exists is another's: it is not to be stopped.
                let taken = failure.error.errno == Errno::EEXIST;
                self.owns_cgroup &= !(taken && op.is_some_and(cgroups::Op::wants_process));
                return Err(explain(op, &failure.error, &context.said));
            }
        };
        cgroup.note_parents(&applied);
        Ok(Some(applied.into_join(cgroup)?))
    }

    fn make_resctrl_group(&mut self, plan: &Plan) -> Result<()> {
        let Some((_, ops)) = &plan.resctrl else { return Ok(()) };
        cgroups::resctrl::apply(ops).map_err(|failure| {
            if failure.op == 0 {
                // Nothing was made: what stands there is another's.
                self.record.resctrl = None;
            }
            let step = ops.get(failure.op).map(ToString::to_string);
            Error::from(failure.error).within(step.unwrap_or_default())
        })
    }

    /// Init waits for its `Go` meanwhile: it ends with us where we do not get to it.
    fn write_down(&mut self, request: &CreateRequest, init: &Started) -> Result<()> {
        if let (Some(socket), Some(master)) = (&request.console_socket, &init.master) {
            handover::terminal(socket, master)?;
        }
        if let Some(socket) = &request.pidfd_socket {
            handover::process(socket, &init.pidfd)?;
        }
        self.record.init = Some(Process::behind(&init.pidfd, init.pid.as_raw())?);
        // `run` goes on at once: it writes down what will be. Init ends with it where that fails.
        self.record.stage =
            if request.options.start_at_once { Stage::Running } else { Stage::Created };
        self.entry.write_record(&self.record)?;
        if let Some(path) = &request.pid_file {
            write_pid_file(path, init.pid.as_raw())?;
        }
        if !request.options.start_at_once {
            init.go()?;
        }
        Ok(())
    }

    /// Takes back what was made; the reason stays the first one.
    fn undo(&mut self, root: &Root, error: Error) -> Error {
        if let Some(init) = &self.init {
            init.kill();
        }
        let deadline = Instant::now() + CLEANUP;
        let removed = match &self.record.cgroup {
            // Without a process in it, it goes without a descriptor: there may be none left.
            Some(cgroup) if self.owns_cgroup && !cgroup.remove_if_empty() => {
                cgroup.kill(deadline).and_then(|()| cgroup.remove(deadline))
            }
            _ => Ok(()),
        };
        let group = self.record.resctrl.as_ref().map_or(Ok(()), |group| group.remove());
        let removed = removed.map_err(Error::from).and(group.within(|| "linux.intelRdt"));
        let removed = removed.and(super::delete::unmount(&self.record));
        if self.built.get() {
            // The error is the reason for all of this, and engines read one.
            super::delete::poststop(&self.record);
        }
        match removed {
            Ok(()) => match self.entry.remove(root) {
                Ok(()) => error,
                Err(left) => error.hint(format!("left behind: {left}")),
            },
            // The record stays for `delete --force`.
            Err(left) => error.hint(format!("left behind: {left}")),
        }
    }
}

/// The ways into the cgroup that go by descriptor, to their slots; the one that goes by clone3(2).
fn put(join: cgroups::Join, slots: &mut Slots) -> Option<OwnedFd> {
    for (slot, file) in (slot::CGROUP..).zip(join.procs) {
        slots.put(slot, file);
    }
    if let Some(own) = join.own {
        slots.put(slot::DELEGATED, own);
    }
    join.into
}

/// What one step on the cgroup says of its failure.
pub(super) fn explain(op: Option<&cgroups::Op>, error: &sys::Error, said: &str) -> Error {
    let step = op.map(cgroups::Op::title).unwrap_or_default();
    let explained = match said {
        "" => Error::from(*error),
        said => Error::new(format!("{error} ({said})")),
    };
    let explained = explained.within(step);
    match op.and_then(|op| op.hint(error)) {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}

fn run_hooks(plan: &Plan, record: &Record, pid: Pid) -> Result<()> {
    let output = Output::open(&plan.hook_output)?;
    for (hook, status) in &plan.hooks {
        let id = record.id.as_str();
        let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
        hook.run(&format!("{before}{pid}{after}"), Some(&record.bundle), &output)?;
    }
    Ok(())
}

/// Writes the pid whole: an engine that sees the file sees all of it.
///
/// # Errors
/// The file or its directory cannot be written.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let write = || {
        File::create(&fresh)?.write_all(pid.to_string().as_bytes())?;
        std::fs::rename(&fresh, path)
    };
    write().during("write").within(|| format!("--pid-file {}", path.display()))
}
