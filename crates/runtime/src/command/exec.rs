//! `exec`: runs a process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use davit_namespaces::Kind;
use davit_privileges::affinity::Affinity;
use davit_sys::Slots;
use nix::errno::Errno;
use oci_spec::runtime::Process as Spec;

use crate::agent::Agent;
use crate::command::build::write_pid_file;
use crate::config::annotations;
use crate::config::normalize::normalize_process;
use crate::config::process::{ProcessChanges, change};
use crate::config::{input, parse};
use crate::error::{Error, ErrorKind, Result, Within};
use crate::host::Host;
use crate::id::Id;
use crate::log::warn;
use crate::plan::{self, CgroupEntry, ExecConfig, ProcessOptions};
use crate::slot;
use crate::spawn::channel::protocol_error;
use crate::spawn::self_exe;
use crate::spawn::send_fd;
use crate::spawn::{self, NoEvents, Progress, Start, Started};
use crate::state::{Process, Record, StateRoot, Status};

/// The command line.
#[derive(Debug, Default)]
pub struct ExecRequest {
    /// A process specification instead of changes.
    pub process: Option<PathBuf>,
    /// Changes of the container's own process.
    pub changes: ProcessChanges,
    /// The socket that receives the pty master.
    pub console_socket: Option<PathBuf>,
    /// The socket that receives the pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// The file that gets the pid.
    pub pid_file: Option<PathBuf>,
    /// Sub-cgroups to run in.
    pub cgroups: Vec<String>,
    /// Run even if the container is paused; the process then waits for `resume`.
    pub ignore_paused: bool,
    /// The command does not wait for the end of the process.
    pub detach: bool,
    /// The rest.
    pub options: ProcessOptions,
}

/// A process that runs its program.
pub struct Executed {
    /// The process.
    pub started: Started,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Runs a process in a running container.
///
/// # Errors
/// The container does not run; the first step that failed.
pub fn exec(root: &StateRoot, id: &Id, request: &ExecRequest) -> Result<Executed> {
    let dir = root.get(id)?;
    let record = dir.record()?;
    let (status, pidfd) = Status::look(&record)?;
    if status.living()? == Status::Paused && !request.ignore_paused {
        return Err(Error::new("container is paused"));
    }
    let init = record.init.filter(Process::has_its_start_time);
    let init = init.ok_or_else(Error::not_running)?;
    let plan_file = dir.plan_file()?;
    let config = ExecConfig::read(&plan_file)?;
    let filter = config.filters(&plan_file)?;
    let process = process(&config, request)?;
    check_terminal(&process, request)?;
    let host = Host::discover(true)?;
    let kinds = kinds(&config, init)?;
    run_initially_on(&process)?;
    if let Some(group) = &record.resctrl {
        // The process is created in the runtime's group: it is never outside.
        group.assign(nix::unistd::getpid().as_raw()).within(|| "linux.intelRdt: tasks")?;
    }
    let warnings = Vec::new();
    let mut exec = Exec { record, init, config, filter, process, host, kinds, request, warnings };
    let executed = exec.run(pidfd);
    exec.warnings.into_iter().for_each(warn);
    executed
}

/// The process to run: that of `--process`, or the container's own with the changes of the command
/// line.
fn process(config: &ExecConfig, request: &ExecRequest) -> Result<Spec> {
    let mut process = match &request.process {
        Some(path) => {
            let text = input::read(path).within(|| path.display().to_string())?;
            let (process, warnings) =
                parse::process(&text).within(|| path.display().to_string())?;
            warnings.into_iter().for_each(warn);
            process
        }
        None => change(&config.process, &request.changes)?,
    };
    normalize_process(&mut process, &request.options);
    Ok(process)
}

/// A process that is to be run in a running container.
struct Exec<'a> {
    record: Record,
    init: Process,
    config: ExecConfig,
    filter: Vec<davit_seccomp::Op>,
    process: Spec,
    host: Host,
    kinds: Vec<Kind>,
    request: &'a ExecRequest,
    /// The warnings of the plan.
    warnings: Vec<String>,
}

