//! Privileges of a container's process: capabilities, ids, limits, no_new_privs, keyring.
//!
//! [`plan`] turns `process` of config.json into an ordered list of [`Op`]s; [`apply`] performs them
//! in the process that executes the user's program. `exec` and init use the same list, so that
//! neither is weaker than the other.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod affinity;
mod apply;
pub mod capability;
mod hint;
pub mod io_priority;
mod label;
pub mod memory_policy;
mod plan;
mod ranges;
pub mod rlimit;
pub mod scheduler;

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use apply::apply;
pub use label::{Attribute, SecurityModules};
pub use plan::{Host, Plan, plan};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Creates and joins a session keyring (keyctl(2)); ignored by a kernel without keyrings.
    JoinSessionKeyring(CString),
    /// Sets a label of a security module.
    Label {
        /// The attribute.
        attribute: Attribute,
        /// The label.
        label: CString,
    },
    /// Execution domain (personality(2)).
    Personality(u64),
    /// File mode creation mask (umask(2)).
    Umask(u32),
    /// One resource limit (prlimit(2)).
    Rlimit {
        /// Index in `process.rlimits`.
        index: usize,
        /// Its name in config.json.
        name: String,
        /// Its number in the kernel.
        resource: u32,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Scheduling policy and its parameters (sched_setattr(2)).
    Scheduler(scheduler::Scheduler),
    /// I/O class and priority (ioprio_set(2)).
    IoPriority(io_priority::IoPriority),
    /// NUMA memory policy (set_mempolicy(2)).
    MemoryPolicy(memory_policy::MemoryPolicy),
    /// Resets the affinity to all CPUs of the cpuset (sched_setaffinity(2)): since Linux 6.2 the
    /// affinity of the caller would still apply in another cpuset.
    ResetAffinity,
    /// The CPUs to run on (sched_setaffinity(2)), only for `exec`.
    Affinity {
        /// Whether it is `final`, for after the change of cgroup.
        is_final: bool,
        /// The CPUs, as a mask.
        cpus: Vec<u64>,
    },
    /// Changes the owner of the standard streams to the container's user (fchown(2)), who may
    /// reopen them through /proc/self/fd; ignored for streams whose owner cannot be changed.
    ChownStandardStreams(u32),
    /// execve(2) grants no privileges any more (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    NoNewPrivileges,
    /// Reduces the bounding set to this mask.
    Bounding(u64),
    /// Permitted capabilities survive the change of uid (prctl(2), `PR_SET_KEEPCAPS`).
    KeepCapabilities,
    /// Supplementary groups, exactly these (setgroups(2)).
    Groups(Vec<u32>),
    /// Real, effective and saved ids (setresgid(2), setresuid(2)).
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Makes permitted capabilities effective again, for the operations after the change of uid.
    RaiseEffective,
    /// The capability sets that the process executes with (capset(2), `PR_CAP_AMBIENT`).
    Capabilities {
        /// Effective set, as a mask.
        effective: u64,
        /// Permitted set, as a mask.
        permitted: u64,
        /// Inheritable set, as a mask.
        inheritable: u64,
        /// Ambient set, as a mask.
        ambient: u64,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinSessionKeyring(name) => {
                write!(f, "session keyring {}", name.to_string_lossy())
            }
            Self::Label { attribute, label } => label::show(f, *attribute, label),
            Self::Personality(domain) => write!(f, "linux.personality {domain:#x}"),
            Self::Umask(mask) => write!(f, "process.user.umask {mask:04o}"),
            Self::Rlimit { index, name, soft, hard, .. } => {
                let (soft, hard) = (rlimit::Limit(*soft), rlimit::Limit(*hard));
                write!(f, "process.rlimits[{index}] {name} {soft} (at most {hard})")
            }
            Self::Scheduler(scheduler) => write!(f, "process.scheduler {scheduler}"),
            Self::IoPriority(priority) => write!(f, "process.ioPriority {priority}"),
            Self::MemoryPolicy(policy) => write!(f, "linux.memoryPolicy {policy}"),
            Self::ResetAffinity => f.write_str("run on any CPU of the cpuset"),
            Self::Affinity { is_final, cpus } => {
                let list = if *is_final { "final" } else { "initial" };
                write!(f, "process.execCPUAffinity.{list} {}", ranges::List(cpus))
            }
            Self::ChownStandardStreams(uid) => write!(f, "chown standard streams to uid {uid}"),
            Self::NoNewPrivileges => f.write_str("process.noNewPrivileges"),
            Self::Bounding(mask) => {
                write!(f, "process.capabilities.bounding {}", capability::Names(*mask))
            }
            Self::KeepCapabilities => f.write_str("keep capabilities across the change of uid"),
            Self::Groups(groups) => write!(f, "process.user.additionalGids {groups:?}"),
            Self::Ids { uid, gid } => write!(f, "process.user.uid {uid}, gid {gid}"),
            Self::RaiseEffective => f.write_str("make permitted capabilities effective"),
            Self::Capabilities { effective, permitted, inheritable, ambient } => write!(
                f,
                "process.capabilities effective {}; permitted {}; inheritable {}; ambient {}",
                capability::Names(*effective),
                capability::Names(*permitted),
                capability::Names(*inheritable),
                capability::Names(*ambient)
            ),
        }
    }
}

