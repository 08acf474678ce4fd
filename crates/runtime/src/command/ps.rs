//! `ps`: the processes of a container.

use std::os::unix::fs::MetadataExt;

use super::pause;
use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::process::Process;
use crate::record::{Record, Root};

/// The pids of all processes of a container, as the runtime sees them, sorted. A stopped container
/// may still have some.
///
/// # Errors
/// There is no such container; nothing tells its processes from others.
pub fn processes(root: &Root, id: &Id) -> Result<Vec<i32>> {
    let record = root.get(id)?.record()?;
    match pause::cgroup(&record) {
        Ok(cgroup) => Ok(cgroup.procs()?),
        Err(error) => without_cgroup(&record, error),
    }
}

/// Without a cgroup of its own, a pid namespace of its own tells.
fn without_cgroup(record: &Record, error: Error) -> Result<Vec<i32>> {
    match record.init {
        Some(init) if record.own_pid_namespace => in_namespace_of(init),
        _ => Err(error.hint("nor a pid namespace: its processes cannot be told from others")),
    }
}

fn in_namespace_of(init: Process) -> Result<Vec<i32>> {
    let namespace = |pid: i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|namespace| namespace.ino())
    };
    let Some(wanted) = namespace(init.pid).filter(|_| init.runs()) else { return Ok(Vec::new()) };
    let entries = std::fs::read_dir("/proc").map_err(|error| Error::new(error.to_string()));
    let mut pids: Vec<i32> = entries
        .within(|| "/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid) == Some(wanted))
        .collect();
    pids.sort_unstable();
    Ok(pids)
}
