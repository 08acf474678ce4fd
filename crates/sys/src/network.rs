//! The loopback device of a network namespace.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{Error, OsContext};

/// `SIOCSIFFLAGS` (netdevice(7)); its type in `libc` is not that of musl's ioctl.
const SET_FLAGS: libc::Ioctl = 0x8914;

/// netdevice(7), `SIOCSIFFLAGS`: brings up `lo`, which is down in a new network namespace.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EAFNOSUPPORT in a kernel without IPv4.
pub fn bring_loopback_up() -> Result<(), Error> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .syscall("socket")?;
    // SAFETY: ifreq is integers and bytes; all zeroes is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (byte, letter) in request.ifr_name.iter_mut().zip(*b"lo") {
        *byte = letter as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads one ifreq, with the flags in its union.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SET_FLAGS, &raw const request) };
    if ret < 0 { Err(Error::last("ioctl SIOCSIFFLAGS")) } else { Ok(()) }
}
