//! Bundle, host and command line -> the plan of a new container.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use namespaces::{Joined, Kind};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use privileges::capability;
use sys::During;

use super::program::{self, Confinement, sections};
use super::{CgroupManager, CreateOptions, Plan};
use crate::bundle::Bundle;
use crate::error::{Error, Result, Within};
use crate::hook::{self, Moment};
use crate::host::{Host, OurCgroups};
use crate::id::Id;
use crate::state::{self, WAITING_NAME};
use crate::step::{InitPlan, Op, Section};
use crate::{check, slot};

/// All that a plan is made from.
pub struct Inputs<'a> {
    /// The container's id.
    pub id: &'a Id,
    /// What is asked for.
    pub bundle: &'a Bundle,
    /// What this machine and user can do.
    pub host: &'a Host,
    /// The cgroups of this machine.
    pub cgroups: &'a cgroups::Host,
    /// The namespaces given by path, opened.
    pub joined: Vec<Joined>,
    /// What the command line says.
    pub options: &'a CreateOptions,
}

/// Plans a new container.
///
/// # Errors
/// The first field that cannot be applied.
pub fn create(inputs: Inputs<'_>) -> Result<Plan> {
    let Inputs { id, bundle, host, cgroups, joined, options } = inputs;
    let spec = &bundle.spec;
    check::check(spec)?;
    let Some(process) = spec.process() else { return Err(Error::new("process: is missing")) };
    let cgroup = cgroup_ops(id, spec, cgroups, options)?;
    let namespaces =
        namespaces::plan(spec, &namespaces::Host { joined, map_writer: host.map_writer(spec) })?;
    if let Some(maps) = &namespaces.id_maps {
        require_mapped(process.user(), maps)?;
    }
    let new_user_namespace = namespaces.id_maps.is_some();
    let user_namespace = has(spec, LinuxNamespaceType::User);
    let rootfs_host = rootfs_host(bundle, host, cgroups, &cgroup, options, user_namespace)?;
    let mut rootfs_ops = rootfs::plan(spec, &rootfs_host)?;
    let outside = take_outside(spec, &rootfs_host, &mut rootfs_ops);

    let annotations: BTreeMap<_, _> =
        spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let told = |moment: Moment| {
        state::for_hook(id.as_str(), moment.status(), &bundle.directory, &annotations)
    };
    let grantable = match user_namespace {
        true => capability::ALL,
        false => host.permitted,
    };
    let own_id_only = namespaces.id_maps.as_ref().is_some_and(namespaces::IdMaps::denies_groups);
    let confinement = Confinement {
        process,
        personality: spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()),
        seccomp: seccomp_ops(spec)?,
        privileges: privileges::Host {
            grantable,
            setgroups: (host.setgroups || new_user_namespace) && !own_id_only,
            keyring: (!options.process.no_new_keyring).then(|| format!("_ses.{id}")),
        },
        options: &options.process,
    };
    let (last, mut warnings) = sections(confinement)?;
    warnings.splice(0..0, bundle.warnings.iter().cloned());

    let before_root: Vec<_> = runtime_hooks(spec)?;
    let [outside_left, build, enter] = rootfs::phases(&rootfs_ops).map(<[_]>::to_vec);
    let mut list = vec![Section::Namespaces(launch(process, &cgroup, namespaces.launch))];
    list.push(Section::Process(vec![
        stage(c"davit:ns"),
        Op::DieWithRuntime,
        Op::DefaultSignals(host.ignored_signals),
    ]));
    list.push(Section::Namespaces(namespaces.enter));
    // After a second process was made the first one's death signal is not its.
    list.push(Section::Process(vec![stage(c"davit:root"), Op::DieWithRuntime]));
    list.push(Section::Namespaces(namespaces.configure));
    list.push(Section::Rootfs(outside_left.into_iter().chain(build).collect()));
    let terminal = process.terminal() == Some(true);
    let middle = middle(spec, &told, terminal, !before_root.is_empty())?;
    list.push(Section::Process(middle));
    list.push(Section::Rootfs(enter));
    let mut waiting = waiting(spec, &told, options.start_at_once)?;
    waiting.insert(0, program::find(process, &options.process)?);
    list.push(Section::Process(waiting));
    list.extend(last);
    Ok(Plan {
        init: InitPlan {
            sections: list,
            channel: -1,
            slots: Vec::new(),
            preserved: options.process.preserved(),
        },
        born: namespaces.born,
        id_maps: namespaces.id_maps,
        cgroup,
        outside,
        raise: raise(process, user_namespace)?,
        hooks: before_root,
        poststart: hook::plan(spec, Moment::Poststart)?,
        poststop: hook::plan(spec, Moment::Poststop)?,
        rootfs: root_path(bundle),
        annotations,
        own_pid_namespace: is_new(spec, LinuxNamespaceType::Pid),
        warnings,
    })
}

