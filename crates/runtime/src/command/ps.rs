//! `ps`: the processes of a container.

use std::os::unix::fs::MetadataExt;

use super::pause;
use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::state::Process;
use crate::state::{Record, StateRoot};

/// The pids of all processes of a container, as the runtime sees them, sorted. A stopped container
/// may still have some.
///
/// # Errors
/// There is no such container; it has neither a cgroup nor a pid namespace that identifies its
/// processes.
pub fn processes(root: &StateRoot, id: &Id) -> Result<Vec<i32>> {
    let record = root.get(id)?.record()?;
    if record.is_of_another_boot() {
        return Ok(Vec::new());
    }
    match pause::cgroup(&record) {
        Ok(cgroup) => Ok(cgroup.procs()?),
        Err(error) => without_cgroup(&record, error),
    }
}

/// Without a cgroup of its own, its pid namespace identifies them.
fn without_cgroup(record: &Record, error: Error) -> Result<Vec<i32>> {
    match record.init {
        Some(init) if record.own_pid_namespace => in_namespace_of(init),
        _ => {
            Err(error.hint("it has no pid namespace either, so its processes cannot be identified"))
        }
    }
}

fn in_namespace_of(init: Process) -> Result<Vec<i32>> {
    let namespace = |pid: i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|namespace| namespace.ino())
    };
    let Some(wanted) = namespace(init.pid).filter(|_| init.is_alive()) else {
        return Ok(Vec::new());
    };
    let entries = std::fs::read_dir("/proc").map_err(|error| Error::new(error.to_string()));
    let mut pids: Vec<i32> = entries
        .within(|| "/proc")?
        .filter_map(|dir| dir.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid) == Some(wanted))
        .collect();
    pids.sort_unstable();
    Ok(pids)
}
