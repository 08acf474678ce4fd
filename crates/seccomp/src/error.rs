//! Errors of profiles.

use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccompAction;

/// An error of `linux.seccomp`, with its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no table of system calls for the architecture of the host.
    #[error("linux.seccomp: no table of system calls for the architecture of this host")]
    NoTable,
    /// An errno for an action that returns none.
    #[error("{field}: {action} returns no errno")]
    ErrnoUnused {
        /// Path of the errno.
        field: String,
        /// The action.
        action: LinuxSeccompAction,
    },
    /// An errno that is too large.
    #[error("{field}: {value} is greater than {max}")]
    ErrnoTooBig {
        /// Path of the errno.
        field: String,
        /// Its value.
        value: u32,
        /// The maximum.
        max: u32,
    },
    /// An entry without names.
    #[error("linux.seccomp.syscalls[{entry}].names: empty, at least one name is needed")]
    NoNames {
        /// Index of the entry.
        entry: usize,
    },
    /// An empty name.
    #[error("linux.seccomp.syscalls[{entry}].names[{name}]: empty")]
    EmptyName {
        /// Index of the entry.
        entry: usize,
        /// Index of the name.
        name: usize,
    },
    /// An argument that system calls do not have.
    #[error(
        "linux.seccomp.syscalls[{entry}].args[{arg}].index: {index} is greater than 5, the last argument"
    )]
    ArgumentIndex {
        /// Index of the entry.
        entry: usize,
        /// Index of the condition.
        arg: usize,
        /// The argument it tests.
        index: usize,
    },
    /// Two conditional entries contradict each other.
    #[error(
        "linux.seccomp.syscalls[{entry}].action: contradicts syscalls[{earlier}], which has another action for \
         \"{name}\" with the same args"
    )]
    Contradiction {
        /// The later entry.
        entry: usize,
        /// The earlier entry.
        earlier: usize,
        /// The call.
        name: String,
    },
    /// NOTIFY without an agent.
    #[error("{field}: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath")]
    NotifyWithoutListener {
        /// Path of the action.
        field: String,
    },
    /// NOTIFY where it would hang the container.
    #[error(
        "{field}: SCMP_ACT_NOTIFY is not possible here: the runtime itself would wait for the answer"
    )]
    NotifyRefused {
        /// Path of the action.
        field: String,
    },
    /// An invalid path of the agent's socket.
    #[error("linux.seccomp.listenerPath: {path:?} {reason}")]
    ListenerPath {
        /// The path.
        path: PathBuf,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// The filter allows no system call to send the listener to the agent.
    #[error(
        "{field}: SCMP_ACT_NOTIFY needs the filter to allow sendmsg or sendmmsg: the agent gets its \
         descriptor by one of them"
    )]
    CannotSendListener {
        /// Path of the action.
        field: String,
    },
    /// Metadata without an agent.
    #[error("linux.seccomp.listenerMetadata: must not be set without listenerPath")]
    MetadataWithoutListener,
    /// A flag that needs NOTIFY.
    #[error(
        "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs an action SCMP_ACT_NOTIFY"
    )]
    WaitWithoutNotify,
    /// More instructions than the kernel accepts.
    #[error(
        "linux.seccomp: compiles to {instructions} instructions for {architectures} architectures, \
         and the kernel accepts at most {max}: use fewer args"
    )]
    TooLong {
        /// Length of the program.
        instructions: usize,
        /// Architectures in it.
        architectures: usize,
        /// The kernel's limit.
        max: usize,
    },
}
