//! Make and join namespaces, and start one process in them.
//!
//! [`plan`] decides from `linux.namespaces` which namespaces the first process is born into, which
//! it joins or leaves for later, and whether the kernel forces a second process ([`plan`]'s rule).
//! [`launch`] makes the first process and lets it execute the init program; [`apply`] does the rest
//! inside it. The two sides speak in [`handshake::Message`]s.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod apply;
pub mod handshake;
pub mod id_maps;
mod launch;
pub mod net_devices;
mod plan;
mod sysctl;

use std::ffi::CString;
use std::fmt;

use oci_spec::runtime::LinuxNamespaceType;
use serde::{Deserialize, Serialize};

pub use apply::apply;
pub use id_maps::{IdMaps, Mapping};
pub use launch::{Launch, Program, SECTION as LAUNCH_SECTION, launch};
pub use plan::{Host, Joined, Plan, join_running, plan};

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// user_namespaces(7)
    User,
    /// pid_namespaces(7)
    Pid,
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// time_namespaces(7)
    Time,
    /// cgroup_namespaces(7)
    Cgroup,
    /// mount_namespaces(7)
    Mount,
}

impl Kind {
    /// Its `CLONE_NEW*` flag.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Time => sys::clone::NEWTIME as i32,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Mount => libc::CLONE_NEWNS,
        }
    }

    /// Its name in config.json.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Time => "time",
            Self::Cgroup => "cgroup",
            Self::Mount => "mount",
        }
    }
}

