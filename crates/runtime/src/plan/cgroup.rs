//! The container's cgroup: what is asked for, who owns it, and how the container sees it.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::spec::{has, is_new};
use super::{CgroupManager, CreateOptions};
use crate::annotations;
use crate::error::{Error, Result};
use crate::host::OurCgroups;
use crate::id::Id;

/// How the cgroup is made; not at all where cgroups are disabled.
pub(super) fn ops(
    id: &Id,
    spec: &Spec,
    own: Option<&str>,
    host: &cgroups::Host,
    options: &CreateOptions,
) -> Result<Vec<cgroups::Op>> {
    let mut request = request(id, spec);
    let field = annotations::delegate_field();
    request.own = own.map(|name| cgroups::Own { name, field: &field });
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
    match field.or_else(|| request.own.map(|own| own.field.to_owned())) {
        Some(field) => Err(Error::new(format!("{field}: cgroups are disabled (--cgroup-manager)"))),
        None => Ok(()),
    }
}

/// What config.json asks of the container's cgroup.
#[must_use]
pub fn request<'a>(id: &'a Id, spec: &'a Spec) -> cgroups::Request<'a> {
    let linux = spec.linux().as_ref();
    cgroups::Request {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        annotations: spec.annotations().as_ref(),
        id: id.as_str(),
        owner: owner(spec),
        own: None,
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

/// The cgroup trees as a mount of type `cgroup` shows them: the container's own place in each, or
/// the runtime's where it stays in that.
pub(super) fn view(
    layout: &cgroups::Layout,
    ops: &[cgroups::Op],
    ours: &OurCgroups,
) -> Option<rootfs::Cgroups> {
    let place = |mountpoint: &Path, controllers: &[String]| {
        let made = ops.iter().find_map(|op| match op {
            cgroups::Op::Make { mountpoint: made, path, .. }
            | cgroups::Op::StartUnit { mountpoint: made, path, .. }
                if made == mountpoint =>
            {
                Some(path)
            }
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
