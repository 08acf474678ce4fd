//! Creating and joining namespaces, and starting one process in them.
//!
//! [`plan`] decides from `linux.namespaces` which namespaces the first process is created in, which
//! it joins or creates later, and whether a second process is needed. [`launch`] creates the first
//! process, which executes the init program; [`apply`] performs the rest in it. Runtime and init
//! communicate by [`davit_protocol::Message`]s.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod apply;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
pub mod id_maps;
mod launch;
pub mod net_devices;
mod plan;
mod sysctl;

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use oci_spec::runtime::LinuxNamespaceType;
use serde::{Deserialize, Serialize};

pub use apply::apply;
pub use davit_sys::IdMapping;
pub use id_maps::{IdMaps, MapWriter};
pub use launch::{Launch, Program, SECTION as LAUNCH_SECTION, launch};
pub use plan::{Host, Joined, Plan, join_running, plan};

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Time,
        Self::Cgroup,
        Self::Mount,
    ];

    /// Its `CLONE_NEW*` flag.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Time => davit_sys::clone::NEWTIME as i32,
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

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Enters a cgroup by writing "0" to its `cgroup.procs` (cgroups(7)): before creating a cgroup
    /// namespace with that root, or after creating one with the parent as root.
    EnterCgroup {
        /// The slot that holds the open file.
        slot: u16,
    },
    /// Waits until systemd has moved it into its cgroup: before the id maps are written, so that it
    /// is still a process of the calling user.
    AwaitCgroup,
    /// Asks the runtime to move this process into its cgroup, and waits for that: at the limit of
    /// the pids controller it could not have been created there.
    RequestCgroup,
    /// `process.oomScoreAdj`, while /proc/self still belongs to the runtime's user (proc(5)).
    OomScoreAdj(i32),
    /// Joins a namespace by path (setns(2)).
    Join {
        /// Its kind.
        kind: Kind,
        /// The slot that holds its descriptor.
        slot: u16,
        /// Its field and path, for messages.
        #[serde(skip)]
        origin: String,
    },
    /// Joins the namespaces `flags` of a running process at once (setns(2) with a pidfd).
    JoinProcess {
        /// The slot that holds the pidfd.
        slot: u16,
        /// `CLONE_NEW*`
        flags: i32,
    },
    /// Creates namespaces for this process (unshare(2)).
    Unshare(Vec<Kind>),
    /// Waits until the runtime has written the id maps of this process's new user namespace.
    AwaitIdMaps,
    /// Becomes uid and gid 0 of the user namespace, which set up the container.
    SetIdsToRoot,
    /// Offsets of the clocks of the new time namespace (time_namespaces(7)).
    TimeOffsets(CString),
    /// Continues in a second process: pid and time namespaces take effect only in children.
    Fork(Vec<Kind>),
    /// The same without copying memory: the first process sleeps until the second has executed.
    Vfork,
    /// Brings up the loopback device of a new network namespace.
    LoopbackUp,
    /// Waits until the runtime has moved a network device here, and restores its addresses.
    NetDevice {
        /// Index in the moves of the plan.
        number: u32,
        /// Its name on the host, as in config.json.
        device: String,
        /// Its name in the container; the kernel replaces a final `%d` by a number.
        name: String,
        /// The addresses that it loses by the move.
        addresses: Vec<net_devices::Address>,
    },
    /// sethostname(2)
    Hostname(String),
    /// setdomainname(2)
    Domainname(CString),
    /// Writes a namespaced kernel parameter, through a private procfs.
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
    /// Advice for this operation's error, where the errno is not enough.
    #[must_use]
    pub fn hint(&self, errno: Errno) -> Option<String> {
        hint::of(self, errno)
    }

    /// Whether it waits for the runtime.
    #[must_use]
    pub const fn needs_runtime(&self) -> bool {
        matches!(
            self,
            Self::AwaitCgroup
                | Self::RequestCgroup
                | Self::AwaitIdMaps
                | Self::Fork(_)
                | Self::NetDevice { .. }
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
            Self::RequestCgroup => f.write_str("have the runtime move it into the cgroup"),
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
            Self::SetIdsToRoot => f.write_str("become root of the user namespace"),
            Self::TimeOffsets(text) => {
                write!(
                    f,
                    "linux.timeOffsets: {}",
                    text.to_string_lossy().trim().replace('\n', ", ")
                )
            }
            Self::Vfork => f.write_str("continue in a second process"),
            Self::Fork(kinds) if kinds.is_empty() => f.write_str("continue in a second process"),
            Self::Fork(kinds) => {
                write!(f, "continue in a second process, new namespaces: {}", list(kinds))
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
    /// A field that needs a namespace that the container does not have.
    #[error("{field}: needs a {kind} namespace in linux.namespaces")]
    Needs {
        /// Field of config.json.
        field: String,
        /// The kind of namespace.
        kind: Kind,
    },
    /// A new user namespace without id mappings.
    #[error("{0}: a new user namespace needs at least one mapping")]
    NoMapping(&'static str),
    /// Container id 0, which sets up the container, is not mapped.
    #[error("{0}: container id 0 is not mapped, but sets up the container")]
    RootNotMapped(&'static str),
    /// An invalid mapping.
    #[error("{field}[{index}]: {reason}")]
    Mapping {
        /// `linux.uidMappings` or `linux.gidMappings`
        field: &'static str,
        /// Index in the list.
        index: usize,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// Clock offsets with a joined time namespace.
    #[error(
        "linux.timeOffsets: the time namespace is joined by path: its offsets cannot be changed"
    )]
    TimeOffsetsOfJoined,
    /// A clock without an offset.
    #[error("linux.timeOffsets[{0:?}]: only monotonic and boottime have an offset")]
    Clock(String),
    /// A parameter that is not namespaced.
    #[error("linux.sysctl[{0:?}]: is not a namespaced parameter: it would change the host")]
    Sysctl(String),
    /// `kernel.hostname`, which has a field of its own.
    #[error("linux.sysctl[\"kernel.hostname\"]: conflicts with the field hostname; use that one")]
    SysctlHostname,
    /// `kernel.domainname`, with the field `domainname` set too.
    #[error(
        "linux.sysctl[\"kernel.domainname\"]: conflicts with the field domainname; use one of them"
    )]
    SysctlDomainname,
    /// A string that the kernel does not accept.
    #[error("{field}: {reason}")]
    Text {
        /// Field of config.json.
        field: String,
        /// Why it is invalid.
        reason: &'static str,
    },
}
