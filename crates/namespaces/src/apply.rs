//! Performing the operations.

#![allow(unsafe_code, reason = "it calls fork and vfork (docs/decisions/0016)")]

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use davit_sys::clone::{ForkResult, SIBLING, fork, vfork};
use davit_sys::pidfd::{join_namespaces, unshare};
use davit_sys::{Error, Failure, OsContext, Slots};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{sethostname, write};

use crate::{Kind, Op, net_devices};
use davit_protocol::{Channel, Message, ReceiveError};

/// Performs `ops` in this process. After [`Op::Fork`] and [`Op::Vfork`] it returns only in the
/// second process.
///
/// # Errors
/// The operation that failed, with its system call and errno.
pub fn apply(ops: &[Op], slots: &Slots, channel: &Channel) -> Result<(), Failure> {
    for (index, op) in ops.iter().enumerate() {
        davit_sys::trace::operation("namespaces", op, || perform(op, slots, channel))
            .map_err(|error| Failure::new(index, error))?;
    }
    Ok(())
}

pub(crate) fn perform(op: &Op, slots: &Slots, channel: &Channel) -> Result<(), Error> {
    match op {
        Op::EnterCgroup { slot } => write(slots.get(*slot)?, b"0").map(drop).syscall("write"),
        Op::AwaitCgroup => await_go(channel),
        Op::RequestCgroup => {
            channel.send(&Message::MoveToCgroup)?;
            await_go(channel)
        }
        Op::OomScoreAdj(score) => {
            write_file(c"/proc/self/oom_score_adj", score.to_string().as_bytes())
        }
        Op::Join { kind, slot, .. } => join_namespaces(slots.get(*slot)?, kind.flag()),
        Op::JoinProcess { slot, flags } => join_namespaces(slots.get(*slot)?, *flags),
        Op::Unshare(kinds) => unshare(flags(kinds)),
        Op::AwaitIdMaps => {
            channel.send(&Message::WriteIdMaps)?;
            await_go(channel)
        }
        Op::SetIdsToRoot => set_ids_to_root(),
        Op::TimeOffsets(text) => write_file(c"/proc/self/timens_offsets", text.to_bytes()),
        Op::Fork(kinds) => fork_and_continue(flags(kinds) as u64, channel),
        // It does not wait for the runtime: if that is gone, sending fails.
        // SAFETY: init has one thread, and no signal handlers. The old process only waits.
        Op::Vfork => channel.send(&Message::Vforked(unsafe { vfork() }?.as_raw())),
        Op::LoopbackUp => match davit_sys::network::bring_loopback_up() {
            // A kernel without IPv4 has no such device to bring up.
            Err(Error { errno: Errno::EAFNOSUPPORT, .. }) => Ok(()),
            result => result,
        },
        Op::NetDevice { number, addresses, .. } => net_devices::receive(addresses, || {
            channel.send(&Message::MoveNetDevice(*number))?;
            await_go(channel)
        }),
        Op::Hostname(name) => sethostname(name).syscall("sethostname"),
        Op::Domainname(name) => davit_sys::process::set_domain_name(name),
        Op::Sysctl { path, value, .. } => write_parameter(path, value),
    }
}

fn flags(kinds: &[Kind]) -> i32 {
    kinds.iter().fold(0, |flags, kind| flags | kind.flag())
}

fn set_ids_to_root() -> Result<(), Error> {
    davit_sys::process::set_gid(0)?;
    davit_sys::process::set_uid(0)
}

fn await_go(channel: &Channel) -> Result<(), Error> {
    channel.await_go().map_err(|error| match error {
        ReceiveError::System(error) => error,
        _ => Error::new("recvmsg", Errno::EPIPE),
    })
}

fn fork_and_continue(flags: u64, channel: &Channel) -> Result<(), Error> {
    // SAFETY: init has one thread; the flags are those of namespaces.
    match unsafe { fork(flags | SIBLING) }? {
        // The runtime must know the new process before its next message.
        ForkResult::Child => await_go(channel),
        ForkResult::Parent(pid) => {
            // If the runtime is gone, the child finds that out too.
            let sent = channel.send(&Message::Forked(pid.as_raw()));
            std::process::exit(i32::from(sent.is_err()))
        }
    }
}

/// Writes a file of /proc in the runtime's mount namespace, before there is a container.
fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Error> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).syscall("open")?;
    write(&file, bytes).map(drop).syscall("write")
}

fn write_parameter(path: &CStr, value: &str) -> Result<(), Error> {
    let procfs: OwnedFd = davit_sys::procfs::private()?;
    let file = davit_sys::procfs::open(&procfs, path, libc::O_WRONLY)?;
    write(&file, value.as_bytes()).map(drop).syscall("write")
}
