//! Connections to unix sockets of other programs, which may be too busy to answer.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::error::Error;

/// Timeout in seconds for the other program to accept a connection, and to receive a message.
pub(crate) const TIMEOUT: i64 = 10;

/// Connects to the stream socket at `path`.
///
/// # Errors
/// ENOENT and ECONNREFUSED where no program listens; EAGAIN after [`TIMEOUT`].
pub(crate) fn connect_stream(path: &Path) -> Result<OwnedFd, davit_sys::Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None).syscall("socket")?;
    // For connect(2) too, which waits where the backlog is full (unix(7), socket(7)).
    setsockopt(&ours, sockopt::SendTimeout, &TimeVal::new(TIMEOUT, 0)).syscall("setsockopt")?;
    let address = UnixAddr::new(path).syscall("connect")?;
    connect(ours.as_raw_fd(), &address).syscall("connect")?;
    Ok(ours)
}

/// The failure of a call on such a connection.
pub(crate) fn explain(error: davit_sys::Error) -> Error {
    match error.errno {
        Errno::EAGAIN => Error::new(format!("{}: no answer within {TIMEOUT} s", error.call)),
        _ => error.into(),
    }
}
