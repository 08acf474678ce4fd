//! `create`, and the first part of `run`.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::SystemTime;

use davit_sys::Slots;
use davit_sys::trace::operation;

use super::build::ContainerBuilder;
use super::oom_hint::with_oom_hint;
use super::request::CreateRequest;
use crate::config::bundle::Bundle;
use crate::config::normalize::{self, Normalized, normalize};
use crate::config::parse;
use crate::error::{Error, Result, Within};
use crate::host::{Discovered, Host};
use crate::id::Id;
use crate::log::warn;
use crate::notify::Proxy;
use crate::plan::{self, CgroupManager, Plan};
use crate::rfc3339;
use crate::spawn::{NoEvents, Started};
use crate::state::{ContainerDir, Record, STATE_FORMAT, Stage, StateRoot};

/// A created container. Its init waits, or has become the user's program already (`run`).
pub struct Created {
    /// Its init.
    pub init: Started,
    /// Its directory.
    pub dir: ContainerDir,
    /// Its record.
    pub record: Record,
    /// The state root of this user.
    pub root: StateRoot,
    /// Forwards its readiness notification, until that has come.
    pub proxy: Option<Proxy>,
}

/// Creates a container.
///
/// # Errors
/// The first step that failed; everything before it is rolled back.
pub fn create(root: StateRoot, id: &Id, request: &CreateRequest) -> Result<Created> {
    let load = || Bundle::load(&request.bundle, request.config.as_deref());
    let mut bundle = operation("config", &"read config.json", load)?;
    std::mem::take(&mut bundle.warnings).into_iter().for_each(warn);
    let plan = || plan_here(id, &mut bundle, request, root.notify_directory(id));
    let Planned { plan, slots, uid, notifies } = operation("plan", &"plan", plan)?;
    plan.warnings.iter().cloned().for_each(warn);
    check_terminal(&bundle, request)?;
    let later = exec_config(&plan, &mut bundle)?.encode(&plan.init.filter)?;
    let dir = root.create(id)?;
    let record = record(id, &bundle, uid, &plan)?;
    let builder = ContainerBuilder::new(plan, request, record, dir, notifies);
    let (init, record, dir) = builder.build(&later, slots, &root)?;
    Ok(Created { init, dir, record, root, proxy: None })
}

/// A plan for this host.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The namespaces that it joins, open.
    pub(super) slots: Slots,
    /// The uid of the container's owner.
    pub(super) uid: u32,
    /// Whether the container has a notify socket.
    pub(super) notifies: bool,
}

/// Discovers what the plan of this bundle must know of the host, and plans.
pub(super) fn plan_here(
    id: &Id,
    bundle: &mut Bundle,
    request: &CreateRequest,
    notify_directory: PathBuf,
) -> Result<Planned> {
    let options = &request.options;
    let host = Host::discover(options.cgroup_manager != CgroupManager::Disabled)?;
    let context = normalize::Context {
        host: &host,
        options: &options.process,
        notify_directory: request.notify.is_some().then_some(notify_directory),
    };
    let Normalized { notifies, warnings } = normalize(&mut bundle.spec, context);
    let cgroups = host.cgroups(&plan::cgroup_request(id, &bundle.spec), options)?;
    let mut slots = Slots::default();
    let found = Discovered::look(&bundle.spec, &mut slots)?;
    let mut plan = plan::create(plan::Inputs {
        id,
        bundle,
        host: &host,
        cgroups: &cgroups,
        found,
        options,
        hands_out: request.hands_out(),
    })?;
    plan.warnings.extend(warnings);
    Ok(Planned { plan, slots, uid: host.uid, notifies })
}

pub(super) fn record(id: &Id, bundle: &Bundle, owner: u32, plan: &Plan) -> Result<Record> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let cgroup = davit_cgroups::Cgroup::planned(&plan.cgroup);
    let mounts_before = match plan.shares_mounts {
        true => Some(davit_rootfs::mounts_below(&plan.rootfs).within(|| "/proc/self/mountinfo")?),
        false => None,
    };
    Ok(Record {
        format: STATE_FORMAT,
        davit: Record::WRITER.to_owned(),
        id: id.clone(),
        bundle: bundle.directory.clone(),
        rootfs: plan.rootfs.clone(),
        created: rfc3339::rfc3339(now),
        owner,
        stage: Stage::Creating,
        init: None,
        cgroup: (!cgroup.is_empty()).then_some(cgroup),
        resctrl: plan.resctrl.as_ref().map(|(group, _)| group.clone()),
        own_pid_namespace: plan.own_pid_namespace,
        mounts_before,
        annotations: plan.annotations.clone(),
        listener: plan.listener.clone(),
        inner_hooks: plan.supervision.hooks,
        poststart: plan.poststart.clone(),
        poststop: plan.poststop.clone(),
        restoring: false,
    })
}

/// The configuration that `exec` will need. Takes the process out of the bundle, which needs it no
/// more: its environment may be large.
pub(super) fn exec_config(plan: &Plan, bundle: &mut Bundle) -> Result<plan::ExecConfig> {
    let spec = &mut bundle.spec;
    let process = spec.process_mut().take().map_or_else(parse::no_process, Ok)?;
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    Ok(plan::ExecConfig {
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
        filters: Vec::new(),
    })
}

pub(super) fn check_terminal(bundle: &Bundle, request: &CreateRequest) -> Result<()> {
    let terminal = bundle.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal);
    match (terminal == Some(true), &request.console_socket) {
        (true, None) if request.detached => {
            Err(Error::new("process.terminal: is set, but there is no --console-socket for it")
                .hint("set process.terminal to false, or use davit run without --detach"))
        }
        (true, None) => require_terminal(),
        (false, Some(_)) => {
            Err(Error::new("--console-socket: is given, but process.terminal is not set"))
        }
        _ => Ok(()),
    }
}

/// The terminal of the container is copied to and from that of the caller: without one, the program
/// could neither be seen nor stopped.
///
/// # Errors
/// None of the standard streams is a terminal.
pub(super) fn require_terminal() -> Result<()> {
    let terminals = [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()];
    match terminals.contains(&true) {
        true => Ok(()),
        false => Err(Error::new(
            "process.terminal: is set, but none of standard input, output and error is a terminal",
        )
        .hint("set process.terminal to false, or give a --console-socket")),
    }
}

/// The second half of `run`: starts the program of a created container. With `--detach`, it waits
/// here for the readiness notification.
///
/// # Errors
/// The program cannot be executed, or a hook failed: the container is then deleted again.
pub fn start_at_once(mut created: Created, request: &CreateRequest) -> Result<Created> {
    let go = |created: &mut Created| -> Result<()> {
        if let Some(manager) = &request.notify {
            created.proxy = Proxy::open(&created.dir, manager)?;
        }
        created.init.go()?;
        created.init.listen(&NoEvents).map(drop)
    };
    let begin = |created: &mut Created| -> Result<()> {
        if !created.init.has_executed() {
            go(created)?;
        }
        super::start::poststart(&created.record)?;
        if let Some(proxy) = created.proxy.take_if(|_| request.detached) {
            proxy.wait(created.init.pidfd.as_fd(), created.init.pid.as_raw());
        }
        Ok(())
    };
    match begin(&mut created) {
        Ok(()) => Ok(created),
        Err(error) => {
            let error = with_oom_hint(error, &created.record);
            created.init.kill();
            let id = created.dir.id().clone();
            Err(error.after_cleanup(super::delete(&created.root, &id, true)))
        }
    }
}
