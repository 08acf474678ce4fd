//! Sockets on which callers want descriptors: the terminal's other side, a handle of the process.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sys::During;

use crate::error::{Result, Within};

/// Sends the terminal's master to `--console-socket`, named as runc names it.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn terminal(socket: &Path, master: &OwnedFd) -> Result<()> {
    send(socket, b"/dev/pts/ptmx", master).within(|| format!("--console-socket {socket:?}"))
}

/// Sends a pidfd to `--pidfd-socket`, named as runc names it.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn process(socket: &Path, pidfd: &OwnedFd) -> Result<()> {
    send(socket, b"pidfd", pidfd).within(|| format!("--pidfd-socket {socket:?}"))
}

fn send(socket: &Path, name: &[u8], fd: &OwnedFd) -> std::result::Result<(), sys::Error> {
    let socket = UnixStream::connect(socket).during("connect")?;
    let name = [std::io::IoSlice::new(name)];
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &name, &rights, flags, None)
        .map(drop)
        .during("sendmsg")
}
