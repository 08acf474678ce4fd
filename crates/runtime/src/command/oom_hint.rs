//! A memory limit that is too small shows up as an OOM kill or as ENOMEM.

use crate::error::Error;
use crate::state::Record;

/// The memory that davit's init, and the kernel on its behalf, need until the program starts:
/// measured by the integration test `limits_bite`.
const NEED: u64 = 256 << 10;

/// The hint for a container that failed early, if it may have had too little memory.
#[must_use]
pub fn oom_hint(record: &Record) -> Option<String> {
    let cgroup = record.cgroup.as_ref()?;
    let kills = cgroup.oom_kills().ok().flatten().unwrap_or(0);
    words(cgroup.memory_limit().ok().flatten(), kills)
}

fn words(limit: Option<u64>, kills: u64) -> Option<String> {
    match (limit, kills) {
        (Some(0), _) => Some(format!(
            "linux.resources.memory.limit is too small: less than a page, which the kernel rounds down to 0; davit needs at least {NEED} bytes to start the program"
        )),
        (Some(limit), _) if limit < NEED => Some(format!(
            "linux.resources.memory.limit is too small: {limit} bytes; davit needs at least {NEED} bytes to start the program"
        )),
        (Some(limit), 1..) => Some(format!(
            "the kernel killed it because it ran out of memory: linux.resources.memory.limit is {limit} bytes"
        )),
        (None, 1..) => Some("the kernel killed it because it ran out of memory".to_owned()),
        (_, 0) => None,
    }
}

/// Adds that hint to an error.
pub(super) fn with_oom_hint(error: Error, record: &Record) -> Error {
    error.hinted(oom_hint(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_a_limit_names_the_need() {
        let said = words(Some(4096), 0).unwrap();
        assert!(said.contains("4096") && said.contains("262144"), "{said}");
        let said = words(Some(0), 1).unwrap();
        assert!(said.contains("less than a page") && said.contains("262144"), "{said}");
    }

    #[test]
    fn a_kill_names_the_limit_and_its_absence_nothing() {
        assert!(words(Some(1 << 20), 1).unwrap().contains("1048576"));
        assert!(words(None, 2).unwrap().contains("killed"));
        assert_eq!(words(Some(NEED), 0), None);
        assert_eq!(words(None, 0), None);
    }
}
