//! Bundle, host and command line -> the plan of a new container.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use davit_namespaces::Kind;
use davit_privileges::capability;
use davit_sys::OsContext;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec, User};

use super::init::InitSequence;
use super::process::{self, Confined, Confinement};
use super::seccomp::Filter;
use super::spec::{has, is_new};
use super::start_mode::CreatedStop;
use super::{CreateOptions, InitPlan, Plan, StartMode, Supervision, cgroup, seccomp};
use crate::config::annotations::Annotations;
use crate::config::bundle::Bundle;
use crate::config::{check, parse};
use crate::error::{Error, Result, Within};
use crate::hook::{self, HookPoint};
use crate::host::{Discovered, Host, has_selinux, shares_dev};
use crate::id::Id;
use crate::{slot, state};

/// The inputs of a plan.
pub struct Inputs<'a> {
    /// The container's id.
    pub id: &'a Id,
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The facts about host and user.
    pub host: &'a Host,
    /// The cgroup hierarchies of the host.
    pub cgroups: &'a davit_cgroups::Host,
    /// The objects of the host that it names.
    pub found: Discovered,
    /// The command line.
    pub options: &'a CreateOptions,
    /// Whether the caller is given something of the created container before its program runs: its
    /// pid, its pidfd, its terminal, or its readiness.
    pub hands_out: bool,
}

/// Plans a new container.
///
/// # Errors
/// The first field that cannot be applied.
pub fn create(inputs: Inputs<'_>) -> Result<Plan> {
    let Inputs { id, bundle, host, cgroups, found, options, hands_out } = inputs;
    let Discovered { joined, net_devices, resctrl } = found;
    let spec = &bundle.spec;
    check::check(spec, options.start_at_once)?;
    let annotations = Annotations::of(spec.annotations())?;
    let cgroup = cgroup::ops(id, spec, annotations.delegate.as_deref(), cgroups, options)?;
    let rdt = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    let resctrl = davit_cgroups::resctrl::plan(rdt, id.as_str(), &resctrl)?;
    let joined_user = joined.iter().find(|one| one.kind == Kind::User).map(|one| one.slot);
    let map_writer = host.map_writer(spec);
    let namespaces_host = davit_namespaces::Host { joined, net_devices, map_writer };
    let namespaces = davit_namespaces::plan(spec, &namespaces_host)?;
    let view = cgroup::view(&cgroups.layout, &cgroup, &host.cgroups);
    let context = annotations.mount_context;
    let rootfs_host = rootfs_host(bundle, host, view, joined_user, context, options)?;
    let mut rootfs = davit_rootfs::plan(spec, &rootfs_host)?;
    let outside = take_outside(spec, &rootfs_host, &mut rootfs);
    let hooks = runtime_hooks(spec)?;
    let poststop = hook::plan(spec, HookPoint::Poststop)?;
    let mut stop = CreatedStop::default();
    stop.needed_if(hands_out, "the caller gets its pid, pidfd, terminal or readiness");
    stop.needed_if(resctrl.is_some(), "linux.intelRdt");
    let own_cgroup = davit_cgroups::Cgroup::planned(&cgroup);
    stop.needed_if(own_cgroup.is_empty(), "it has no cgroup of its own");
    let shares_mounts = !has(spec, LinuxNamespaceType::Mount);
    stop.needed_if(shares_mounts, "it has no mount namespace of its own");
    let runtime_hooks_due = !hooks.is_empty() || !poststop.is_empty();
    let all_annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let parts =
        Parts { id, bundle, host, options, annotations, all_annotations, cgroup, namespaces };
    let init = parts.init(rootfs, runtime_hooks_due, stop)?;
    let without_effect = davit_rootfs::without_effect(spec, &rootfs_host);
    let cgroup_warnings = cgroup::warnings(spec, &cgroups.layout);
    let Parts { annotations, all_annotations, cgroup, namespaces, .. } = parts;
    Ok(Plan {
        start: init.start,
        init: Rc::new(init.plan),
        supervision: init.supervision,
        clone_namespaces: namespaces.clone_namespaces,
        id_maps: namespaces.id_maps,
        moves: namespaces.moves,
        cgroup,
        resctrl,
        outside,
        raise: init.raise,
        keep_groups: annotations.keep_groups,
        setgroups: init.setgroups,
        hook_output: annotations.hook_output,
        hooks,
        listener: init.listener,
        poststart: hook::plan(spec, HookPoint::Poststart)?,
        poststop,
        rootfs: root_path(bundle)?,
        annotations: all_annotations,
        own_pid_namespace: is_new(spec, LinuxNamespaceType::Pid),
        shares_mounts,
        warnings: [init.warnings, without_effect, cgroup_warnings].concat(),
    })
}

