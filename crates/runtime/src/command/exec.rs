//! `exec`: a further process in a running container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use namespaces::Kind;
use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process as Spec};
use privileges::affinity::Affinity;
use serde_json::Value;
use sys::Slots;

use crate::agent;
use crate::annotations;
use crate::bundle;
use crate::command::undertaking::write_pid_file;
use crate::conversation::misunderstood;
use crate::error::{Error, Result, Within};
use crate::execute::{self, Progress, Start, Started};
use crate::handover;
use crate::host::Host;
use crate::id::Id;
use crate::plan::{self, Base, ProcessOptions};
use crate::process::Process;
use crate::program;
use crate::record::{Record, Root};
use crate::slot;
use crate::state::Status;
use crate::step::InitPlan;

/// What the command line changes of the container's own process.
#[derive(Clone, Debug, Default)]
pub struct ProcessChanges {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<PathBuf>,
    /// `--env`, on top of the configured ones.
    pub env: Vec<String>,
    /// `--tty`
    pub terminal: bool,
    /// `--user`
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`
    pub additional_gids: Vec<u32>,
    /// `--cap`, on top of the configured ones.
    pub capabilities: Vec<String>,
    /// `--process-label`
    pub selinux_label: Option<String>,
    /// `--apparmor`
    pub apparmor_profile: Option<String>,
    /// `--no-new-privs`
    pub no_new_privileges: bool,
}

/// What the command line says.
#[derive(Debug, Default)]
pub struct ExecRequest {
    /// A process specification instead of changes.
    pub process: Option<PathBuf>,
    /// Changes of the container's own process.
    pub changes: ProcessChanges,
    /// Where the terminal's other side is sent.
    pub console_socket: Option<PathBuf>,
    /// Where a handle of the process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Sub-cgroups to run in.
    pub cgroups: Vec<String>,
    /// Run also where the container is paused; it then waits for `resume`.
    pub ignore_paused: bool,
    /// Nobody waits for its end.
    pub detach: bool,
    /// The rest.
    pub options: ProcessOptions,
}

/// A process that was executed.
pub struct Executed {
    /// The process.
    pub started: Started,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Runs a process in a container.
///
/// # Errors
/// The container does not run; what could not be done.
pub fn exec(root: &Root, id: &Id, request: &ExecRequest) -> Result<Executed> {
    let entry = root.get(id)?;
    let record = entry.record()?;
    let (status, mut handle) = Status::look(&record)?;
    if status.living()? == Status::Paused && !request.ignore_paused {
        return Err(Error::new("container is paused"));
    }
    let init = record.init.ok_or_else(|| Error::new("container not running"))?;
    let kept = entry.kept()?;
    let base = kept.base()?;
    let filtered = base.has_filter.then(|| kept.plan()).transpose()?;
    let filter = filtered.as_ref().and_then(InitPlan::filter).unwrap_or_default();
    let mut process = match &request.process {
        Some(path) => {
            let text = bundle::read(path).within(|| path.display().to_string())?;
            bundle::parse_process(&text).within(|| path.display().to_string())?
        }
        None => change(&base.process, &request.changes)?,
    };
    plan::fit_terminal(&mut process, &request.options);
    check_terminal(&process, request)?;
    let host = Host::discover(true)?;
    let kinds = kinds(&base, init)?;
    run_initially_on(&process)?;
    if let Some(group) = &record.resctrl {
        // The process is born where we are: it is never outside.
        group.assign(nix::unistd::getpid().as_raw()).within(|| "linux.intelRdt: tasks")?;
    }
    let mut start = |join: cgroups::Join| -> Result<Started> {
        let mut slots = Slots::default();
        let handle = handle.take().map_or_else(|| init.handle(), |handle| Ok(Some(handle)))?;
        slots.put(slot::PROCESS, handle.ok_or_else(|| Error::new("container not running"))?);
        let legacy_cgroups = u16::try_from(join.procs.len()).unwrap_or(u16::MAX);
        for (slot, file) in (slot::CGROUP..).zip(join.procs) {
            slots.put(slot, file);
        }
        let plan = plan::exec(&plan::ExecInputs {
            id: id.as_str(),
            process: &process,
            base: &base,
            kinds: &kinds,
            init: init.pid,
            seccomp: filter,
            legacy_cgroups,
            host: &host,
            options: &request.options,
        })?;
        let cgroup = join.into.as_ref().map(AsFd::as_fd);
        execute::start(Start {
            plan,
            born: &[],
            id_maps: None,
            moves: Vec::new(),
            cgroup,
            slots,
            file: &|bytes| program::in_memory(&bytes),
        })
    };
    let agent = agent::call(&record)?;
    let mut started = match start(join(&record, init, request)?) {
        // A container that has made cgroups below its own takes no process at the top any more.
        Err(error) if beside_is_better(&error, request) => match &record.cgroup {
            Some(cgroup) => start(cgroup.join_beside(init.pid)?)?,
            None => return Err(error),
        },
        started => started?,
    };
    started.agent = agent;
    started.console.clone_from(&request.console_socket);
    match follow(&mut started, request) {
        Ok(()) => Ok(Executed { started, terminal: process.terminal() == Some(true) }),
        Err(error) => {
            started.kill();
            Err(error)
        }
    }
}

/// `process.execCPUAffinity.initial` is for the runtime's process, and inherited by the one that it
/// makes in the container's cgroup.
fn run_initially_on(process: &Spec) -> Result<()> {
    let Some(op) = Affinity::of(process)?.before else { return Ok(()) };
    privileges::apply(std::slice::from_ref(&op))
        .map_err(|failure| Error::from(failure.error).within(op.to_string()))
}

fn join(record: &Record, init: Process, request: &ExecRequest) -> Result<cgroups::Join> {
    let beside = request.cgroups.is_empty() && annotations::delegates(&record.annotations);
    match &record.cgroup {
        Some(cgroup) if beside => Ok(cgroup.join_beside(init.pid)?),
        Some(cgroup) => Ok(cgroup.join(&request.cgroups).within(|| "exec --cgroup")?),
        None => Ok(cgroups::Join::default()),
    }
}

fn beside_is_better(error: &Error, request: &ExecRequest) -> bool {
    let busy = format!("clone3: {}", sys::words(Errno::EBUSY));
    request.cgroups.is_empty() && error.message().ends_with(&busy)
}

fn follow(started: &mut Started, request: &ExecRequest) -> Result<()> {
    match started.listen(&|_| Ok(()))? {
        Progress::Executed => {}
        Progress::Created => return Err(misunderstood()),
    }
    if let Some(socket) = &request.pidfd_socket {
        handover::process(socket, &started.pidfd)?;
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
        (false, Some(_)) => {
            Err(Error::new("--console-socket: is given, but process.terminal is not set"))
        }
        _ => Ok(()),
    }
}

/// The kinds in which the container really differs: a user namespace cannot be joined twice.
pub(super) fn kinds(base: &Base, init: Process) -> Result<Vec<Kind>> {
    let inode = |pid: &str| {
        nix::sys::stat::stat(format!("/proc/{pid}/ns/user").as_str())
            .map(|stat| stat.st_ino)
            .map_err(|errno| Error::from(sys::Error::new("stat", errno)).within("user namespace"))
    };
    let mut kinds = base.kinds.clone();
    if kinds.contains(&Kind::User) && inode("self")? == inode(&init.pid.to_string())? {
        kinds.retain(|kind| *kind != Kind::User);
    }
    Ok(kinds)
}

/// The container's own process with the changes of the command line.
fn change(base: &Spec, changes: &ProcessChanges) -> Result<Spec> {
    let mut process = base.clone();
    process.set_args(Some(changes.args.clone()));
    process.set_terminal(Some(changes.terminal));
    process.set_console_size(None);
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(changes.env.iter().cloned());
    process.set_env(Some(env));
    if changes.selinux_label.is_some() {
        process.set_selinux_label(changes.selinux_label.clone());
    }
    if changes.apparmor_profile.is_some() {
        process.set_apparmor_profile(changes.apparmor_profile.clone());
    }
    if changes.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    change_user(&mut process, changes)?;
    add_capabilities(&mut process, &changes.capabilities)?;
    Ok(process)
}

fn change_user(process: &mut Spec, changes: &ProcessChanges) -> Result<()> {
    if changes.user.is_none() && changes.additional_gids.is_empty() {
        return Ok(());
    }
    // The library has no way to change a user in place: as JSON it is a handful of fields.
    let failed = |error: serde_json::Error| Error::new(error.to_string());
    let mut user = serde_json::to_value(process.user()).map_err(failed)?;
    let fields = user.as_object_mut().ok_or_else(|| Error::new("process.user: not an object"))?;
    if let Some((uid, gid)) = changes.user {
        fields.insert("uid".to_owned(), Value::from(uid));
        fields.extend(gid.map(|gid| ("gid".to_owned(), Value::from(gid))));
    }
    if !changes.additional_gids.is_empty() {
        let groups = Value::from(changes.additional_gids.clone());
        fields.insert("additionalGids".to_owned(), groups);
    }
    process.set_user(serde_json::from_value(user).map_err(failed)?);
    Ok(())
}

/// As runc: what is added can be used, and is no gift to the programs that it executes.
fn add_capabilities(process: &mut Spec, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Capabilities::new();
    for name in names {
        let full = name.to_ascii_uppercase();
        let full = if full.starts_with("CAP_") { full } else { format!("CAP_{full}") };
        let capability: Capability = serde_json::from_value(Value::from(full))
            .map_err(|_| Error::new(format!("--cap: unknown capability {name:?}")))?;
        added.insert(capability);
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
    let with = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().chain(&added).copied().collect::<Capabilities>())
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_permitted(with(sets.permitted()));
    sets.set_effective(with(sets.effective()));
    process.set_capabilities(Some(sets));
    Ok(())
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None);
    none.set_permitted(None);
    none.set_effective(None);
    none.set_inheritable(None);
    none.set_ambient(None);
    none
}
