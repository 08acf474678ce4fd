//! The limits of a container as they stand in its cgroup.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{Container, host};

/// A file of the container's cgroup. It is named as in cgroup v1; on a pure v2 host its counterpart is read.
#[track_caller]
pub fn file(c: &Container, controller: &str, name: &str) -> String {
    let path = match host::has_pure_cgroup_v2() {
        true => format!("/sys/fs/cgroup/{}/{}", c.id, counterpart(name)),
        false => format!("/sys/fs/cgroup/{controller}/{}/{name}", c.id),
    };
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

/// Where cgroup v2 has what this file of v1 has.
fn counterpart(name: &str) -> &str {
    match name {
        "memory.limit_in_bytes" => "memory.max",
        "memory.memsw.limit_in_bytes" => "memory.swap.max",
        "memory.soft_limit_in_bytes" => "memory.low",
        "cpu.shares" => "cpu.weight",
        same => same,
    }
}

/// The numbers of the whole disk under /tmp, if it is on one and not on a partition.
pub fn disk() -> Option<(u64, u64)> {
    let device = fs::metadata(std::env::temp_dir()).expect("stat").dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let whole = Path::new(&format!("/sys/dev/block/{major}:{minor}/queue")).exists();
    (major != 0 && whole).then_some((major, minor))
}