impl From<LinuxNamespaceType> for Kind {
    fn from(kind: LinuxNamespaceType) -> Self {
        match kind {
            LinuxNamespaceType::User => Self::User,
            LinuxNamespaceType::Pid => Self::Pid,
            LinuxNamespaceType::Network => Self::Network,
            LinuxNamespaceType::Ipc => Self::Ipc,
            LinuxNamespaceType::Uts => Self::Uts,
            LinuxNamespaceType::Time => Self::Time,
            LinuxNamespaceType::Cgroup => Self::Cgroup,
            LinuxNamespaceType::Mount => Self::Mount,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One step into the namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Enters a cgroup by writing "0" to its `cgroup.procs` (cgroups(7)): before a cgroup namespace
    /// that is to begin there, or after one that begins above.
    EnterCgroup {
        /// The slot that holds the open file.
        slot: u16,
    },
    /// Waits until the runtime has had it put into its cgroup by somebody else: before there are id
    /// maps, so that it is still the process of the user who asks.
    AwaitCgroup,
    /// `process.oomScoreAdj`, while /proc/self still belongs to the runtime's user (proc(5)).
    OomScoreAdj(i32),
    /// Joins a namespace by path (setns(2)).
    Join {
        /// Its kind.
        kind: Kind,
        /// The slot that holds its descriptor.
        slot: u16,
        /// Where it is in config.json and on disk, for messages.
        #[serde(skip)]
        origin: String,
    },
    /// Joins all namespaces of `flags` of a running process at once (setns(2) with a pidfd).
    JoinProcess {
        /// The slot that holds the pidfd.
        slot: u16,
        /// `CLONE_NEW*`
        flags: i32,
    },
    /// New namespaces for this process (unshare(2)).
    Unshare(Vec<Kind>),
    /// Waits until the runtime has written the id maps of this process's new user namespace.
    AwaitIdMaps,
    /// Becomes uid and gid 0 of the user namespace, as which the container is built.
    BecomeRoot,
    /// Offsets of the clocks of the new time namespace (time_namespaces(7)).
    TimeOffsets(CString),
    /// Goes on in a second process: pid and time namespaces take effect in children only.
    Fork(Vec<Kind>),
    /// The same without a copy of the memory: the first process sleeps until the second has executed.
    Vfork,
    /// Brings the loopback device of a new network namespace up.
    LoopbackUp,
    /// Waits until the runtime has moved a network device here, and makes it what it was.
    NetDevice {
        /// Which of the plan's moves.
        number: u32,
        /// Its name outside, as in config.json.
        device: String,
        /// Its name here; `%d` at the end is for the kernel to number.
        name: String,
        /// The addresses that it loses on the way.
        addresses: Vec<net_devices::Address>,
    },
    /// sethostname(2)
    Hostname(String),
    /// setdomainname(2)
    Domainname(CString),
    /// Writes a namespaced kernel parameter, through a procfs of our own.
    Sysctl {
        /// Its name in config.json.
        name: String,
        /// Its path below /proc.
        path: CString,
        /// The bytes to write.
        value: String,
    },
}

impl Op {
    /// Whether it waits for an answer of the runtime.
    #[must_use]
    pub const fn asks(&self) -> bool {
        matches!(
            self,
            Self::AwaitCgroup | Self::AwaitIdMaps | Self::Fork(_) | Self::NetDevice { .. }
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |kinds: &[Kind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        match self {
            Self::EnterCgroup { .. } => f.write_str("enter the cgroup"),
            Self::AwaitCgroup => f.write_str("wait until it is in its cgroup"),
            Self::OomScoreAdj(score) => write!(f, "process.oomScoreAdj {score}"),
            Self::Join { kind, origin, .. } if origin.is_empty() => {
                write!(f, "join the {kind} namespace")
            }
            Self::Join { kind, origin, .. } => write!(f, "{origin}: join the {kind} namespace"),
            Self::JoinProcess { .. } => {
                f.write_str("join the namespaces of the container's process")
            }
            Self::Unshare(kinds) => write!(f, "new namespaces: {}", list(kinds)),
            Self::AwaitIdMaps => f.write_str("wait for the id maps of the user namespace"),
            Self::BecomeRoot => f.write_str("become root of the user namespace"),
            Self::TimeOffsets(text) => {
                write!(
                    f,
                    "linux.timeOffsets: {}",
                    text.to_string_lossy().trim().replace('\n', ", ")
                )
            }
            Self::Vfork => f.write_str("go on in a second process"),
            Self::Fork(kinds) if kinds.is_empty() => f.write_str("go on in a second process"),
            Self::Fork(kinds) => {
                write!(f, "go on in a second process, new namespaces: {}", list(kinds))
            }
            Self::LoopbackUp => f.write_str("loopback up"),
            Self::NetDevice { device, name, addresses, .. } => {
                write!(f, "linux.netDevices[{device:?}]: fetch as {name:?}")?;
                for (index, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if index == 0 { ", with " } else { " " })?;
                }
                f.write_str(", up")
            }
            Self::Hostname(name) => write!(f, "hostname {name:?}"),
            Self::Domainname(name) => write!(f, "domainname {name:?}"),
            Self::Sysctl { name, value, .. } => write!(f, "linux.sysctl[{name:?}] = {value:?}"),
        }
    }
}

/// A field of config.json that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A kind of namespace appears twice.
    #[error("linux.namespaces[{index}].type: {kind} is listed twice")]
    Duplicate {
        /// Index of the second one.
        index: usize,
        /// Its kind.
        kind: Kind,
    },
    /// A path that is not absolute.
    #[error("linux.namespaces[{index}].path: {path:?} is not an absolute path")]
    RelativePath {
        /// Index in the list.
        index: usize,
        /// The path.
        path: String,
    },
    /// A field that needs a namespace which is not there.
    #[error("{field}: needs a {kind} namespace in linux.namespaces")]
    Needs {
        /// Field of config.json.
        field: String,
        /// What is missing.
        kind: Kind,
    },
    /// A new user namespace without id mappings.
    #[error("{0}: a new user namespace needs at least one mapping")]
    NoMapping(&'static str),
    /// The container is built by uid 0 of its user namespace.
    #[error("{0}: container id 0 is not mapped, and the container is built as that id")]
    RootNotMapped(&'static str),
    /// A mapping that the kernel would refuse.
    #[error("{field}[{index}]: {reason}")]
    Mapping {
        /// `linux.uidMappings` or `linux.gidMappings`
        field: &'static str,
        /// Index in the list.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Clock offsets can be set in a new namespace only.
    #[error(
        "linux.timeOffsets: the time namespace is joined by path: its offsets cannot be changed"
    )]
    TimeOffsetsOfJoined,
    /// A clock that has no offset.
    #[error("linux.timeOffsets[{0:?}]: only monotonic and boottime have an offset")]
    Clock(String),
    /// A parameter that belongs to no namespace.
    #[error("linux.sysctl[{0:?}]: is not a namespaced parameter: it would change the host")]
    Sysctl(String),
    /// The hostname has a field of its own.
    #[error("linux.sysctl[\"kernel.hostname\"]: conflicts with the field hostname; use that one")]
    SysctlHostname,
    /// A string that the kernel cannot take.
    #[error("{field}: {reason}")]
    Text {
        /// Field of config.json.
        field: String,
        /// What is wrong.
        reason: &'static str,
    },
}
