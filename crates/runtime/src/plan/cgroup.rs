//! The container's cgroup: the request for it, its owner, and the view of the container.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::spec::{has, is_new};
use super::{CgroupManager, CreateOptions};
use crate::config::annotations;
use crate::error::{Error, Result};
use crate::host::OurCgroups;
use crate::id::Id;

/// The operations that make the cgroup; none if cgroups are disabled.
pub(super) fn ops(
    id: &Id,
    spec: &Spec,
    own: Option<&str>,
    host: &davit_cgroups::Host,
    options: &CreateOptions,
) -> Result<Vec<davit_cgroups::Op>> {
    let mut request = request(id, spec);
    let field = annotations::delegate_field();
    request.subgroup = own.map(|name| davit_cgroups::Subgroup { name, field: &field });
    if options.cgroup_manager == CgroupManager::Disabled {
        return refuse_limits(&request, host).map(|()| Vec::new());
    }
    Ok(davit_cgroups::plan(&request, host)?)
}

/// Refuses limits, which would not be enforced. Device rules are not limits: engines always write
/// them, and the permissions of the device nodes apply.
fn refuse_limits(request: &davit_cgroups::Request<'_>, host: &davit_cgroups::Host) -> Result<()> {
    let limits = davit_cgroups::plan_resources(request.resources, Path::new(""), &host.layout)?;
    let field = limits.iter().find_map(|op| match op {
        davit_cgroups::Op::Write { field, .. } => Some(field.to_string()),
        _ => None,
    });
    match field.or_else(|| request.subgroup.map(|own| own.field.to_owned())) {
        Some(field) => Err(Error::new(format!("{field}: cgroups are disabled (--cgroup-manager)"))),
        None => Ok(()),
    }
}

/// The request of config.json for the container's cgroup.
#[must_use]
pub fn request<'a>(id: &'a Id, spec: &'a Spec) -> davit_cgroups::Request<'a> {
    let linux = spec.linux().as_ref();
    davit_cgroups::Request {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        annotations: spec.annotations().as_ref(),
        id: id.as_str(),
        owner: owner(spec),
        subgroup: None,
    }
}

/// Warnings about values that are converted, and controllers that are not where they should be.
pub(super) fn warnings(spec: &Spec, layout: &davit_cgroups::Layout) -> Vec<String> {
    let linux = spec.linux().as_ref();
    let mut warnings = davit_cgroups::warnings(linux.and_then(|linux| linux.resources().as_ref()));
    warnings.extend(layout.warning());
    warnings
}

/// The owner of the cgroup (config-linux.md, "Cgroup ownership"): the container's user, if the
/// container sees its cgroup as the root of a writable tree.
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
                davit_namespaces::IdMapping { container, host, size }.to_host(uid)
            })
        }
    }
}

/// The hierarchies as a mount of type `cgroup` shows them: cgroup v2 as a whole; of cgroup v1, the
/// container's own directory in each, or the runtime's if the container stays there.
pub(super) fn view(
    layout: &davit_cgroups::Layout,
    ops: &[davit_cgroups::Op],
    ours: &OurCgroups,
) -> Option<davit_rootfs::Cgroups> {
    let place = |mountpoint: &Path, controllers: &[String]| {
        let made = ops.iter().find_map(|op| match op {
            davit_cgroups::Op::Make { mountpoint: made, path, .. }
            | davit_cgroups::Op::StartUnit { mountpoint: made, path, .. }
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
        (Some(tree), []) => {
            Some(davit_rootfs::Cgroups::Unified { mountpoint: tree.mountpoint.clone() })
        }
        (unified, hierarchies) => {
            let legacy =
                hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
            let unified = unified.iter().map(|tree| (&tree.mountpoint, Vec::new()));
            let all =
                legacy.chain(unified).map(|(mountpoint, controllers)| davit_rootfs::Hierarchy {
                    mountpoint: mountpoint.clone(),
                    path: place(mountpoint, &controllers),
                    controllers,
                });
            Some(davit_rootfs::Cgroups::Several(all.collect()))
        }
    }
}
