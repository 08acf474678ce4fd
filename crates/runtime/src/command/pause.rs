//! `pause` and `resume`: freezes and thaws all processes of a container.

use std::time::{Duration, Instant};

use super::LOCK;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::state::Status;
use crate::state::{Record, StateRoot};

/// Timeout for freezing all processes.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// Freezes all processes of a container and returns once all of them are frozen.
///
/// # Errors
/// It is paused already; it does not run; it has no cgroup of its own; a process does not stop.
pub fn pause(root: &StateRoot, id: &Id) -> Result<()> {
    let dir = root.get(id)?;
    let _lock = dir.lock(LOCK)?;
    let record = dir.record()?;
    if Status::of_living(&record)? == Status::Paused {
        return Err(Error::new("container is paused already"));
    }
    cgroup(&record)?.freeze(Instant::now() + FREEZE_TIMEOUT).or_else(|fault| {
        // It may have ended meanwhile, and its cgroup with it.
        Status::of_living(&record)?;
        Err(fault.into())
    })
}

/// Resumes the processes of a paused container.
///
/// # Errors
/// It is not paused.
pub fn resume(root: &StateRoot, id: &Id) -> Result<()> {
    let dir = root.get(id)?;
    let _lock = dir.lock(LOCK)?;
    let record = dir.record()?;
    match Status::of(&record)? {
        Status::Paused => Ok(cgroup(&record)?.thaw()?),
        Status::Stopped => Err(Error::not_running()),
        _ => Err(Error::new("container not paused")),
    }
}

/// The container's cgroup.
///
/// # Errors
/// The container has no cgroup of its own.
pub(super) fn cgroup(record: &Record) -> Result<&davit_cgroups::Cgroup> {
    let own = record.cgroup.as_ref().filter(|cgroup| !cgroup.is_empty());
    own.ok_or_else(|| Error::new("this container has no cgroup of its own"))
}