impl Exec<'_> {
    /// Runs it; `pidfd` is that of the container's init.
    fn run(&mut self, pidfd: Option<OwnedFd>) -> Result<Executed> {
        let own_cgroup = self.request.cgroups.is_empty();
        let first = join(&self.record, self.init, self.request)?;
        match (self.attempt(first, false, pidfd), &self.record.cgroup) {
            // The cgroup of a container that has made cgroups below it accepts no process any more.
            (Err(error), Some(cgroup)) if error.is_os(Errno::EBUSY) && own_cgroup => {
                let join = cgroup.join_next_to(self.init.pid)?;
                self.attempt(join, false, None)
            }
            // At the limit of the pids controller no process can be created inside.
            (Err(error), Some(_)) if error.is_os(Errno::EAGAIN) => {
                let join = join(&self.record, self.init, self.request)?;
                self.attempt(join, true, None)
            }
            (executed, _) => executed,
        }
    }

    fn attempt(
        &mut self,
        join: davit_cgroups::JoinFds,
        moved: bool,
        pidfd: Option<OwnedFd>,
    ) -> Result<Executed> {
        let agent = Agent::connect(&self.record)?;
        let mut started = self.start(join, moved, pidfd)?;
        started.agent = agent;
        started.console.clone_from(&self.request.console_socket);
        match follow(&mut started, self.request) {
            Ok(()) => Ok(Executed { started, terminal: self.process.terminal() == Some(true) }),
            Err(error) => {
                started.kill();
                let hint = container_ended(self.init, &error);
                Err(error.hinted(hint))
            }
        }
    }

    /// Starts the process in the container's cgroup, or outside it to be moved into it later.
    fn start(
        &mut self,
        join: davit_cgroups::JoinFds,
        moved: bool,
        pidfd: Option<OwnedFd>,
    ) -> Result<Started> {
        let mut slots = Slots::default();
        let pidfd = pidfd.map_or_else(|| self.init.pidfd(), |pidfd| Ok(Some(pidfd)))?;
        slots.put(slot::PROCESS, pidfd.ok_or_else(Error::not_running)?);
        let (join, late_cgroup) =
            if moved { (davit_cgroups::JoinFds::default(), Some(join)) } else { (join, None) };
        let files = u16::try_from(join.procs.len()).map_err(|_| Error::new("too many cgroups"))?;
        for (slot, file) in (slot::CGROUP..).zip(join.procs) {
            slots.put(slot, file);
        }
        let plan = plan::exec(&plan::ExecInputs {
            id: self.record.id.as_str(),
            process: &self.process,
            config: &self.config,
            kinds: &self.kinds,
            init: self.init.pid,
            seccomp: &self.filter,
            entry: if moved { CgroupEntry::Moved } else { CgroupEntry::Made { files } },
            host: &self.host,
            options: &self.request.options,
        })?;
        self.warnings = plan.warnings;
        spawn::start(Start {
            plan: Rc::new(plan.init),
            supervision: plan.supervision,
            is_further: true,
            clone_namespaces: &[],
            id_maps: None,
            moves: Vec::new(),
            cgroup: join.into.as_ref().map(AsFd::as_fd),
            late_cgroup,
            slots,
            file: &|bytes| self_exe::in_memory(&bytes),
        })
    }
}

/// The processes of a container end with it, a little earlier than its init (pid_namespaces(7)): a
/// process may end without a report because the container has ended.
fn container_ended(init: Process, error: &Error) -> Option<&'static str> {
    let timeout = match error.kind() {
        ErrorKind::Ended => Duration::from_secs(1),
        _ => Duration::ZERO,
    };
    init.wait_for_end(timeout).unwrap_or(false).then_some("the container has ended meanwhile")
}

/// `process.execCPUAffinity.initial` is set for the runtime's process, and inherited by the process
/// that it creates in the container's cgroup.
fn run_initially_on(process: &Spec) -> Result<()> {
    let Some(op) = Affinity::of(process)?.before else { return Ok(()) };
    davit_privileges::apply(std::slice::from_ref(&op))
        .map_err(|failure| Error::from(failure.error).within(op.to_string()))
}

fn join(record: &Record, init: Process, request: &ExecRequest) -> Result<davit_cgroups::JoinFds> {
    let beside = request.cgroups.is_empty() && annotations::delegates(&record.annotations);
    match &record.cgroup {
        Some(cgroup) if beside => Ok(cgroup.join_next_to(init.pid)?),
        Some(cgroup) if request.cgroups.is_empty() => Ok(cgroup.join(&[])?),
        Some(cgroup) => Ok(cgroup.join(&request.cgroups).within(|| "exec --cgroup")?),
        None => Ok(davit_cgroups::JoinFds::default()),
    }
}

fn follow(started: &mut Started, request: &ExecRequest) -> Result<()> {
    match started.listen(&NoEvents)? {
        Progress::Executed => {}
        Progress::Created => return Err(protocol_error()),
    }
    if let Some(socket) = &request.pidfd_socket {
        send_fd::send_pidfd(socket, &started.pidfd)?;
    }
    match &request.pid_file {
        Some(path) => write_pid_file(path, started.pid.as_raw()),
        None => Ok(()),
    }
}

fn check_terminal(process: &Spec, request: &ExecRequest) -> Result<()> {
    match (process.terminal() == Some(true), &request.console_socket) {
        (true, None) if request.detach => {
            Err(Error::new("process.terminal: is set, but there is no --console-socket for it"))
        }
        (true, None) => super::create::require_terminal(),
        (false, Some(_)) => {
            Err(Error::new("--console-socket: is given, but process.terminal is not set"))
        }
        _ => Ok(()),
    }
}

/// The kinds of namespaces in which the container differs: a user namespace cannot be joined twice.
pub(super) fn kinds(base: &ExecConfig, init: Process) -> Result<Vec<Kind>> {
    let inode = |pid: &str| {
        nix::sys::stat::stat(format!("/proc/{pid}/ns/user").as_str())
            .map(|stat| stat.st_ino)
            .map_err(|errno| {
                Error::from(davit_sys::Error::new("stat", errno)).within("user namespace")
            })
    };
    let mut kinds = base.kinds.clone();
    if kinds.contains(&Kind::User) && inode("self")? == inode(&init.pid.to_string())? {
        kinds.retain(|kind| *kind != Kind::User);
    }
    Ok(kinds)
}