fn stage(name: &std::ffi::CStr) -> Op {
    Op::Stage(name.to_owned())
}

/// What is done before init executes: in the cgroup from the start, and while /proc/self is still
/// the runtime's to write.
fn launch(
    process: &oci_spec::runtime::Process,
    cgroup: &[cgroups::Op],
    namespaces: Vec<namespaces::Op>,
) -> Vec<namespaces::Op> {
    let legacy = cgroup.iter().filter(
        |op| matches!(op, cgroups::Op::Make { controllers, .. } if !controllers.is_empty()),
    );
    let mut ops: Vec<_> = (slot::CGROUP..)
        .zip(legacy)
        .map(|(slot, _)| namespaces::Op::EnterCgroup { slot })
        .collect();
    ops.extend(process.oom_score_adj().map(namespaces::Op::OomScoreAdj));
    ops.extend(namespaces);
    ops
}

/// Between the tree of mounts and the change of root.
fn middle(
    spec: &Spec,
    told: &dyn Fn(Moment) -> (String, String),
    terminal: bool,
    runtime_hooks: bool,
) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    if terminal {
        ops.push(Op::SendConsole { slot: slot::MASTER });
    }
    if runtime_hooks {
        ops.push(Op::RuntimeHooks);
    }
    ops.extend(inner_hooks(spec, Moment::CreateContainer, told)?);
    Ok(ops)
}

/// From the report that the container is created to the user's last hook.
fn waiting(
    spec: &Spec,
    told: &dyn Fn(Moment) -> (String, String),
    start_at_once: bool,
) -> Result<Vec<Op>> {
    let name = CString::new(WAITING_NAME).map_err(|_| Error::new("name of init"))?;
    let mut ops = vec![Op::Stage(name), Op::Created];
    if !start_at_once {
        ops.push(Op::AwaitStart { slot: slot::START });
    }
    ops.push(stage(c"davit:start"));
    ops.extend(inner_hooks(spec, Moment::StartContainer, told)?);
    Ok(ops)
}

fn inner_hooks(
    spec: &Spec,
    moment: Moment,
    told: &dyn Fn(Moment) -> (String, String),
) -> Result<Vec<Op>> {
    let hooks = hook::plan(spec, moment)?;
    let run = |hook| {
        let (state_before_pid, state_after_pid) = told(moment);
        Op::Hook { hook, state_before_pid, state_after_pid }
    };
    Ok(hooks.into_iter().map(run).collect())
}

fn runtime_hooks(spec: &Spec) -> Result<Vec<(hook::Hook, &'static str)>> {
    let mut hooks = Vec::new();
    for moment in [Moment::Prestart, Moment::CreateRuntime] {
        let list = hook::plan(spec, moment)?;
        hooks.extend(list.into_iter().map(|hook| (hook, moment.status())));
    }
    Ok(hooks)
}

