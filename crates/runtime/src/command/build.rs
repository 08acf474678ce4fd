//! Creating a container: the record is written first; everything is rolled back if a step fails.

mod restored;

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use davit_sys::Slots;
use davit_sys::trace::operation;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::oom_hint::with_oom_hint;
use super::request::CreateRequest;
use crate::agent::Agent;
use crate::error::{Error, Result, Within};
use crate::hook::Output;
use crate::outside_file;
use crate::plan::{Plan, StartMode, apply_outside};
use crate::slot;
use crate::spawn::send_fd;
use crate::spawn::{self, Events, Progress, Start, Started};
use crate::state;
use crate::state::Process;
use crate::state::start_fifo;
use crate::state::{ContainerDir, LaterParts, Record, Stage, StateRoot};

/// Timeout for killing the processes of a container whose creation failed.
const CLEANUP: Duration = Duration::from_secs(10);

/// Transactional creation of a container: complete, or rolled back.
pub(super) struct ContainerBuilder<'a> {
    plan: Plan,
    request: &'a CreateRequest,
    record: Record,
    dir: ContainerDir,
    init: Option<Started>,
    /// Whether the container gets a socket on which it reports that it is ready.
    notifies: bool,
    /// Whether the processes in its cgroup belong to this container and may be killed.
    owns_cgroup: bool,
    /// The identity of its init, as other commands read it.
    identity: Cell<Option<Process>>,
    /// Whether hooks may have seen the container: poststop hooks are then due.
    poststop_due: Cell<bool>,
}

/// The work of the runtime while init gets ready.
struct Steps<'a> {
    plan: &'a Plan,
    record: &'a Record,
    dir: &'a ContainerDir,
    identity: &'a Cell<Option<Process>>,
    poststop_due: &'a Cell<bool>,
}

impl Events for Steps<'_> {
    fn forked(&self, pidfd: &OwnedFd, pid: Pid) -> Result<()> {
        self.identity.set(Some(write_init_link(self.dir, pidfd, pid)?));
        Ok(())
    }

    fn run_hooks(&self, pid: Pid) -> Result<()> {
        self.poststop_due.set(true);
        run_hooks(self.plan, self.record, pid)
    }
}

/// From here on other commands find init, even if this one is killed.
fn write_init_link(dir: &ContainerDir, pidfd: &OwnedFd, pid: Pid) -> Result<Process> {
    let identity = Process::from_pidfd(pidfd, pid.as_raw(), dir.outlives_memory()?)?;
    dir.write_init_link(&identity)?;
    Ok(identity)
}

impl<'a> ContainerBuilder<'a> {
    pub(super) const fn new(
        plan: Plan,
        request: &'a CreateRequest,
        record: Record,
        dir: ContainerDir,
        notifies: bool,
    ) -> Self {
        let (identity, poststop_due) = (Cell::new(None), Cell::new(false));
        let (init, owns_cgroup) = (None, false);
        Self { plan, request, record, dir, init, notifies, owns_cgroup, identity, poststop_due }
    }

    /// Makes the container up to the point where its init waits, or has become the user's program.
    /// `later` is stored behind the plan.
    ///
    /// # Errors
    /// The first step that failed; everything before it is rolled back.
    pub(super) fn build(
        mut self,
        later: &LaterParts,
        slots: Slots,
        root: &StateRoot,
    ) -> Result<(Started, Record, ContainerDir)> {
        match self.make(later, slots) {
            Ok(init) => Ok((init, self.record, self.dir)),
            Err(error) => Err(self.roll_back(root, error)),
        }
    }

    fn make(&mut self, later: &LaterParts, mut slots: Slots) -> Result<Started> {
        let _lock = self.dir.lock(Duration::ZERO)?;
        self.announce()?;
        let cgroup = self.prepare(&mut slots)?;
        let agent = Agent::connect(&self.record)?;
        let slots = self.open_sources(slots)?;
        if self.is_immediate() {
            // All that is known before init exists. The init link and the process tell the rest.
            self.dir.write_record(&self.record)?;
        }
        let pid = self.start_init(later, cgroup.as_ref(), slots, agent)?;
        let made_late = self.makes_cgroup_late();
        if made_late {
            self.make_cgroup(Some(pid))?;
        }
        if let Some(group) = &self.record.resctrl {
            group.assign(pid).within(|| "linux.intelRdt: tasks")?;
        }
        self.follow_init(made_late)?;
        let init = self.init.take().ok_or_else(|| Error::new("init is gone"))?;
        if self.is_immediate() {
            self.record.init = self.identity.get();
            return Ok(init);
        }
        match self.hand_out(&init) {
            Ok(()) => Ok(init),
            Err(error) => {
                self.init = Some(init);
                Err(error)
            }
        }
    }

