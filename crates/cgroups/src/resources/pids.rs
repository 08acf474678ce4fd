//! `linux.resources.pids`.

use oci_spec::runtime::LinuxPids;

use super::{Field, Plan, or_max};
use crate::Error;

const FIELD: Field = Field::Borrowed("linux.resources.pids.limit");

/// 0 means "not set" (docs/limits.md): the docker CLI on podman's socket writes it for "no limit",
/// and with a limit of 0 no process could start.
pub(super) fn plan(plan: &mut Plan<'_>, pids: LinuxPids) -> Result<(), Error> {
    let limit = match pids.limit() {
        ..=-2 => return Err(Error::value(FIELD, "must be a number of tasks, or -1 for no limit")),
        0 => return Ok(()),
        limit => limit,
    };
    let dir = plan.dir("pids", "pids", FIELD)?;
    plan.write(&dir, "pids.max", or_max(limit), FIELD);
    Ok(())
}

/// The specification allows a limit of 0, so ignoring it is worth a warning.
pub(super) fn warning(pids: LinuxPids) -> Option<String> {
    (pids.limit() == 0)
        .then(|| format!("{FIELD}: 0 is taken as not set, and not as a limit of 0 tasks"))
}
