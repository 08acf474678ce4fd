//! The request of one container, from which its cgroup is planned.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::LinuxResources;

/// What config.json and the caller request of a container's cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// `annotations`; the systemd driver applies those that begin with `org.systemd.property.`.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The container's id: the default path.
    pub id: &'a str,
    /// The host uid that the cgroup is delegated to (the spec's rules on cgroup ownership). On
    /// cgroup v2 only: v1 cannot be delegated safely.
    pub owner: Option<u32>,
    /// A sub-cgroup in which the container's process starts.
    pub subgroup: Option<Subgroup<'a>>,
}

/// A sub-cgroup in which the container's process starts, so that the container can create cgroups
/// of its own beside it. On cgroup v2 only, like all delegation.
#[derive(Clone, Copy, Debug)]
pub struct Subgroup<'a> {
    /// Its name.
    pub name: &'a str,
    /// The field of config.json that requests it.
    pub field: &'a str,
}