impl Op {
    /// Advice for this operation's error, where the errno is not enough.
    #[must_use]
    pub fn hint(&self, errno: Errno) -> Option<Cow<'static, str>> {
        hint::of(self, errno)
    }
}

/// A field of config.json that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A resource limit appears twice.
    #[error("process.rlimits[{index}].type: {name} is listed twice")]
    DuplicateRlimit {
        /// Index of the second one.
        index: usize,
        /// The limit.
        name: String,
    },
    /// A soft limit is above its hard limit.
    #[error("process.rlimits[{index}]: {name}: soft limit {soft} is above the hard limit {hard}")]
    SoftAboveHard {
        /// Index in the list.
        index: usize,
        /// The limit.
        name: String,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// 4294967295, which means "no change" to the kernel.
    #[error("{field}: {id} is not a valid id")]
    Id {
        /// Field of config.json.
        field: String,
        /// The number.
        id: u32,
    },
    /// A umask has nine bits.
    #[error("process.user.umask: {0:#o} is above 0777")]
    Umask(u32),
    /// Groups cannot be set in this user namespace.
    #[error(
        "process.user.additionalGids: the user namespace denies setgroups (its group ids were mapped without privilege)"
    )]
    GroupsDenied,
    /// A personality flag, of which the specification has none.
    #[error("linux.personality.flags: {0:?} is not supported: the spec defines no flag")]
    PersonalityFlag(String),
    /// A scheduling parameter that the kernel would refuse, or take for another value.
    #[error("process.scheduler.{field}: {reason}")]
    Scheduler {
        /// Field of the object.
        field: &'static str,
        /// Why it is invalid.
        reason: String,
    },
    /// There are eight I/O priorities.
    #[error("process.ioPriority.priority: {0} is not within 0..=7")]
    IoPriority(i64),
    /// A memory policy that every kernel refuses.
    #[error("linux.memoryPolicy.{field}: {reason}")]
    MemoryPolicy {
        /// Field of the object.
        field: &'static str,
        /// Why it is invalid.
        reason: String,
    },
    /// An invalid list of CPUs.
    #[error("process.execCPUAffinity.{field}: {reason}")]
    Affinity {
        /// Field of the object.
        field: &'static str,
        /// Why it is invalid.
        reason: String,
    },
    /// A label for a security module that the kernel does not have.
    #[error("{field}: this kernel has no {module}")]
    NoModule {
        /// Field of config.json.
        field: &'static str,
        /// The module.
        module: &'static str,
    },
    /// A string with a NUL byte.
    #[error("{0}: contains a NUL byte")]
    Nul(&'static str),
}