fn cgroup_ops(
    id: &Id,
    spec: &Spec,
    host: &cgroups::Host,
    options: &CreateOptions,
) -> Result<Vec<cgroups::Op>> {
    let request = cgroup_request(id, spec);
    if options.cgroup_manager == CgroupManager::Disabled {
        return refuse_limits(&request, host).map(|()| Vec::new());
    }
    Ok(cgroups::plan(&request, host)?)
}

/// A limit that nobody would enforce is refused. Rules for devices are not limits: engines write
/// them always, and the nodes that are there say who may do what.
fn refuse_limits(request: &cgroups::Request<'_>, host: &cgroups::Host) -> Result<()> {
    let limits = cgroups::plan_resources(request.resources, Path::new(""), &host.layout)?;
    let field = limits.iter().find_map(|op| match op {
        cgroups::Op::Write { field, .. } => Some(field.to_string()),
        _ => None,
    });
    match field {
        Some(field) => Err(Error::new(format!("{field}: cgroups are disabled (--cgroup-manager)"))),
        None => Ok(()),
    }
}

/// What config.json asks of the container's cgroup.
#[must_use]
pub fn cgroup_request<'a>(id: &'a Id, spec: &'a Spec) -> cgroups::Request<'a> {
    let linux = spec.linux().as_ref();
    cgroups::Request {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        id: id.as_str(),
        owner: owner(spec),
    }
}

/// Who gets the cgroup (config-linux.md, "Cgroup ownership"): the container's user, where it sees
/// its cgroup as the top of a tree that it may write to.
fn owner(spec: &Spec) -> Option<u32> {
    let read_only = |option: &String| option == "ro" || option == "rro";
    let writable = spec.mounts().iter().flatten().any(|mount| {
        mount.typ().as_deref() == Some("cgroup") && !mount.options().iter().flatten().any(read_only)
    });
    if !writable || !is_new(spec, LinuxNamespaceType::Cgroup) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    match is_new(spec, LinuxNamespaceType::User) {
        false if has(spec, LinuxNamespaceType::User) => None,
        false => (uid != 0).then_some(uid),
        true => {
            let mappings = spec.linux().as_ref()?.uid_mappings().as_ref()?;
            mappings.iter().find_map(|map| {
                let (container, host, size) = (map.container_id(), map.host_id(), map.size());
                namespaces::Mapping { container, host, size }.outside(uid)
            })
        }
    }
}

/// Whoever the process is to be must have a number in its user namespace.
fn require_mapped(user: &oci_spec::runtime::User, maps: &namespaces::IdMaps) -> Result<()> {
    let groups = user.additional_gids().iter().flatten().enumerate();
    let groups = groups.map(|(index, gid)| (format!("additionalGids[{index}]"), *gid, &maps.gids));
    let ids =
        [("uid".to_owned(), user.uid(), &maps.uids), ("gid".to_owned(), user.gid(), &maps.gids)];
    for (field, id, maps) in ids.into_iter().chain(groups) {
        if !maps.iter().any(|map| map.outside(id).is_some()) {
            let reason = "has no mapping in the container's user namespace";
            return Err(Error::new(format!("process.user.{field}: {id} {reason}")));
        }
    }
    Ok(())
}

fn seccomp_ops(spec: &Spec) -> Result<Vec<seccomp::Op>> {
    match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(profile) => Ok(seccomp::plan(profile, &seccomp::Host::current()?)?),
        None => Ok(Vec::new()),
    }
}

fn namespace(spec: &Spec, kind: LinuxNamespaceType) -> Option<&oci_spec::runtime::LinuxNamespace> {
    let list = spec.linux().as_ref()?.namespaces().as_ref()?;
    list.iter().find(|namespace| namespace.typ() == kind)
}

fn has(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    namespace(spec, kind).is_some()
}

fn is_new(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    namespace(spec, kind).is_some_and(|found| !found.path().as_ref().is_some_and(given))
}

