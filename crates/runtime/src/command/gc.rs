//! `gc`: removes what is left of containers that have no process and no cgroup any more.

use std::time::Duration;

use super::delete::{delete_locked, with_linked_cgroup};
use crate::error::{ErrorKind, Result};
use crate::id::Id;
use crate::state::{ContainerDir, Record, StateRoot};

/// The age at which a directory without a readable record is no longer one that is being made.
const SETTLED: Duration = Duration::from_secs(10);

/// What is left of a container.
#[derive(Debug)]
pub struct Leftover {
    /// The container's id.
    pub id: Id,
    /// Why nothing of it runs.
    pub reason: String,
    /// Whether it was removed, if that was asked for.
    pub removed: Result<bool>,
}

/// Finds the containers of which only the state directory is left: no process, no cgroup, and no
/// command that works on them. With `remove` they are deleted, and their poststop hooks run.
///
/// # Errors
/// The state root cannot be read, or belongs to another user.
pub fn gc(root: &StateRoot, remove: bool) -> Result<Vec<Leftover>> {
    let mut leftovers = Vec::new();
    for id in root.ids()? {
        let Some(dir) = root.find(&id)? else { continue };
        let lock = match dir.lock(Duration::ZERO) {
            // A command works on it, or has just deleted it.
            Err(error) if matches!(error.kind(), ErrorKind::Locked | ErrorKind::NotFound) => {
                continue;
            }
            lock => lock?,
        };
        let Some(reason) = reason(&dir)? else { continue };
        let removed = match remove {
            true => delete_locked(root, &dir, true).map(|()| true),
            false => Ok(false),
        };
        drop(lock);
        leftovers.push(Leftover { id, reason, removed });
    }
    Ok(leftovers)
}

/// Why nothing of a container runs; `None` if something may.
fn reason(dir: &ContainerDir) -> Result<Option<String>> {
    let (record, reason) = match dir.record() {
        Ok(record) => (record, "stopped, and its cgroup is gone".to_owned()),
        // A command may have made the directory just now, and not locked it yet.
        Err(_) if dir.age()? < SETTLED => return Ok(None),
        Err(error) => (dir.salvaged_record(), format!("damaged: {error}")),
    };
    if record.is_of_another_boot() {
        return Ok(Some("of an earlier boot".to_owned()));
    }
    Ok(is_gone(&with_linked_cgroup(record, dir)?).then_some(reason))
}

fn is_gone(record: &Record) -> bool {
    let has_ended = !record.init.is_some_and(|init| init.is_alive());
    has_ended && record.cgroup.as_ref().is_none_or(davit_cgroups::Cgroup::is_missing)
}