/// The parts of a plan that the plan of init is made from.
struct Parts<'a> {
    id: &'a Id,
    bundle: &'a Bundle,
    host: &'a Host,
    options: &'a CreateOptions,
    /// The annotations that davit knows.
    annotations: Annotations,
    /// All annotations, for the state that hooks read.
    all_annotations: BTreeMap<String, String>,
    cgroup: Vec<davit_cgroups::Op>,
    namespaces: davit_namespaces::Plan,
}

/// The plan of init, and the other parts of the plan that depend on its process.
struct Init {
    plan: InitPlan,
    supervision: Supervision,
    start: StartMode,
    listener: Option<davit_seccomp::Listener>,
    raise: Vec<davit_privileges::Op>,
    setgroups: bool,
    warnings: Vec<String>,
}

impl Parts<'_> {
    fn init(
        &self,
        rootfs: Vec<davit_rootfs::Op>,
        runtime_hooks_due: bool,
        mut stop: CreatedStop,
    ) -> Result<Init> {
        let spec = &self.bundle.spec;
        let process = match spec.process() {
            Some(process) => Cow::Borrowed(process),
            None => Cow::Owned(parse::no_process()?),
        };
        let process = process.as_ref();
        if let Some(maps) = &self.namespaces.id_maps {
            require_mapped(process.user(), maps)?;
        }
        let mut sequence = InitSequence {
            spec,
            process,
            options: self.options,
            ignored_signals: self.host.ignored_signals,
            cgroup: &self.cgroup,
            namespaces: &self.namespaces,
            rootfs,
            runtime_hooks_due,
            hook_output: hook::OutputSlots::of(&self.annotations.hook_output),
            hook_state: &|point| {
                let (id, directory) = (self.id.as_str(), &self.bundle.directory);
                state::for_hook(id, point.status(), directory, &self.all_annotations)
            },
        };
        let filter = seccomp::plan(spec)?;
        let listener = filter.listener.clone();
        let create_container = sequence.hooks(HookPoint::CreateContainer)?;
        let start_container = sequence.hooks(HookPoint::StartContainer)?;
        let hooks = create_container.len() + start_container.len();
        let acts_on_messages = sequence.acts_on_messages();
        stop.needed_if(hooks > 0, "hooks run in the container");
        stop.needed_if(acts_on_messages, "init needs the runtime on its way");
        stop.needed_if(listener.is_some(), "linux.seccomp.listenerPath");
        let start = stop.mode(self.options.start_at_once);
        let mut sections = sequence.sections(create_container, &start)?;
        let confinement = Confinement {
            filter,
            wait: sequence.wait(&start)?,
            hooks: start_container,
            ..self.confinement(process)
        };
        let setgroups = confinement.privileges.setgroups;
        let Confined { sections: confined, filter, warnings } = process::confine(confinement)?;
        sections.extend(confined);
        let preserved = self.options.process.descriptors.clone();
        let plan = InitPlan { sections, filter, preserved };
        let stops_at_created = start != StartMode::Immediate;
        let supervision = Supervision { hooks, acts_on_messages, stops_at_created, pins_cpu: true };
        let raise = raise(spec, process)?;
        Ok(Init { plan, supervision, start, listener, raise, setgroups, warnings })
    }

    fn confinement<'a>(&'a self, process: &'a Process) -> Confinement<'a> {
        let Self { id, bundle, host, options, annotations, namespaces, .. } = self;
        let spec = &bundle.spec;
        let maps = namespaces.id_maps.as_ref();
        let groups_denied = maps.is_some_and(davit_namespaces::IdMaps::denies_groups);
        let linux = spec.linux().as_ref();
        Confinement {
            process,
            personality: linux.and_then(|linux| linux.personality().as_ref()),
            memory_policy: linux.and_then(|linux| linux.memory_policy().as_ref()),
            filter: Filter::default(),
            wait: Vec::new(),
            hooks: Vec::new(),
            privileges: davit_privileges::Host {
                grantable: match has(spec, LinuxNamespaceType::User) {
                    true => capability::ALL,
                    false => host.permitted,
                },
                setgroups: (host.setgroups || maps.is_some()) && !groups_denied,
                keep_groups: annotations.keep_groups,
                security: host.security(process),
                keyring: (!options.process.no_new_keyring).then(|| format!("_ses.{id}")),
            },
            options: &options.process,
        }
    }
}

