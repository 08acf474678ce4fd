//! Hints for `linux.namespaces[].path`. They may look at the host, and change nothing there.

use std::path::Path;

use nix::errno::Errno;

/// The hint for a `linux.namespaces[].path` that could not be opened.
pub(crate) fn of_path(errno: Errno, path: &Path) -> Option<String> {
    if errno != Errno::ENOENT {
        return None;
    }
    // `/proc/PID` goes away with its process.
    let name = path.strip_prefix("/proc").ok().and_then(|rest| rest.iter().next()?.to_str());
    let pid = name.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // A zombie has none either.
    let has_ended = |pid: &&str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_err();
    if let Some(pid) = pid.filter(has_ended) {
        return Some(format!(
            "process {pid} has ended, or was never there: a stopped container has no namespaces"
        ));
    }
    let missing = davit_rootfs::missing(path)?;
    Some(format!("{} is missing on the host", missing.display()))
}

/// The hint for a `linux.namespaces[].path` of another kind, by the flag of that kind.
pub(crate) fn of_other_kind(flag: i32) -> Option<String> {
    let kind = davit_namespaces::Kind::ALL.into_iter().find(|kind| kind.flag() == flag)?;
    Some(format!("it is a {kind} namespace"))
}
