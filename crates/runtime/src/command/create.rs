//! `create`, and the first part of `run`.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, socket};
use nix::unistd::Pid;
use sys::{During, Slots};

use crate::bundle::Bundle;
use crate::console;
use crate::error::{Error, Result, Within};
use crate::execute::{self, Progress, Start, Started};
use crate::host::{self, Host};
use crate::id::Id;
use crate::plan::{self, CgroupManager, CreateOptions, Plan};
use crate::process::Process;
use crate::record::{Entry, Record, Root, START_SOCKET, Stage, VERSION};
use crate::slot;
use crate::state;

/// How long the end of a container that could not be made is waited for.
const CLEANUP: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Debug, Default)]
pub struct CreateRequest {
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Its config.json, where it has another name.
    pub config: Option<PathBuf>,
    /// Where the terminal's other side is sent.
    pub console_socket: Option<PathBuf>,
    /// Where init's pid is written.
    pub pid_file: Option<PathBuf>,
    /// The command ends before the container does: nobody is there to look after a terminal.
    pub nobody_waits: bool,
    /// The rest.
    pub options: CreateOptions,
}

/// A created container, whose init waits.
pub struct Created {
    /// Its init.
    pub init: Started,
    /// Its directory.
    pub entry: Entry,
    /// Its record.
    pub record: Record,
    /// Where this user's containers are.
    pub root: Root,
    /// What was asked for and cannot be given, where the spec wants no failure.
    pub warnings: Vec<String>,
}

/// Creates a container.
///
/// # Errors
/// What could not be done; then nothing of it is left.
pub fn create(root: Root, id: &Id, request: &CreateRequest) -> Result<Created> {
    let mut bundle = Bundle::load(&request.bundle, request.config.as_deref())?;
    if let Some(process) = bundle.spec.process_mut() {
        plan::fit_terminal(process, &request.options.process);
    }
    check_descriptors(&request.options)?;
    let host = Host::discover(request.options.cgroup_manager != CgroupManager::Disabled)?;
    let cgroup_request = plan::cgroup_request(id, &bundle.spec);
    let rootless = host.uid != 0 || host.in_user_namespace;
    let cgroups = cgroups::Host::discover(&cgroup_request, rootless).within(|| "cgroups")?;
    let mut slots = Slots::default();
    let joined = host::open_namespaces(&bundle.spec, &mut slots)?;
    let options = &request.options;
    let inputs =
        plan::Inputs { id, bundle: &bundle, host: &host, cgroups: &cgroups, joined, options };
    let plan = plan::create(inputs)?;
    check_terminal(&bundle, request)?;
    let entry = root.create(id)?;
    let mut undertaking = Undertaking {
        record: record(id, &bundle, &host, &plan),
        entry,
        init: None,
        owns_cgroup: false,
    };
    match undertaking.make(&plan, &bundle, request, slots) {
        Ok(init) => {
            let Undertaking { record, entry, .. } = undertaking;
            Ok(Created { init, entry, record, root, warnings: plan.warnings })
        }
        Err(error) => Err(undertaking.undo(&root, error)),
    }
}

fn record(id: &Id, bundle: &Bundle, host: &Host, plan: &Plan) -> Record {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let cgroup = cgroups::Cgroup::planned(&plan.cgroup);
    Record {
        version: VERSION,
        id: id.clone(),
        bundle: bundle.directory.clone(),
        rootfs: plan.rootfs.clone(),
        created: state::rfc3339(now),
        owner: host.uid,
        stage: Stage::Creating,
        init: None,
        cgroup: (!cgroup.is_empty()).then_some(cgroup),
        own_pid_namespace: plan.own_pid_namespace,
        annotations: plan.annotations.clone(),
        poststart: plan.poststart.clone(),
        poststop: plan.poststop.clone(),
    }
}

fn check_descriptors(options: &CreateOptions) -> Result<()> {
    let wanted = options.process.preserved();
    let missing =
        (3..).take(usize::try_from(wanted).unwrap_or(0)).find(|fd| !sys::process::is_open(*fd));
    match missing {
        Some(fd) => Err(Error::new(format!("--preserve-fds: descriptor {fd} is not open"))),
        None => Ok(()),
    }
}

fn check_terminal(bundle: &Bundle, request: &CreateRequest) -> Result<()> {
    let terminal = bundle.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal);
    match (terminal == Some(true), &request.console_socket) {
        (true, None) if request.nobody_waits => {
            Err(Error::new("process.terminal: is set, but there is no --console-socket for it"))
        }
        (false, Some(_)) => {
            Err(Error::new("--console-socket: is given, but process.terminal is not set"))
        }
        _ => Ok(()),
    }
}

/// The second half of `run`: lets the program of a created container begin.
///
/// # Errors
/// It cannot be executed, or a hook failed: then the container is deleted again.
pub fn start_at_once(mut created: Created) -> Result<Created> {
    let begin = |created: &mut Created| -> Result<()> {
        created.init.go()?;
        created.init.listen(&|_| Ok(()))?;
        created.record.stage = Stage::Running;
        created.entry.write_record(&created.record)?;
        super::start::after_start(&created.record)
    };
    match begin(&mut created) {
        Ok(()) => Ok(created),
        Err(error) => {
            let error = with_oom(error, &created.record);
            created.init.kill();
            let id = created.entry.id().clone();
            match super::delete(&created.root, &id, true) {
                Ok(_) => Err(error),
                Err(left) => Err(error.hint(format!("left behind: {left}"))),
            }
        }
    }
}

