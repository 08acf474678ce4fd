//! config.json and host -> steps. Pure: nothing is looked up here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::path::below_mount;
use crate::resources::{self, Plan};
use crate::{Error, Host, Layout, Op, devices, systemd};

/// Controllers whose figures engines show (`podman stats`), also where no limit is asked for.
const ACCOUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// What one container asks of its cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// `annotations`: those of `org.systemd.property.` are for the systemd driver.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The container's id: the path, where none is given.
    pub id: &'a str,
    /// The host uid that the cgroup is given to (the spec's rules on cgroup ownership). Honoured on
    /// cgroup v2 only: v1 cannot be delegated safely.
    pub owner: Option<u32>,
    /// A sub-cgroup for the container's own use, in which its process is.
    pub own: Option<Own<'a>>,
}

/// A sub-cgroup for the container's own use. cgroup v2 only, like all delegation.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Its name.
    pub name: &'a str,
    /// The field of config.json that asks for it.
    pub field: &'a str,
}

/// The steps that make the container's cgroup, in order. None at all where an ordinary user may not
/// make one and asks for nothing that needs one.
///
/// Devices: the rules of `linux.resources.devices` in order, from "nothing is allowed"; then
/// `/dev/null` and the other devices of every container. This holds without any rule as well, as with
/// runc. No filter is made when everything is allowed. In a user namespace, where the kernel grants
/// no filter, the rules hold by themselves: device nodes cannot be made there.
///
/// # Errors
/// The field of config.json that cannot be applied on this host, and why.
pub fn plan(request: &Request<'_>, host: &Host) -> Result<Vec<Op>, Error> {
    let path = match &host.systemd {
        Some(systemd) => systemd::path(request, systemd)?,
        None => below_mount(request.path, request.id)?,
    };
    let mut limits = Plan::new(&host.layout, &path);
    if let Some(resources) = request.resources {
        resources::plan(&mut limits, resources)?;
    }
    let rules = devices::rules(request.resources)?;
    if host.systemd.is_none() && host.rootless && !host.writable {
        return without_cgroup(request, limits.first_field());
    }
    let limits = limits.into_ops(&ACCOUNTING);
    let mut ops = match &host.systemd {
        Some(systemd) => vec![systemd::start(request, systemd, &host.layout, &limits)?],
        None => make(&path, &host.layout),
    };
    ops.extend(limits);
    let asked = devices::asked(request.resources);
    ops.extend(devices::plan(&rules, asked, &path, host)?);
    if let (Some(uid), [], Some(tree)) =
        (request.owner, host.layout.hierarchies.as_slice(), &host.layout.unified)
    {
        ops.push(Op::Delegate { directory: tree.mountpoint.join(&path), uid });
    }
    ops.extend(own(request, &path, &host.layout, host.systemd.is_some())?);
    Ok(ops)
}

fn own(
    request: &Request<'_>,
    path: &Path,
    layout: &Layout,
    with_systemd: bool,
) -> Result<Option<Op>, Error> {
    let Some(Own { name, field }) = request.own else { return Ok(None) };
    if with_systemd {
        // Its process enters it after it has executed, by a descriptor that it must have from birth.
        return Err(Error::value(field.to_owned(), "is not for the systemd cgroup driver"));
    }
    match (layout.hierarchies.as_slice(), &layout.unified) {
        ([], Some(tree)) => Ok(Some(Op::Own {
            directory: tree.mountpoint.join(path),
            name: name.to_owned(),
            uid: request.owner,
        })),
        _ => Err(Error::value(field.to_owned(), "only a host with cgroup v2 alone can delegate")),
    }
}

/// The steps that set the limits of `resources` in the cgroup at `path` below each mount point:
/// the part of [`plan`] that also holds for a cgroup that exists. Devices are not among them.
///
/// # Errors
/// The field of config.json that cannot be applied on this host, and why.
pub fn plan_resources(
    resources: Option<&LinuxResources>,
    path: &Path,
    layout: &Layout,
) -> Result<Vec<Op>, Error> {
    let mut plan = Plan::new(layout, path);
    if let Some(resources) = resources {
        resources::plan(&mut plan, resources)?;
    }
    Ok(plan.into_ops(&[]))
}

/// Without a cgroup only that can be had which needs none.
fn without_cgroup(
    request: &Request<'_>,
    limit: Option<Cow<'static, str>>,
) -> Result<Vec<Op>, Error> {
    let path = request.path.filter(|path| !path.as_os_str().is_empty());
    if let Some(Own { field, .. }) = request.own {
        return Err(Error::NotPermitted { field: field.to_owned().into() });
    }
    match (limit, path) {
        (Some(field), _) => Err(Error::NotPermitted { field }),
        (None, Some(_)) => Err(Error::NotPermitted { field: "linux.cgroupsPath".into() }),
        (None, None) => Ok(Vec::new()),
    }
}

fn make(path: &Path, layout: &Layout) -> Vec<Op> {
    let unified = layout.unified.iter().map(|tree| (&tree.mountpoint, Vec::new()));
    let legacy = layout.hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
    unified
        .chain(legacy)
        .map(|(mountpoint, controllers)| Op::Make {
            mountpoint: mountpoint.clone(),
            path: path.to_path_buf(),
            controllers,
        })
        .collect()
}

/// The directories whose `cgroup.subtree_control` decides what `path` gets, from the top.
pub(crate) fn above(mountpoint: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut levels: Vec<PathBuf> =
        mountpoint.join(path).ancestors().skip(1).map(Path::to_path_buf).collect();
    levels.truncate(path.components().count());
    levels.reverse();
    levels.into_iter()
}
