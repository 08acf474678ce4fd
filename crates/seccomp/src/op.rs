//! The operation, its display and serialisation, and its execution.

use std::fmt;
use std::os::fd::OwnedFd;

use davit_sys::Failure;
use davit_sys::seccomp::{self, Instruction};
use nix::errno::Errno;
use oci_spec::runtime::Arch as OciArch;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Arch;
use crate::listener::SendVia;

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Installs a filter.
    Install {
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// The filter.
        program: Program,
        /// The system call by which the listener is sent, for a filter that notifies.
        send_via: Option<SendVia>,
        /// For messages only: it is not passed to init.
        #[serde(skip)]
        summary: FilterSummary,
    },
}

/// A classic BPF program, serialised with the layout of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(pub Vec<Instruction>);

/// A summary of a filter, for `davit explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSummary {
    /// The default return value.
    pub default: u32,
    /// Number of distinct system calls in the profile.
    pub syscalls: usize,
    /// Architectures of the filter, the host's first.
    pub architectures: Vec<Arch>,
    /// Architectures of the profile that the host cannot run.
    pub skipped_architectures: Vec<OciArch>,
    /// Names in the profile that no architecture has, and that were skipped.
    pub unknown_syscalls: Vec<String>,
}

/// The listener of a filter that notifies, and the system call to send it with.
pub type ListenerHandoff = (OwnedFd, SendVia);

/// Installs the filters. The caller has `no_new_privs` or CAP_SYS_ADMIN, and sends the listener
/// before it makes any other system call.
///
/// # Errors
/// The operation that failed.
pub fn apply(ops: &[Op]) -> Result<Option<ListenerHandoff>, Failure> {
    let mut handoff = None;
    for (index, op) in ops.iter().enumerate() {
        let Op::Install { flags, program, send_via, .. } = op;
        let perform = || seccomp::set_mode_filter(*flags, &program.0);
        let listener = davit_sys::trace::operation("seccomp", op, perform)
            .map_err(|error| Failure::new(index, error))?;
        handoff = listener.zip(*send_via).or(handoff);
    }
    Ok(handoff)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Install { flags, program, send_via, summary } = self;
        write!(f, "seccomp filter: {} instructions, default ", program.0.len())?;
        fmt_action(f, summary.default)?;
        write!(f, ", {} syscalls, architectures", summary.syscalls)?;
        fmt_list(f, summary.architectures.iter().map(|arch| arch.name()))?;
        fmt_flags(f, *flags)?;
        match send_via {
            Some(SendVia::SendMsg) => f.write_str(", listener sent by sendmsg")?,
            Some(SendVia::SendMmsg) => f.write_str(", listener sent by sendmmsg")?,
            None => {}
        }
        if !summary.skipped_architectures.is_empty() {
            f.write_str(", skipped architectures")?;
            fmt_list(f, &summary.skipped_architectures)?;
        }
        if !summary.unknown_syscalls.is_empty() {
            f.write_str(", skipped unknown syscalls")?;
            fmt_list(f, &summary.unknown_syscalls)?;
        }
        Ok(())
    }
}

/// ` a,b,c`
fn fmt_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if index == 0 { " " } else { "," })?;
    }
    Ok(())
}

fn fmt_flags(f: &mut fmt::Formatter<'_>, flags: u32) -> fmt::Result {
    let names = [
        (seccomp::TSYNC, "tsync"),
        (seccomp::LOG, "log"),
        (seccomp::SPEC_ALLOW, "spec_allow"),
        (seccomp::NEW_LISTENER, "new_listener"),
        (seccomp::TSYNC_ESRCH, "tsync_esrch"),
        (seccomp::WAIT_KILLABLE_RECV, "wait_killable_recv"),
    ];
    let set = names.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name);
    f.write_str(if flags == 0 { ", no flags" } else { ", flags" })?;
    fmt_list(f, set)
}

fn fmt_action(f: &mut fmt::Formatter<'_>, action: u32) -> fmt::Result {
    let data = action & libc::SECCOMP_RET_DATA;
    f.write_str(match action & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ERRNO => {
            let errno = Errno::from_raw(i32::try_from(data).unwrap_or(0));
            return match errno {
                Errno::UnknownErrno => write!(f, "errno {data}"),
                _ => write!(f, "errno {data} ({errno:?})"),
            };
        }
        libc::SECCOMP_RET_TRACE => return write!(f, "trace {data}"),
        libc::SECCOMP_RET_ALLOW => "allow",
        libc::SECCOMP_RET_LOG => "log",
        libc::SECCOMP_RET_TRAP => "trap",
        libc::SECCOMP_RET_KILL_PROCESS => "kill process",
        libc::SECCOMP_RET_USER_NOTIF => "notify",
        _ => "kill thread",
    })
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Program;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a BPF program of 8 bytes per instruction")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Program, E> {
        Program::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
    }
}
