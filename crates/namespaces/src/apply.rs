//! The steps into the namespaces, performed.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{sethostname, write};
use sys::clone::{SIBLING, Side, fork, vfork};
use sys::pidfd::{join_namespaces, unshare};
use sys::{During, Error, Failure, Slots};

use crate::handshake::{Channel, Message, ReceiveError};
use crate::{Kind, Op, net_devices};

/// Performs `ops` in this process. After [`Op::Fork`] and [`Op::Vfork`] it returns in the second process only.
///
/// # Errors
/// The index of the first step that failed, its system call and errno.
pub fn apply(ops: &[Op], slots: &Slots, channel: &Channel) -> Result<(), Failure> {
    for (index, op) in ops.iter().enumerate() {
        step(op, slots, channel).map_err(|error| Failure::new(index, error))?;
    }
    Ok(())
}

pub(crate) fn step(op: &Op, slots: &Slots, channel: &Channel) -> Result<(), Error> {
    match op {
        Op::EnterCgroup { slot } => write(slots.get(*slot)?, b"0").map(drop).during("write"),
        Op::AwaitCgroup => await_go(channel),
        Op::OomScoreAdj(score) => {
            write_file(c"/proc/self/oom_score_adj", score.to_string().as_bytes())
        }
        Op::Join { kind, slot, .. } => join_namespaces(slots.get(*slot)?, kind.flag()),
        Op::JoinProcess { slot, flags } => join_namespaces(slots.get(*slot)?, *flags),
        Op::Unshare(kinds) => unshare(flags(kinds)),
        Op::AwaitIdMaps => {
            channel.send(&Message::IdMapsWanted)?;
            await_go(channel)
        }
        Op::BecomeRoot => become_root(),
        Op::TimeOffsets(text) => write_file(c"/proc/self/timens_offsets", text.to_bytes()),
        Op::Fork(kinds) => go_on_in_a_child(flags(kinds) as u64, channel),
        // Nobody is waited for: where the runtime is gone, this fails.
        Op::Vfork => channel.send(&Message::Vforked(vfork()?.as_raw())),
        Op::LoopbackUp => match sys::network::bring_loopback_up() {
            // A kernel without IPv4 has no loopback to bring up.
            Err(Error { errno: Errno::EAFNOSUPPORT, .. }) => Ok(()),
            done => done,
        },
        Op::NetDevice { number, addresses, .. } => net_devices::receive(addresses, || {
            channel.send(&Message::DeviceWanted(*number))?;
            await_go(channel)
        }),
        Op::Hostname(name) => sethostname(name).during("sethostname"),
        Op::Domainname(name) => sys::process::set_domain_name(name),
        Op::Sysctl { path, value, .. } => write_parameter(path, value),
    }
}

fn flags(kinds: &[Kind]) -> i32 {
    kinds.iter().fold(0, |flags, kind| flags | kind.flag())
}

fn become_root() -> Result<(), Error> {
    sys::process::set_gid(0)?;
    sys::process::set_uid(0)
}

fn await_go(channel: &Channel) -> Result<(), Error> {
    channel.await_go().map_err(|error| match error {
        ReceiveError::System(error) => error,
        _ => Error::new("recvmsg", Errno::EPIPE),
    })
}

fn go_on_in_a_child(flags: u64, channel: &Channel) -> Result<(), Error> {
    match fork(flags | SIBLING)? {
        // The runtime must know whom it speaks with before the next message.
        Side::Child => await_go(channel),
        Side::Parent(pid) => {
            // Where the runtime is gone the child sees the same end of the conversation.
            let told = channel.send(&Message::Forked(pid.as_raw()));
            std::process::exit(i32::from(told.is_err()))
        }
    }
}

/// Writes a file of the runtime's own /proc, which no container has touched yet.
fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Error> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).during("open")?;
    write(&file, bytes).map(drop).during("write")
}

fn write_parameter(path: &CStr, value: &str) -> Result<(), Error> {
    let procfs: OwnedFd = sys::procfs::private()?;
    let file = sys::procfs::open(&procfs, path, libc::O_WRONLY)?;
    write(&file, value.as_bytes()).map(drop).during("write")
}