fn rootfs_host(
    bundle: &Bundle,
    host: &Host,
    layout: &cgroups::Host,
    cgroup: &[cgroups::Op],
    options: &CreateOptions,
    user_namespace: bool,
) -> Result<rootfs::Host> {
    let terminal = bundle.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal);
    let proc_and_sys = match options.no_pivot {
        true => {
            let mountinfo = std::fs::read("/proc/self/mountinfo").during("open");
            rootfs::proc_and_sys(&mountinfo.within(|| "/proc/self/mountinfo")?)
        }
        false => Vec::new(),
    };
    Ok(rootfs::Host {
        bundle: bundle.directory.clone(),
        user_namespace: user_namespace || host.in_user_namespace,
        privileged_parent: host.is_privileged(),
        cgroups: cgroup_view(&layout.layout, cgroup, &host.cgroups),
        console: (terminal == Some(true))
            .then_some(rootfs::Console { master: slot::MASTER, terminal: slot::TERMINAL }),
        no_pivot: options.no_pivot,
        proc_and_sys,
        ephemeral: options.ephemeral,
        first_slot: slot::SOURCES,
    })
}

/// The cgroup trees as a mount of type `cgroup` shows them: the container's own place in each, or
/// the runtime's where it stays in that.
fn cgroup_view(
    layout: &cgroups::Layout,
    ops: &[cgroups::Op],
    ours: &OurCgroups,
) -> Option<rootfs::Cgroups> {
    let place = |mountpoint: &Path, controllers: &[String]| {
        let made = ops.iter().find_map(|op| match op {
            cgroups::Op::Make { mountpoint: made, path, .. } if made == mountpoint => Some(path),
            _ => None,
        });
        match made {
            Some(path) => Path::new("/").join(path),
            None => ours.place(controllers),
        }
    };
    match (&layout.unified, layout.hierarchies.as_slice()) {
        (None, []) => None,
        (Some(tree), []) => Some(rootfs::Cgroups::Unified {
            mountpoint: tree.mountpoint.clone(),
            path: place(&tree.mountpoint, &[]),
        }),
        (unified, hierarchies) => {
            let legacy =
                hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
            let unified = unified.iter().map(|tree| (&tree.mountpoint, Vec::new()));
            let all = legacy.chain(unified).map(|(mountpoint, controllers)| rootfs::Hierarchy {
                mountpoint: mountpoint.clone(),
                path: place(mountpoint, &controllers),
                controllers,
            });
            Some(rootfs::Cgroups::Several(all.collect()))
        }
    }
}

fn take_outside(spec: &Spec, host: &rootfs::Host, ops: &mut Vec<rootfs::Op>) -> Vec<rootfs::Op> {
    if !rootfs::parent_opens_sources(spec, host) {
        return Vec::new();
    }
    let [outside, _, _] = rootfs::phases(ops);
    let rest = ops.split_off(outside.len());
    std::mem::replace(ops, rest)
}

/// A hard limit can be raised only with a right in the first user namespace: by the runtime,
/// before the container's own is entered.
fn raise(
    process: &oci_spec::runtime::Process,
    user_namespace: bool,
) -> Result<Vec<privileges::Op>> {
    let mut raise = Vec::new();
    if !user_namespace {
        return Ok(raise);
    }
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let resource = privileges::rlimit::number(limit.typ());
        let (soft, hard) = sys::process::rlimit(resource)?;
        if limit.hard() > hard {
            let name = limit.typ().to_string();
            let hard = limit.hard();
            raise.push(privileges::Op::Rlimit { index, name, resource, soft, hard });
        }
    }
    Ok(raise)
}

fn root_path(bundle: &Bundle) -> PathBuf {
    let path = bundle.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    bundle.directory.join(path)
}

/// The kinds of namespaces in which a container with this configuration differs from the runtime.
#[must_use]
pub fn kinds(spec: &Spec) -> Vec<Kind> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    list.into_iter().flatten().map(|namespace| Kind::from(namespace.typ())).collect()
}