fn runtime_hooks(spec: &Spec) -> Result<Vec<(hook::Hook, &'static str)>> {
    let mut hooks = Vec::new();
    for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
        let list = hook::plan(spec, point)?;
        hooks.extend(list.into_iter().map(|hook| (hook, point.status())));
    }
    Ok(hooks)
}

/// The uid and gids of the process must be mapped in its user namespace.
fn require_mapped(user: &User, maps: &davit_namespaces::IdMaps) -> Result<()> {
    let groups = user.additional_gids().iter().flatten().enumerate();
    let groups = groups.map(|(index, gid)| (format!("additionalGids[{index}]"), *gid, &maps.gids));
    let ids =
        [("uid".to_owned(), user.uid(), &maps.uids), ("gid".to_owned(), user.gid(), &maps.gids)];
    for (field, id, maps) in ids.into_iter().chain(groups) {
        if !maps.iter().any(|map| map.to_host(id).is_some()) {
            let reason = "has no mapping in the container's user namespace";
            return Err(Error::new(format!("process.user.{field}: {id} {reason}")));
        }
    }
    Ok(())
}

fn rootfs_host(
    bundle: &Bundle,
    host: &Host,
    cgroups: Option<davit_rootfs::Cgroups>,
    joined_user_namespace: Option<u16>,
    mount_context: davit_rootfs::ContextType,
    options: &CreateOptions,
) -> Result<davit_rootfs::Host> {
    let spec = &bundle.spec;
    let terminal = spec.process().as_ref().and_then(Process::terminal);
    let proc_and_sys = match options.no_pivot {
        true => {
            let mountinfo = std::fs::read("/proc/self/mountinfo").syscall("open");
            davit_rootfs::proc_and_sys(&mountinfo.within(|| "/proc/self/mountinfo")?)
        }
        false => Vec::new(),
    };
    Ok(davit_rootfs::Host {
        bundle: bundle.directory.clone(),
        user_namespace: has(spec, LinuxNamespaceType::User) || host.in_user_namespace,
        privileged_parent: host.is_privileged(),
        makes_nodes: host.makes_nodes(),
        joined_user_namespace,
        cgroups,
        console: (terminal == Some(true))
            .then_some(davit_rootfs::Console { master: slot::MASTER, terminal: slot::TERMINAL }),
        no_pivot: options.no_pivot,
        proc_and_sys,
        ephemeral: options.ephemeral,
        selinux: labels_mounts(spec) && has_selinux(),
        mount_context,
        shares_dev: shares_dev(spec, &root_path(bundle)?),
        first_slot: slot::SOURCES,
    })
}

pub(super) fn labels_mounts(spec: &Spec) -> bool {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_ref());
    label.is_some_and(|label| !label.is_empty())
}

fn take_outside(
    spec: &Spec,
    host: &davit_rootfs::Host,
    ops: &mut Vec<davit_rootfs::Op>,
) -> Vec<davit_rootfs::Op> {
    if !davit_rootfs::parent_opens_sources(spec, host) {
        return Vec::new();
    }
    let [outside, _, _] = davit_rootfs::phases(ops);
    let rest = ops.split_off(outside.len());
    std::mem::replace(ops, rest)
}

/// A hard limit can be raised only with a capability in the initial user namespace: by the runtime,
/// before the container's user namespace is entered.
fn raise(spec: &Spec, process: &Process) -> Result<Vec<davit_privileges::Op>> {
    let mut raise = Vec::new();
    if !has(spec, LinuxNamespaceType::User) {
        return Ok(raise);
    }
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let resource = davit_privileges::rlimit::number(limit.typ());
        let (soft, hard) = davit_sys::process::rlimit(resource)?;
        if limit.hard() > hard {
            let name = limit.typ().to_string();
            let hard = limit.hard();
            raise.push(davit_privileges::Op::Rlimit { index, name, resource, soft, hard });
        }
    }
    Ok(raise)
}

fn root_path(bundle: &Bundle) -> Result<PathBuf> {
    let root = bundle.spec.root().as_ref().ok_or_else(|| Error::new("root: is missing"))?;
    Ok(bundle.directory.join(root.path()))
}
