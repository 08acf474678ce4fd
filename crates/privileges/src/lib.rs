//! What a container's process may do: capabilities, ids, limits, no_new_privs, keyring.
//!
//! [`plan`] turns `process` of config.json into an ordered list of [`Op`]s; [`apply`] performs
//! them in the process that will become the container's. `exec` and init use the same list, so
//! that the one is never weaker than the other.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod affinity;
mod apply;
pub mod capability;
pub mod io_priority;
mod label;
pub mod memory_policy;
mod plan;
mod ranges;
pub mod rlimit;
pub mod scheduler;

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use apply::apply;
pub use label::{Attribute, SecurityModules};
pub use plan::{Host, Plan, plan};

/// One step of confinement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A session keyring of the container's own (keyctl(2)); a kernel without keyrings is fine.
    JoinSessionKeyring(CString),
    /// A label of a security module.
    Label {
        /// What is labelled.
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
        /// The limit that is enforced.
        soft: u64,
        /// The ceiling of the soft limit.
        hard: u64,
    },
    /// Scheduling policy and its parameters (sched_setattr(2)).
    Scheduler(scheduler::Scheduler),
    /// Class and priority of input and output (ioprio_set(2)).
    IoPriority(io_priority::IoPriority),
    /// The NUMA nodes that memory is taken from (set_mempolicy(2)).
    MemoryPolicy(memory_policy::MemoryPolicy),
    /// All processors of the cpuset (sched_setaffinity(2)). Since Linux 6.2 a cpuset lets a process no longer out of
    /// what its caller, or a service manager, had confined it to.
    AnyProcessor,
    /// The processors to run on (sched_setaffinity(2)), of `exec` alone.
    Affinity {
        /// Whether it is the list for after the change of cgroup.
        r#final: bool,
        /// The processors, as a mask.
        cpus: Vec<u64>,
    },
    /// The standard streams belong to the container's user (fchown(2)), so that it may reopen
    /// them through /proc/self/fd; streams that cannot change hands stay as they are.
    OwnStandardStreams(u32),
    /// No exec grants anything any more (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    NoNewPrivileges,
    /// The bounding set shrinks to this mask.
    Bounding(u64),
    /// Permitted capabilities outlive the change of user (prctl(2), `PR_SET_KEEPCAPS`).
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
    /// What is permitted is effective again, for the steps that are left after the change of user.
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
            Self::AnyProcessor => f.write_str("run on any processor of the cpuset"),
            Self::Affinity { r#final, cpus } => {
                let moment = if *r#final { "final" } else { "initial" };
                write!(f, "process.execCPUAffinity.{moment} {}", ranges::List(cpus))
            }
            Self::OwnStandardStreams(uid) => write!(f, "standard streams belong to uid {uid}"),
            Self::NoNewPrivileges => f.write_str("process.noNewPrivileges"),
            Self::Bounding(mask) => {
                write!(f, "process.capabilities.bounding {}", capability::Names(*mask))
            }
            Self::KeepCapabilities => f.write_str("keep capabilities over the change of user"),
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
    /// Whether it says on which processors the process runs.
    #[must_use]
    pub const fn says_where_to_run(&self) -> bool {
        matches!(self, Self::AnyProcessor | Self::Affinity { .. })
    }

    /// What the user can do about this step's error, where the errno alone does not say it.
    #[must_use]
    pub fn hint(&self, errno: Errno) -> Option<&'static str> {
        match (self, errno) {
            (Self::Label { attribute: Attribute::AppArmor, .. }, Errno::ENOENT) => {
                Some("the profile is not loaded: apparmor_parser --replace FILE")
            }
            (Self::Label { attribute: Attribute::Selinux, .. }, Errno::EINVAL) => {
                Some("the loaded policy does not know this label")
            }
            _ => None,
        }
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
    /// 4294967295 means "no change" to the kernel, so it is nobody's id.
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
    /// The spec has one personality flag-less form.
    #[error("linux.personality.flags: {0:?} is not supported: the spec defines no flag")]
    PersonalityFlag(String),
    /// A scheduling parameter that the kernel would refuse, or take for another.
    #[error("process.scheduler.{field}: {reason}")]
    Scheduler {
        /// Field of the object.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There are eight I/O priorities.
    #[error("process.ioPriority.priority: {0} is not within 0..=7")]
    IoPriority(i64),
    /// A memory policy that no kernel takes.
    #[error("linux.memoryPolicy.{field}: {reason}")]
    MemoryPolicy {
        /// Field of the object.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of processors that is none.
    #[error("process.execCPUAffinity.{field}: {reason}")]
    Affinity {
        /// Field of the object.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A label for a security module that is not there.
    #[error("{field}: this kernel has no {module}")]
    NoModule {
        /// Field of config.json.
        field: &'static str,
        /// The module.
        module: &'static str,
    },
    /// A string with a NUL byte cannot be given to the kernel.
    #[error("{0}: contains a NUL byte")]
    Nul(&'static str),
}
