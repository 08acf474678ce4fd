//! Doors for fuzzing (`make fuzz`).

use crate::mountinfo;

/// /proc/self/mountinfo.
pub fn mountinfo(bytes: &[u8]) {
    let _ = mountinfo::proc_and_sys(bytes);
    mountinfo::mounts(bytes).for_each(drop);
}
