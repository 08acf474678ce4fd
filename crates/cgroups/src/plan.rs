//! Planning: config.json and host -> operations. Pure: no system calls.

use std::borrow::Cow;
use std::path::Path;

use oci_spec::runtime::LinuxResources;

use crate::path::below_mount;
use crate::request::{Request, Subgroup};
use crate::resources::{self, Controllers, Plan};
use crate::{Error, Host, Layout, Op, devices, systemd};

/// Plans the operations that create the container's cgroup, in order.
///
/// For an unprivileged user who cannot create cgroups there are none if no field needs a cgroup;
/// otherwise the cgroup is created next to the user's own, if that has been delegated.
///
/// Devices: the rules of `linux.resources.devices` in order, starting from "nothing is allowed",
/// then `/dev/null` and the other devices of every container; without any rule as well, as in runc.
/// There is no filter if everything is allowed. In a user namespace the kernel refuses a filter,
/// and refuses to create device nodes too.
///
/// # Errors
/// The field of config.json that cannot be applied on this host, and why.
pub fn plan(request: &Request<'_>, host: &Host) -> Result<Vec<Op>, Error> {
    let rules = devices::rules(request.resources)?;
    let path = match &host.systemd {
        Some(systemd) => systemd::path(request, systemd)?,
        None => below_mount(request.path, request.id)?,
    };
    let path = if host.systemd.is_none() && host.rootless && !host.writable {
        // A cgroup only if a field needs one: an exec from another cgroup cannot enter it.
        let limit = plan_limits(request, &host.layout, &path)?.first_field();
        match &host.delegated_parent {
            Some(parent) if limit.is_some() || request.subgroup.is_some() => parent.join(path),
            _ => return without_cgroup(request, limit),
        }
    } else {
        path
    };
    let limits = plan_limits(request, &host.layout, &path)?.into_ops(Controllers::All);
    let mut ops = match &host.systemd {
        Some(systemd) => vec![systemd::start(request, systemd, &host.layout, &limits)?],
        None => make(&path, &host.layout),
    };
    ops.extend(limits);
    let has_rules = devices::has_rules(request.resources);
    ops.extend(devices::plan(&rules, has_rules, &path, host)?);
    if let (Some(uid), [], Some(tree)) =
        (request.owner, host.layout.hierarchies.as_slice(), &host.layout.unified)
    {
        ops.push(Op::Delegate { directory: tree.mountpoint.join(&path), uid });
    }
    ops.extend(subgroup(request, &path, &host.layout, host.systemd.is_some())?);
    Ok(ops)
}

fn plan_limits<'a>(
    request: &Request<'_>,
    layout: &'a Layout,
    path: &'a Path,
) -> Result<Plan<'a>, Error> {
    let mut plan = Plan::new(layout, path);
    if let Some(resources) = request.resources {
        resources::plan(&mut plan, resources)?;
    }
    Ok(plan)
}

fn subgroup(
    request: &Request<'_>,
    path: &Path,
    layout: &Layout,
    with_systemd: bool,
) -> Result<Option<Op>, Error> {
    let Some(Subgroup { name, field }) = request.subgroup else { return Ok(None) };
    if with_systemd {
        // The process enters it after execve(2), by a descriptor that it inherits; with systemd the
        // cgroup does not exist yet when the process is created.
        return Err(Error::value(field.to_owned(), "is not for the systemd cgroup driver"));
    }
    match (layout.hierarchies.as_slice(), &layout.unified) {
        ([], Some(tree)) => Ok(Some(Op::CreateSubgroup {
            directory: tree.mountpoint.join(path),
            name: name.to_owned(),
            uid: request.owner,
        })),
        _ => Err(Error::value(field.to_owned(), "only a host with cgroup v2 alone can delegate")),
    }
}

/// Plans the operations that set the limits of `resources` in the cgroup at `path` below each mount
/// point: the part of [`plan`] for a cgroup that exists already, without devices.
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
    Ok(plan.into_ops(Controllers::Needed))
}

/// Refuses all fields that need a cgroup, where none can be created.
fn without_cgroup(
    request: &Request<'_>,
    limit: Option<Cow<'static, str>>,
) -> Result<Vec<Op>, Error> {
    let path = request.path.filter(|path| !path.as_os_str().is_empty());
    if let Some(Subgroup { field, .. }) = request.subgroup {
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
    let v1 = layout.hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
    unified
        .chain(v1)
        .map(|(mountpoint, controllers)| Op::Make {
            mountpoint: mountpoint.clone(),
            path: path.to_path_buf(),
            controllers,
        })
        .collect()
}
