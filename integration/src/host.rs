//! Facts about the host, and other views of it to run a runtime in.

use std::fs;
use std::path::{Path, PathBuf};

/// Are there cgroup v1 controllers (a v1 or a hybrid host)?
pub fn has_cgroup_v1() -> bool {
    fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| text.lines().count() > 1)
        && !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Is cgroup v2 the whole of /sys/fs/cgroup?
pub fn has_pure_cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Why there are no limits on memory, processors and processes here, if so.
pub fn missing_controllers() -> Option<&'static str> {
    let root = Path::new("/sys/fs/cgroup");
    let v2 = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let there =
        |name: &str| v2.split_whitespace().any(|word| word == name) || root.join(name).is_dir();
    (!["memory", "cpu", "pids"].into_iter().all(there)).then_some("needs cgroup controllers")
}

/// The kernel's version.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    let mut numbers = release.split('.').map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

/// The root of every cgroup hierarchy that is mounted here.
pub fn cgroup_roots() -> Vec<PathBuf> {
    if has_pure_cgroup_v2() {
        return vec!["/sys/fs/cgroup".into()];
    }
    let entries = fs::read_dir("/sys/fs/cgroup").map(|dir| dir.flatten().collect::<Vec<_>>());
    entries
        .unwrap_or_default()
        .into_iter()
        .map(|entry| entry.path())
        // Aliases such as `cpu -> cpu,cpuacct` would be seen twice.
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

/// A command prefix under which /sys/fs/cgroup is a pure cgroup v2 tree (without controllers on a
/// hybrid host), in a mount namespace of its own.
pub const PURE_V2: [&str; 8] = [
    "unshare",
    "-m",
    "--propagation",
    "private",
    "sh",
    "-c",
    "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"",
    "sh",
];

/// A command prefix under which the host has cgroup v1 alone: crun refuses hybrid hosts.
pub const PURE_V1: [&str; 8] = [
    "unshare",
    "-m",
    "--propagation",
    "private",
    "sh",
    "-c",
    "umount /sys/fs/cgroup/unified && exec \"$@\"",
    "sh",
];

/// Prefixes for every kind of cgroup tree that can be had here.
pub fn cgroup_trees() -> Vec<&'static [&'static str]> {
    if has_pure_cgroup_v2() { vec![&[]] } else { vec![&[], &PURE_V1, &PURE_V2] }
}

/// The namespace of this process of the given kind (`mnt`, `net`, ...), as `net:[4026531833]`.
pub fn namespace(kind: &str) -> String {
    namespace_of("self", kind)
}

/// The namespace of a process, as `net:[4026531833]`.
pub fn namespace_of(pid: impl std::fmt::Display, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}