    fn is_immediate(&self) -> bool {
        self.plan.start == StartMode::Immediate
    }

    /// Whether the cgroup is made around a process, and so after it.
    fn makes_cgroup_late(&self) -> bool {
        self.plan.cgroup.iter().any(davit_cgroups::Op::needs_process)
    }

    /// Writes down what will be made before any of it is: from here on `delete --force` finds it.
    fn announce(&mut self) -> Result<()> {
        if let Some(cgroup) = &self.record.cgroup {
            cgroup.refuse_occupied().within(|| "linux.cgroupsPath")?;
        }
        self.owns_cgroup = true;
        if let Some(member) = self.record.cgroup.as_ref().and_then(|cgroup| cgroup.members.first())
        {
            self.dir.write_cgroup_link(&member.path)?;
        }
        match self.is_immediate() {
            true => Ok(()),
            false => self.dir.write_record(&self.record),
        }
    }

    /// Makes what init needs from outside; returns the cgroup that it is created in.
    fn prepare(&mut self, slots: &mut Slots) -> Result<Option<OwnedFd>> {
        Output::open(&self.plan.hook_output)?.put(slots);
        if self.notifies {
            self.dir.make_notify_directory()?;
        }
        let cgroup = match self.makes_cgroup_late() {
            true => None,
            false => self.make_cgroup(None)?.and_then(|join| put(join, slots)),
        };
        self.make_resctrl_group()?;
        if self.plan.start == StartMode::WaitForStart {
            let (command, answer) = start_fifo::create(&self.dir)?;
            slots.put(slot::START, command);
            slots.put(slot::ANSWER, answer);
        }
        Ok(cgroup)
    }

    /// Opens the mount sources and raises the limits for which init will lack the rights.
    fn open_sources(&self, slots: Slots) -> Result<Slots> {
        let mut context = davit_rootfs::Context::new(slots);
        apply_outside(&self.plan.outside, &mut context)?;
        davit_privileges::apply(&self.plan.raise).map_err(|failure| {
            let op = self.plan.raise.get(failure.op);
            let step = op.map(ToString::to_string).unwrap_or_default();
            let hint = op.and_then(|op| op.hint(failure.error.errno));
            Error::from(failure.error).within(step).hinted(hint)
        })?;
        Ok(context.slots)
    }

    fn start_init(
        &mut self,
        later: &LaterParts,
        cgroup: Option<&OwnedFd>,
        slots: Slots,
        agent: Option<Agent>,
    ) -> Result<i32> {
        let mut init = spawn::start(Start {
            plan: Rc::clone(&self.plan.init),
            supervision: self.plan.supervision,
            is_further: false,
            clone_namespaces: &self.plan.clone_namespaces,
            id_maps: self.plan.id_maps.clone(),
            moves: self.plan.moves.clone(),
            late_cgroup: None,
            cgroup: cgroup.map(AsFd::as_fd),
            slots,
            file: &|bytes| self.dir.write_plan(bytes, later),
        })?;
        init.agent = agent;
        let init = self.init.insert(init);
        self.identity.set(Some(write_init_link(&self.dir, &init.pidfd, init.pid)?));
        if self.plan.start == StartMode::Immediate {
            match init.go() {
                // Init has failed already: its report says why.
                Err(error) if error.is_os(Errno::EPIPE) || error.is_os(Errno::ECONNRESET) => {}
                told => told?,
            }
        }
        Ok(init.pid.as_raw())
    }

    /// Follows init until it is created, or has become the user's program.
    fn follow_init(&mut self, waits_for_cgroup: bool) -> Result<()> {
        let Self { plan, init, record, dir, identity, poststop_due, .. } = self;
        let Some(init) = init else { return Err(Error::new("init is gone")) };
        if waits_for_cgroup {
            init.go()?;
        }
        let progress = init.listen(&Steps { plan, record, dir, identity, poststop_due });
        let progress = progress.map_err(|error| with_oom_hint(error, record))?;
        match (progress, &plan.start) {
            (Progress::Executed, StartMode::Immediate) => poststop_due.set(true),
            (Progress::Created, _) => {}
            (Progress::Executed, _) => {
                return Err(Error::new("davit's init started the program before it was told to"));
            }
        }
        Ok(())
    }

    fn make_cgroup(&mut self, process: Option<i32>) -> Result<Option<davit_cgroups::JoinFds>> {
        let Some(cgroup) = self.record.cgroup.as_mut() else { return Ok(None) };
        let mut context = davit_cgroups::Context { process, ..davit_cgroups::Context::default() };
        let applied = match davit_cgroups::apply(&self.plan.cgroup, &mut context) {
            Ok(applied) => applied,
            Err(failure) => {
                let op = self.plan.cgroup.get(failure.op);
                // A unit that exists belongs to another container: it must not be stopped.
                let taken = failure.error.errno == Errno::EEXIST;
                self.owns_cgroup &= !(taken && op.is_some_and(davit_cgroups::Op::needs_process));
                return Err(explain(op, &failure.error, &context.detail));
            }
        };
        cgroup.record_parents(&applied);
        Ok(Some(applied.into_join_fds(cgroup)?))
    }

