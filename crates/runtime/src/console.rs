//! The console socket: where the caller wants the terminal's other side.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use sys::During;

/// Sends `master` to the socket at `path`, named as runc names it.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn send(path: &Path, master: &OwnedFd) -> Result<(), sys::Error> {
    let socket = UnixStream::connect(path).during("connect")?;
    let name = [std::io::IoSlice::new(b"/dev/pts/ptmx")];
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &name, &rights, flags, None)
        .map(drop)
        .during("sendmsg")
}