/// A container that is being made.
struct Undertaking {
    record: Record,
    entry: Entry,
    init: Option<Started>,
    /// Whether what is in its cgroup is ours to end.
    owns_cgroup: bool,
}

impl Undertaking {
    fn make(
        &mut self,
        plan: &Plan,
        bundle: &Bundle,
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
        self.entry.write_record(&self.record)?;
        let cgroup = self.make_cgroup(plan, &mut slots)?;
        if !request.options.start_at_once {
            slots.put(slot::START, self.listen()?);
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
        let init = execute::start(Start {
            plan: plan.init.clone(),
            born: &plan.born,
            id_maps: plan.id_maps.clone(),
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            slots: outside.slots,
        })?;
        let init = self.init.insert(init.with_hooks(plan.init.hooks()));
        let hooks = |pid: Pid| run_hooks(plan, &self.record, &bundle.directory, pid);
        let progress = init.listen(&hooks);
        let progress = progress.map_err(|error| with_oom(error, &self.record))?;
        if progress != Progress::Created {
            return Err(Error::new("davit's init did not wait"));
        }
        let init = self.init.take().ok_or_else(|| Error::new("init is gone"))?;
        match self.write_down(plan, bundle, request, &init) {
            Ok(()) => Ok(init),
            Err(error) => {
                self.init = Some(init);
                Err(error)
            }
        }
    }

    fn make_cgroup(&mut self, plan: &Plan, slots: &mut Slots) -> Result<Option<OwnedFd>> {
        let Some(cgroup) = self.record.cgroup.as_mut() else { return Ok(None) };
        let applied = cgroups::apply(&plan.cgroup).map_err(|failure| {
            let op = plan.cgroup.get(failure.op);
            let step = op.map(ToString::to_string).unwrap_or_default();
            let error = Error::from(failure.error).within(step);
            match op.and_then(|op| op.hint(&failure.error)) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        cgroup.note_parents(&applied);
        let join = applied.into_join(cgroup)?;
        for (slot, file) in (slot::CGROUP..).zip(join.procs) {
            slots.put(slot, file);
        }
        Ok(join.into)
    }

    fn listen(&self) -> Result<OwnedFd> {
        let listen = || -> std::result::Result<OwnedFd, sys::Error> {
            let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
            let listener = socket(kind.0, kind.1, kind.2, None).during("socket")?;
            let address = UnixAddr::new(&self.entry.path_of(START_SOCKET)).during("bind")?;
            bind(listener.as_raw_fd(), &address).during("bind")?;
            nix::sys::socket::listen(&listener, Backlog::new(1).during("listen")?)
                .during("listen")?;
            Ok(listener)
        };
        listen().within(|| START_SOCKET)
    }

    /// Init waits for its `Go` meanwhile: it ends with us where we do not get to it.
    fn write_down(
        &mut self,
        plan: &Plan,
        bundle: &Bundle,
        request: &CreateRequest,
        init: &Started,
    ) -> Result<()> {
        if let (Some(socket), Some(master)) = (&request.console_socket, &init.master) {
            console::send(socket, master).within(|| format!("--console-socket {socket:?}"))?;
        }
        self.entry.write_plan(&plan.init.encode()?)?;
        self.entry.write_base(&base(plan, bundle)?)?;
        self.record.init = Some(Process::of(init.pid.as_raw())?);
        self.record.stage = Stage::Created;
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
            Some(cgroup) if self.owns_cgroup => {
                cgroup.kill(deadline).and_then(|()| cgroup.remove(deadline))
            }
            _ => Ok(()),
        };
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

fn run_hooks(plan: &Plan, record: &Record, bundle: &Path, pid: Pid) -> Result<()> {
    for (hook, status) in &plan.hooks {
        let id = record.id.as_str();
        let (before, after) = state::for_hook(id, status, bundle, &record.annotations);
        hook.run(&format!("{before}{pid}{after}"), Some(bundle))?;
    }
    Ok(())
}

/// A limit that was too small shows as a killed init.
fn with_oom(error: Error, record: &Record) -> Error {
    let kills = record.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok().flatten());
    match kills {
        Some(count) if count > 0 => error.hint(
            "the kernel killed it for want of memory: linux.resources.memory.limit is too small",
        ),
        _ => error,
    }
}

fn base(plan: &Plan, bundle: &Bundle) -> Result<plan::Base> {
    let spec = &bundle.spec;
    let process = spec.process().clone().ok_or_else(|| Error::new("process: is missing"))?;
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    Ok(plan::Base {
        process,
        personality: linux.and_then(|linux| linux.personality().clone()),
        kinds: plan::kinds(spec),
        setgroups: !plan.id_maps.as_ref().is_some_and(namespaces::IdMaps::denies_groups),
        devices: resources.and_then(|all| all.devices().clone()).unwrap_or_default(),
    })
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
