//! The socket on which a created container waits for `start`.

use std::os::fd::{AsRawFd, OwnedFd};

use namespaces::handshake::Channel;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use sys::During;

use crate::error::{Result, Within};
use crate::record::Entry;

const NAME: &str = "start.sock";

type Call<T> = std::result::Result<T, sys::Error>;

/// The side of the container.
///
/// # Errors
/// The container's directory cannot be written.
pub(crate) fn open(entry: &Entry) -> Result<OwnedFd> {
    let open = || -> Call<OwnedFd> {
        let (listener, address) = end(entry)?;
        bind(listener.as_raw_fd(), &address).during("bind")?;
        listen(&listener, Backlog::new(1).during("listen")?).during("listen")?;
        Ok(listener)
    };
    open().within(|| NAME)
}

/// The side of `start`.
///
/// # Errors
/// Nobody waits there.
pub(crate) fn call(entry: &Entry) -> Result<Channel> {
    let call = || -> Call<Channel> {
        let (ours, address) = end(entry)?;
        connect(ours.as_raw_fd(), &address).during("connect")?;
        Ok(Channel::new(ours))
    };
    call().within(|| NAME)
}

/// As a socketpair of init's: a packet is a message (unix(7)).
fn end(entry: &Entry) -> Call<(OwnedFd, UnixAddr)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let end = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).during("socket")?;
    Ok((end, UnixAddr::new(&entry.path_of(NAME)).during("socket")?))
}