    fn make_resctrl_group(&mut self) -> Result<()> {
        let Some((_, ops)) = &self.plan.resctrl else { return Ok(()) };
        davit_cgroups::resctrl::apply(ops).map_err(|failure| {
            if failure.op == 0 {
                // Nothing was made: the existing group belongs to another container.
                self.record.resctrl = None;
            }
            let step = ops.get(failure.op).map(ToString::to_string);
            Error::from(failure.error).within(step.unwrap_or_default())
        })
    }

    /// Gives the caller what it asked for, and completes the record. Init waits for its `Go`
    /// meanwhile: it ends with the runtime if that is killed before.
    fn hand_out(&mut self, init: &Started) -> Result<()> {
        let request = self.request;
        if let (Some(socket), Some(master)) = (&request.console_socket, &init.master) {
            send_fd::send_console(socket, master)?;
        }
        if let Some(socket) = &request.pidfd_socket {
            send_fd::send_pidfd(socket, &init.pidfd)?;
        }
        self.record.init = self.identity.get();
        // The container of a `run` is never created: its init shows that it runs.
        let waits = self.plan.start == StartMode::WaitForStart;
        if waits {
            self.record.stage = Stage::Created;
        }
        self.dir.write_record(&self.record)?;
        if let Some(path) = &request.pid_file {
            write_pid_file(path, init.pid.as_raw())?;
        }
        if waits {
            init.go()?;
        }
        Ok(())
    }

    /// Rolls back what was made; the first error stays the reason.
    fn roll_back(&mut self, root: &StateRoot, error: Error) -> Error {
        if let Some(init) = &self.init {
            init.kill();
        }
        self.roll_back_rest(root, error)
    }

    /// The same, once init is killed.
    fn roll_back_rest(&self, root: &StateRoot, error: Error) -> Error {
        let deadline = Instant::now() + CLEANUP;
        let removed = match &self.record.cgroup {
            // An empty cgroup is removed without a descriptor: there may be none left.
            Some(cgroup) if self.owns_cgroup && !cgroup.remove_if_empty() => {
                cgroup.kill(deadline).and_then(|()| cgroup.remove(deadline))
            }
            _ => Ok(()),
        };
        let group = self.record.resctrl.as_ref().map_or(Ok(()), |group| group.remove());
        let removed = removed.map_err(Error::from).and(group.within(|| "linux.intelRdt"));
        let removed = removed.and(super::delete::unmount(&self.record));
        // A command that has deleted the container in the meantime has run the hooks too.
        if self.poststop_due.get() && self.dir.exists() {
            // The failures of hooks are not reported: engines read one error, and it is the reason.
            super::delete::poststop(&self.record);
        }
        // After a failure the record stays, for `delete --force`.
        error.after_cleanup(removed.and_then(|()| root.remove(&self.dir, true)))
    }
}

/// Puts the descriptors that lead into the cgroup into their slots; returns the one for clone3(2).
fn put(join: davit_cgroups::JoinFds, slots: &mut Slots) -> Option<OwnedFd> {
    for (slot, file) in (slot::CGROUP..).zip(join.procs) {
        slots.put(slot, file);
    }
    if let Some(own) = join.subgroup {
        slots.put(slot::DELEGATED, own);
    }
    join.into
}

/// The error for a failed operation on the cgroup.
pub(super) fn explain(
    op: Option<&davit_cgroups::Op>,
    error: &davit_sys::Error,
    said: &str,
) -> Error {
    let step = op.map(davit_cgroups::Op::title).unwrap_or_default();
    let explained = match said {
        "" => Error::from(*error),
        said => Error::new(format!("{error} ({said})")),
    };
    explained.within(step).hinted(op.and_then(|op| op.hint(error)))
}

fn run_hooks(plan: &Plan, record: &Record, pid: Pid) -> Result<()> {
    let output = Output::open(&plan.hook_output)?;
    for (hook, status) in &plan.hooks {
        let id = record.id.as_str();
        let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
        let run = || hook.run(&format!("{before}{pid}{after}"), Some(&record.bundle), &output);
        operation("hooks", hook, run)?;
    }
    Ok(())
}

/// Writes the pid file atomically: an engine that sees the file sees all of it.
///
/// # Errors
/// The file or its directory cannot be written.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let write = || outside_file::replace(path, pid.to_string().as_bytes());
    operation("runtime", &"write the pid to --pid-file", write)
        .within(|| format!("--pid-file {}", path.display()))
}
