//! The limits of a container as they stand in its cgroup.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::{Container, host};

/// A container that runs this script, with these fields of `linux.resources`.
pub fn limited(script: &str, resources: Value) -> Container {
    Container::sh(script).with(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    })
}

/// The directory of the container's cgroup, on a pure v2 host.
pub fn directory(c: &Container) -> std::path::PathBuf {
    let path = c.config["linux"]["cgroupsPath"].as_str().expect("a path");
    Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
}

/// The number behind a key in a file of the container's cgroup, such as `usage_usec` in `cpu.stat`.
#[track_caller]
pub fn count(c: &Container, name: &str, key: &str) -> u64 {
    let text = fs::read_to_string(directory(c).join(name)).expect(name);
    let words = text.split([' ', '\n']).collect::<Vec<_>>();
    let found = words.chunks(2).find(|words| words[0] == key);
    let value = found.unwrap_or_else(|| panic!("no {key} in {name}: {text}"))[1];
    value.parse().unwrap_or_else(|error| panic!("{key} {value}: {error}"))
}

/// A file of the container's cgroup. It is named as in cgroup v1; on a pure v2 host its counterpart
/// is read.
#[track_caller]
pub fn file(c: &Container, controller: &str, name: &str) -> String {
    file_of(&format!("/{}", c.id), controller, name)
}

/// The same of any cgroup.
#[track_caller]
pub fn file_of(cgroup: &str, controller: &str, name: &str) -> String {
    let path = match host::has_pure_cgroup_v2() {
        true => format!("/sys/fs/cgroup{cgroup}/{}", counterpart(name)),
        false => format!("/sys/fs/cgroup/{controller}{cgroup}/{name}"),
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
        "cpu.cfs_quota_us" | "cpu.cfs_period_us" => "cpu.max",
        "cpu.cfs_burst_us" => "cpu.max.burst",
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
