//! `create`, and the first part of `run`.

use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::SystemTime;

use sys::Slots;

use super::undertaking::Undertaking;
use super::want_of_memory::with_want_of_memory;
use crate::agent;
use crate::bundle::Bundle;
use crate::error::{Error, Result, Within};
use crate::execute::Started;
use crate::host::{Found, Host};
use crate::id::Id;
use crate::notify::{self, Manager, Proxy};
use crate::own_user_namespace;
use crate::plan::{self, CgroupManager, CreateOptions, Plan};
use crate::record::{Entry, Record, Root, Stage, VERSION};
use crate::state;

/// What the command line says.
#[derive(Debug, Default)]
pub struct CreateRequest {
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Its config.json, where it has another name.
    pub config: Option<PathBuf>,
    /// Where the terminal's other side is sent.
    pub console_socket: Option<PathBuf>,
    /// Where a handle of init is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Where init's pid is written.
    pub pid_file: Option<PathBuf>,
    /// Who waits for the container to be ready.
    pub notify: Option<Manager>,
    /// The command ends before the container does: nobody is there to look after a terminal.
    pub nobody_waits: bool,
    /// The rest.
    pub options: CreateOptions,
}

/// A created container, whose init waits, or (with `start_at_once`) may be the user's program already.
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
    /// The way for its word that it is ready, until that has come.
    pub proxy: Option<Proxy>,
}

/// Creates a container.
///
/// # Errors
/// What could not be done; then nothing of it is left.
pub fn create(root: Root, id: &Id, request: &CreateRequest) -> Result<Created> {
    // These have hundreds of pieces, and the process ends soon: none is given back.
    let mut bundle = ManuallyDrop::new(Bundle::load(&request.bundle, request.config.as_deref())?);
    if let Some(process) = bundle.spec.process_mut() {
        plan::fit_terminal(process, &request.options.process);
    }
    let notifies = match request.notify {
        Some(_) => notify::prepare(&mut bundle.spec, &root, id)?,
        None => false,
    };
    check_descriptors(&request.options)?;
    let Planned { plan, slots, uid } = plan_here(id, &mut bundle, &request.options)?;
    let mut plan = ManuallyDrop::new(plan);
    check_terminal(&bundle, request)?;
    let base = base(&plan, &mut bundle)?.encode()?;
    let entry = root.create(id)?;
    let record = record(id, &bundle, uid, &plan)?;
    let undertaking = Undertaking::new(record, entry, notifies);
    let (init, record, entry) = undertaking.carry_out(&mut plan, &base, request, slots, &root)?;
    let warnings = std::mem::take(&mut plan.warnings);
    Ok(Created { init, entry, record, root, warnings, proxy: None })
}

/// A plan for this machine.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The namespaces that it joins, open.
    slots: Slots,
    /// Whose container it will be.
    uid: u32,
}

/// Looks at this machine as far as the bundle asks for it, and plans.
pub(super) fn plan_here(id: &Id, bundle: &mut Bundle, options: &CreateOptions) -> Result<Planned> {
    let host = Host::discover(options.cgroup_manager != CgroupManager::Disabled)?;
    own_user_namespace::complete(&mut bundle.spec, &host);
    let cgroups = host.cgroups(&plan::cgroup_request(id, &bundle.spec), options)?;
    let mut slots = Slots::default();
    let found = Found::look(&bundle.spec, &mut slots)?;
    let plan =
        plan::create(plan::Inputs { id, bundle, host: &host, cgroups: &cgroups, found, options })?;
    Ok(Planned { plan, slots, uid: host.uid })
}

fn record(id: &Id, bundle: &Bundle, owner: u32, plan: &Plan) -> Result<Record> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let cgroup = cgroups::Cgroup::planned(&plan.cgroup);
    let mounts_before = match plan.shares_mounts {
        true => Some(rootfs::mounts_below(&plan.rootfs).within(|| "/proc/self/mountinfo")?),
        false => None,
    };
    Ok(Record {
        version: VERSION,
        id: id.clone(),
        bundle: bundle.directory.clone(),
        rootfs: plan.rootfs.clone(),
        created: state::rfc3339(now),
        owner,
        stage: Stage::Creating,
        init: None,
        cgroup: (!cgroup.is_empty()).then_some(cgroup),
        resctrl: plan.resctrl.as_ref().map(|(group, _)| group.clone()),
        own_pid_namespace: plan.own_pid_namespace,
        mounts_before,
        annotations: plan.annotations.clone(),
        listener: plan.listener.clone(),
        inner_hooks: plan.init.hooks(),
        poststart: plan.poststart.clone(),
        poststop: plan.poststop.clone(),
    })
}

/// What `exec` will need. Takes the process out of the bundle: with the plan it has done its part, and its environment
/// may be large.
fn base(plan: &Plan, bundle: &mut Bundle) -> Result<plan::Base> {
    let spec = &mut bundle.spec;
    let process = spec.process_mut().take().ok_or_else(|| Error::new("process: is missing"))?;
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    Ok(plan::Base {
        process,
        personality: linux.and_then(|linux| linux.personality().clone()),
        memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
        kinds: plan::kinds(spec),
        setgroups: plan.setgroups,
        keep_groups: plan.keep_groups,
        mount_label: linux
            .and_then(|linux| linux.mount_label().clone())
            .filter(|label| !label.is_empty()),
        devices: resources.and_then(|all| all.devices().clone()).unwrap_or_default(),
        has_filter: plan.init.filter().is_some(),
    })
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
            Err(Error::new("process.terminal: is set, but there is no --console-socket for it")
                .hint("set process.terminal to false, or use davit run without --detach"))
        }
        (false, Some(_)) => {
            Err(Error::new("--console-socket: is given, but process.terminal is not set"))
        }
        _ => Ok(()),
    }
}

/// The second half of `run`: lets the program of a created container begin. Where nobody stays to
/// wait for it, its word that it is ready is waited for here.
///
/// # Errors
/// It cannot be executed, or a hook failed: then the container is deleted again.
pub fn start_at_once(mut created: Created, request: &CreateRequest) -> Result<Created> {
    let go = |created: &mut Created| -> Result<()> {
        if let Some(manager) = &request.notify {
            created.proxy = Proxy::open(&created.entry, manager)?;
        }
        created.init.agent = agent::call(&created.record)?;
        created.init.go()?;
        created.init.listen(&|_| Ok(())).map(drop)
    };
    let begin = |created: &mut Created| -> Result<()> {
        if !created.init.has_executed() {
            go(created)?;
        }
        super::start::after_start(&created.record)?;
        match created.proxy.take_if(|_| request.nobody_waits) {
            Some(proxy) => proxy.wait(created.init.pidfd.as_fd(), created.init.pid.as_raw()),
            None => Ok(()),
        }
    };
    match begin(&mut created) {
        Ok(()) => Ok(created),
        Err(error) => {
            let error = with_want_of_memory(error, &created.record);
            created.init.kill();
            let id = created.entry.id().clone();
            match super::delete(&created.root, &id, true) {
                Ok(_) => Err(error),
                Err(left) => Err(error.hint(format!("left behind: {left}"))),
            }
        }
    }
}
