//! `pause` and `resume`: every process of a container stands still, and goes on.

use std::time::{Duration, Instant};

use super::LOCK;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::record::{Record, Root};
use crate::state::Status;

/// How long the kernel may take until every process stands still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Freezes every process of a container, and returns when all of them stand still.
///
/// # Errors
/// It is paused already; it does not run; it has no cgroup of its own; a process does not stop.
pub fn pause(root: &Root, id: &Id) -> Result<()> {
    let entry = root.get(id)?;
    let _lock = entry.lock(LOCK)?;
    let record = entry.record()?;
    if Status::of_living(&record)? == Status::Paused {
        return Err(Error::new("container is paused already"));
    }
    Ok(cgroup(&record)?.freeze(Instant::now() + PATIENCE)?)
}

/// Lets the processes of a paused container go on.
///
/// # Errors
/// It is not paused.
pub fn resume(root: &Root, id: &Id) -> Result<()> {
    let entry = root.get(id)?;
    let _lock = entry.lock(LOCK)?;
    let record = entry.record()?;
    match Status::of(&record)? {
        Status::Paused => Ok(cgroup(&record)?.thaw()?),
        Status::Stopped => Err(Error::new("container not running")),
        _ => Err(Error::new("container not paused")),
    }
}

/// The container's cgroup.
///
/// # Errors
/// It has none of its own.
pub(super) fn cgroup(record: &Record) -> Result<&cgroups::Cgroup> {
    let own = record.cgroup.as_ref().filter(|cgroup| !cgroup.is_empty());
    own.ok_or_else(|| Error::new("this container has no cgroup of its own"))
}
