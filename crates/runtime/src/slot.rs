//! Numbers of the descriptor slots that a plan uses.

/// The socket on which a created container waits for `start`.
pub(crate) const START: u16 = 0;
/// The process whose namespaces `exec` joins.
pub(crate) const PROCESS: u16 = 1;
/// The side of the terminal that the caller keeps.
pub(crate) const MASTER: u16 = 2;
/// The side of the terminal that the container has.
pub(crate) const TERMINAL: u16 = 3;
/// The first of the namespaces that are joined by path; there are eight kinds.
pub(crate) const JOINED: u16 = 4;
/// The first of the `cgroup.procs` files of cgroup v1.
pub(crate) const CGROUP: u16 = 12;
/// Where hooks inside print to.
pub(crate) const HOOK_STDOUT: u16 = 60;
/// Where hooks inside print errors to.
pub(crate) const HOOK_STDERR: u16 = 61;
/// `cgroup.procs` of the sub-cgroup for the container's own use.
pub(crate) const DELEGATED: u16 = 62;
/// The first of the mount sources.
pub(crate) const SOURCES: u16 = 64;
