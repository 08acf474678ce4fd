//! Sends descriptors to the sockets of the caller: the pty master, the pidfd.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use davit_sys::OsContext;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use davit_sys::trace::operation;

use crate::error::{Result, Within};
use crate::peer_socket;

/// Sends the pty master to `--console-socket`, with the name that runc sends.
///
/// # Errors
/// No program listens on the socket.
pub(crate) fn send_console(socket: &Path, master: &OwnedFd) -> Result<()> {
    let send =
        || send(socket, b"/dev/pts/ptmx", master).within(|| format!("--console-socket {socket:?}"));
    operation("runtime", &"send the terminal's master to --console-socket", send)
}

/// Sends a pidfd to `--pidfd-socket`, with the name that runc sends.
///
/// # Errors
/// No program listens on the socket.
pub(crate) fn send_pidfd(socket: &Path, pidfd: &OwnedFd) -> Result<()> {
    let send = || send(socket, b"pidfd", pidfd).within(|| format!("--pidfd-socket {socket:?}"));
    operation("runtime", &"send the pidfd to --pidfd-socket", send)
}

fn send(socket: &Path, name: &[u8], fd: &OwnedFd) -> Result<()> {
    let socket = peer_socket::connect_stream(socket).map_err(peer_socket::explain)?;
    let name = [std::io::IoSlice::new(name)];
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &name, &rights, flags, None)
        .map(drop)
        .syscall("sendmsg")
        .map_err(peer_socket::explain)
}
