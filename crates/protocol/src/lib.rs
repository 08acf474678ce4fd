//! The protocol between the runtime and the process that it creates.
//!
//! One `SOCK_SEQPACKET` socketpair carries it, so that a packet is a message and an end of file is
//! the end of the peer. The child sends what stands on the left; the runtime acts, in brackets, and
//! answers where there is an answer; `(waits)` marks the side that waits for it. Each row is sent
//! only if the container's plan needs it.
//!
//! ```text
//!  [ child ]                            [ runtime ]
//!
//!  first process, in namespaces/src/launch.rs, before it executes davit's init:
//!    (waits)                            [has systemd put it into its cgroup]
//!                                   <-- Go
//!    WriteIdMaps                    --> [writes uid_map and gid_map of its user namespace]
//!    (waits)                        <-- Go
//!
//!  init, until the process that stays is found:
//!    Forked(pid)                    --> [opens a pidfd of the second process]
//!      the first process exits; the second:
//!    (waits)                        <-- Go
//!    Vforked(pid)                   --> [opens a pidfd of the second process]       (exec only)
//!      the second process continues; the first sleeps until the second has executed, and exits
//!    MoveToCgroup                   --> [writes its pid to cgroup.procs]             (exec only)
//!    (waits)                        <-- Go
//!
//!  init, while it sets up the container:
//!    MoveNetDevice(n)               --> [moves device n into its network namespace]
//!    (waits)                        <-- Go
//!    Console + pty master           --> [sends the pty master to --console-socket]
//!    (waits)                            [has written the identity of init]            (run only)
//!                                   <-- Go
//!    RunHooks                       --> [runs the prestart and createRuntime hooks]
//!    (waits)                        <-- Go
//!    Created                        --> [writes the state "created"]
//!    (waits)                        <-- Go, once `start` is called
//!    Executing                      --> [an end of file after it: execve(2) succeeded]
//!    Listener + seccomp listener    --> [sends the listener to the seccomp agent]
//!
//!  any process, at any time:
//!    Failed(report)                 --> [reports the failure; the sender exits]
//!    StartFailed(failure)           --> [the same, after `start` was called]
//! ```
//!
//! An end of file where a message is due means that the peer is dead. Init then exits, so that
//! nothing outlives a runtime that was killed.
//!
//! A created container is confined already, perhaps by a seccomp filter. It therefore waits for
//! `start` on a FIFO and answers on another, both opened beforehand, with read(2) and write(2)
//! alone. `start` writes `Go`; the answer is `Executing` and an end of file (the program was
//! executed), or `StartFailed`. A FIFO in packet mode (pipe(7), `O_DIRECT`) preserves message
//! boundaries as the socket does.
//!
//! The two ends of the socket are one program. Those of the FIFOs need not be: davit may be
//! upgraded between `create` and `start`. Each packet on a FIFO therefore begins with
//! [`START_PROTOCOL`], and the encoding of these three messages is fixed.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod channel;

use serde::{Deserialize, Serialize};

pub use channel::{Channel, ReceiveError};

/// Maximum length of [`Report::detail`] and [`StartFailure::message`].
pub const MAX_DETAIL: usize = 1024;

/// The version of the messages between `start` and a created container: the first byte of each.
pub const START_PROTOCOL: u8 = 1;

/// One message; who sends it when is drawn at the head of this crate.
///
/// The order of the variants is the encoding: new variants go to the end, because `Executing`, `Go`
/// and `StartFailed` are understood by other versions of davit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Asks for the id maps of the sender's new user namespace.
    WriteIdMaps,
    /// The sender has forked; the child, with this pid in the sender's pid namespace, continues.
    Forked(i32),
    /// The sender continues as a second process with this pid, a child of the runtime; the first
    /// process exits once the second has executed.
    Vforked(i32),
    /// Asks to be moved to the container's cgroup.
    MoveToCgroup,
    /// Asks for a network device, by its index in the plan.
    MoveNetDevice(u32),
    /// Carries the pty master of the container's terminal.
    Console,
    /// Asks for the hooks that run before pivot_root(2).
    RunHooks,
    /// The container is created; the user's program is next.
    Created,
    /// The user's program is executed next: if no message follows, it was.
    Executing,
    /// Carries the listener of the seccomp filter; the sender does not wait.
    Listener,
    /// Continue: the answer of the runtime to a request.
    Go,
    /// An operation failed; the sender exits.
    Failed(Report),
    /// An operation after `start` failed; the sender exits.
    StartFailed(StartFailure),
}

/// Where init failed. The runtime holds the same plan, and knows the operation from its indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Index of the section of the plan.
    pub section: u32,
    /// Index of the operation in the section.
    pub op: u32,
    /// The errno.
    pub errno: i32,
    /// The system call.
    pub call: String,
    /// The output of a hook; at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// The failure of a created container to start. `start` may be another version of davit, without
/// the plan: the failure is told in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// The error; at most [`MAX_DETAIL`] bytes.
    pub message: String,
    /// Its hint; empty if there is none.
    pub hint: String,
    /// The path of the hook that failed; empty if it was another operation.
    pub hook: String,
    /// The errno.
    pub errno: i32,
}
