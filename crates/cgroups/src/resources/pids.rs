//! `linux.resources.pids`.

use oci_spec::runtime::LinuxPids;

use super::{Field, Plan, or_max};
use crate::Error;

const FIELD: Field = Field::Borrowed("linux.resources.pids.limit");

/// The kernel does not start a process in a cgroup that may hold none, so 0 becomes 1: the
/// container's init, and nothing beside it.
pub(super) fn plan(plan: &mut Plan<'_>, pids: LinuxPids) -> Result<(), Error> {
    let limit = match pids.limit() {
        ..=-2 => return Err(Error::value(FIELD, "must be a number of tasks, or -1 for no limit")),
        0 => 1,
        limit => limit,
    };
    let place = plan.place("pids", "pids", FIELD)?;
    plan.write(&place, "pids.max", or_max(limit), FIELD);
    Ok(())
}
