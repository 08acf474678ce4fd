//! Numbers of the descriptor slots that a plan uses.

/// The FIFO on which a created container waits for `start`.
pub(crate) const START: u16 = 0;
/// The FIFO on which it answers.
pub(crate) const ANSWER: u16 = 63;
/// The process whose namespaces `exec` joins.
pub(crate) const PROCESS: u16 = 1;
/// The pty master.
pub(crate) const MASTER: u16 = 2;
/// The container's terminal.
pub(crate) const TERMINAL: u16 = 3;
/// The first of the namespaces that are joined by path; there are eight kinds.
pub(crate) const JOINED: u16 = 4;
/// The first of the `cgroup.procs` files of cgroup v1.
pub(crate) const CGROUP: u16 = 12;
/// The first of the files to which operations are traced (`--debug`, `--timings`).
pub(crate) const TRACE: u16 = 56;
/// Standard output of hooks in the container.
pub(crate) const HOOK_STDOUT: u16 = 60;
/// Standard error of hooks in the container.
pub(crate) const HOOK_STDERR: u16 = 61;
/// `cgroup.procs` of the sub-cgroup for the container's own use.
pub(crate) const DELEGATED: u16 = 62;
/// The first of the mount sources.
pub(crate) const SOURCES: u16 = 64;
