//! A limit of memory that was too small shows as a killed process, or as a system call that fails.

use crate::error::Error;
use crate::record::Record;

/// What davit's init, and the kernel on its behalf, need until the program begins: measured by the integration test
/// `limits_bite`.
const NEED: u64 = 256 << 10;

/// What is to be said of a container that did not get far: that it has had too little memory, where that can be so.
#[must_use]
pub fn want_of_memory(record: &Record) -> Option<String> {
    let cgroup = record.cgroup.as_ref()?;
    let kills = cgroup.oom_kills().ok().flatten().unwrap_or(0);
    words(cgroup.memory_limit().ok().flatten(), kills)
}

fn words(limit: Option<u64>, kills: u64) -> Option<String> {
    match (limit, kills) {
        (Some(limit), _) if limit < NEED => Some(format!(
            "linux.resources.memory.limit is too small: {limit} bytes, and {NEED} are needed before the program begins"
        )),
        (Some(limit), 1..) => Some(format!(
            "the kernel killed it for want of memory: linux.resources.memory.limit is {limit} bytes"
        )),
        (None, 1..) => Some("the kernel killed it for want of memory".to_owned()),
        (_, 0) => None,
    }
}

/// The error, with that as its advice.
pub(super) fn with_want_of_memory(error: Error, record: &Record) -> Error {
    match want_of_memory(record) {
        Some(advice) => error.hint(advice),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_a_limit_names_the_need() {
        let said = words(Some(4096), 0).unwrap();
        assert!(said.contains("4096") && said.contains("262144"), "{said}");
    }

    #[test]
    fn a_kill_names_the_limit_and_its_absence_nothing() {
        assert!(words(Some(1 << 20), 1).unwrap().contains("1048576"));
        assert!(words(None, 2).unwrap().contains("killed"));
        assert_eq!(words(Some(NEED), 0), None);
        assert_eq!(words(None, 0), None);
    }
}
