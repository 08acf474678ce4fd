//! Advice for the user, by operation and errno.
//!
//! A hint may read files of the host: hints are only needed after a failure.

use std::borrow::Cow;

use nix::errno::Errno;
use oci_spec::runtime::PosixRlimitType;

use crate::{Attribute, Op, rlimit};

const NR_OPEN: &str = "/proc/sys/fs/nr_open";

pub(crate) fn of(op: &Op, errno: Errno) -> Option<Cow<'static, str>> {
    match (op, errno) {
        (Op::Label { attribute: Attribute::AppArmor, .. }, Errno::ENOENT) => {
            Some("the profile is not loaded: apparmor_parser --replace FILE".into())
        }
        (Op::Label { attribute: Attribute::Selinux, .. }, Errno::EINVAL) => {
            Some("the loaded policy does not have this label".into())
        }
        (Op::Rlimit { resource, hard, .. }, Errno::EPERM) => {
            Some(open_files(*resource, *hard).unwrap_or_else(|| {
                "a hard limit above that of the caller (ulimit -H -a) needs CAP_SYS_RESOURCE".into()
            }))
        }
        _ => None,
    }
}

/// The kernel limits the number of open files (proc_sys_fs(5)).
fn open_files(resource: u32, hard: u64) -> Option<Cow<'static, str>> {
    let max: u64 = std::fs::read_to_string(NR_OPEN).ok()?.trim().parse().ok()?;
    (resource == rlimit::number(PosixRlimitType::RlimitNofile) && hard > max)
        .then(|| format!("the kernel accepts at most {max} ({NR_OPEN})").into())
}
