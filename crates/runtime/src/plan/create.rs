//! Bundle, host and command line -> the plan of a new container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec, User};
use privileges::capability;
use sys::During;

use super::program::{self, Confinement};
use super::spec::{has, is_new};
use super::way::Way;
use super::{CreateOptions, Plan, cgroup, seccomp};
use crate::annotations::Annotations;
use crate::bundle::Bundle;
use crate::error::{Error, Result, Within};
use crate::hook::{self, Moment};
use crate::host::{Found, Host, has_selinux};
use crate::id::Id;
use crate::step::InitPlan;
use crate::{check, slot, state};

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
    /// What it names, and was found.
    pub found: Found,
    /// What the command line says.
    pub options: &'a CreateOptions,
}

/// Plans a new container.
///
/// # Errors
/// The first field that cannot be applied.
pub fn create(inputs: Inputs<'_>) -> Result<Plan> {
    let Inputs { id, bundle, host, cgroups, found, options } = inputs;
    let Found { joined, net_devices, resctrl } = found;
    let spec = &bundle.spec;
    check::check(spec)?;
    let meant = Annotations::of(spec.annotations())?;
    let Some(process) = spec.process() else { return Err(Error::new("process: is missing")) };
    let cgroup = cgroup::ops(id, spec, meant.delegate.as_deref(), cgroups, options)?;
    let rdt = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    let resctrl = cgroups::resctrl::plan(rdt, id.as_str(), &resctrl)?;
    let map_writer = host.map_writer(spec);
    let namespaces_host = namespaces::Host { joined, net_devices, map_writer };
    let namespaces = namespaces::plan(spec, &namespaces_host)?;
    if let Some(maps) = &namespaces.id_maps {
        require_mapped(process.user(), maps)?;
    }
    let view = cgroup::view(&cgroups.layout, &cgroup, &host.cgroups);
    let rootfs_host = rootfs_host(bundle, host, view, meant.mount_context, options)?;
    let mut rootfs = rootfs::plan(spec, &rootfs_host)?;
    let without_effect = rootfs::without_effect(spec, &rootfs_host);
    let outside = take_outside(spec, &rootfs_host, &mut rootfs);
    let annotations: BTreeMap<_, _> =
        spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let hooks = runtime_hooks(spec)?;
    let poststop = hook::plan(spec, Moment::Poststop)?;
    let way = Way {
        spec,
        process,
        options,
        cgroup: &cgroup,
        namespaces: &namespaces,
        rootfs,
        tells_when_built: !hooks.is_empty() || !poststop.is_empty(),
        hook_output: hook::OutputSlots::of(&meant.hook_output),
        told: &|moment| {
            state::for_hook(id.as_str(), moment.status(), &bundle.directory, &annotations)
        },
    };
    let mut sections = way.sections()?;
    let (filter, listener) = seccomp::plan(spec)?;
    let confinement = Confinement {
        seccomp: filter,
        ..confinement(id, spec, process, host, &namespaces, &meant, options)
    };
    let setgroups = confinement.privileges.setgroups;
    let (program, not_granted) = program::sections(confinement)?;
    sections.extend(program);
    let preserved = options.process.preserved();
    Ok(Plan {
        init: InitPlan { sections, channel: -1, slots: Vec::new(), preserved },
        born: namespaces.born,
        id_maps: namespaces.id_maps,
        moves: namespaces.moves,
        cgroup,
        resctrl,
        outside,
        raise: raise(spec, process)?,
        keep_groups: meant.keep_groups,
        setgroups,
        hook_output: meant.hook_output,
        hooks,
        listener,
        poststart: hook::plan(spec, Moment::Poststart)?,
        poststop,
        rootfs: root_path(bundle),
        annotations,
        own_pid_namespace: is_new(spec, LinuxNamespaceType::Pid),
        shares_mounts: !has(spec, LinuxNamespaceType::Mount),
        warnings: [bundle.warnings.clone(), not_granted, without_effect].concat(),
    })
}

fn confinement<'a>(
    id: &Id,
    spec: &'a Spec,
    process: &'a Process,
    host: &Host,
    namespaces: &namespaces::Plan,
    meant: &Annotations,
    options: &'a CreateOptions,
) -> Confinement<'a> {
    let maps = namespaces.id_maps.as_ref();
    let groups_denied = maps.is_some_and(namespaces::IdMaps::denies_groups);
    let linux = spec.linux().as_ref();
    Confinement {
        process,
        personality: linux.and_then(|linux| linux.personality().as_ref()),
        memory_policy: linux.and_then(|linux| linux.memory_policy().as_ref()),
        seccomp: Vec::new(),
        privileges: privileges::Host {
            grantable: match has(spec, LinuxNamespaceType::User) {
                true => capability::ALL,
                false => host.permitted,
            },
            setgroups: (host.setgroups || maps.is_some()) && !groups_denied,
            keep_groups: meant.keep_groups,
            security: host.security(process),
            keyring: (!options.process.no_new_keyring).then(|| format!("_ses.{id}")),
        },
        options: &options.process,
    }
}

fn runtime_hooks(spec: &Spec) -> Result<Vec<(hook::Hook, &'static str)>> {
    let mut hooks = Vec::new();
    for moment in [Moment::Prestart, Moment::CreateRuntime] {
        let list = hook::plan(spec, moment)?;
        hooks.extend(list.into_iter().map(|hook| (hook, moment.status())));
    }
    Ok(hooks)
}

/// Whoever the process is to be must have a number in its user namespace.
fn require_mapped(user: &User, maps: &namespaces::IdMaps) -> Result<()> {
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

fn rootfs_host(
    bundle: &Bundle,
    host: &Host,
    cgroups: Option<rootfs::Cgroups>,
    mount_context: rootfs::ContextType,
    options: &CreateOptions,
) -> Result<rootfs::Host> {
    let spec = &bundle.spec;
    let terminal = spec.process().as_ref().and_then(Process::terminal);
    let proc_and_sys = match options.no_pivot {
        true => {
            let mountinfo = std::fs::read("/proc/self/mountinfo").during("open");
            rootfs::proc_and_sys(&mountinfo.within(|| "/proc/self/mountinfo")?)
        }
        false => Vec::new(),
    };
    Ok(rootfs::Host {
        bundle: bundle.directory.clone(),
        user_namespace: has(spec, LinuxNamespaceType::User) || host.in_user_namespace,
        privileged_parent: host.is_privileged(),
        cgroups,
        console: (terminal == Some(true))
            .then_some(rootfs::Console { master: slot::MASTER, terminal: slot::TERMINAL }),
        no_pivot: options.no_pivot,
        proc_and_sys,
        ephemeral: options.ephemeral,
        selinux: labels_mounts(spec) && has_selinux(),
        mount_context,
        first_slot: slot::SOURCES,
    })
}

fn labels_mounts(spec: &Spec) -> bool {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_ref());
    label.is_some_and(|label| !label.is_empty())
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
fn raise(spec: &Spec, process: &Process) -> Result<Vec<privileges::Op>> {
    let mut raise = Vec::new();
    if !has(spec, LinuxNamespaceType::User) {
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
