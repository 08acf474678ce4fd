//! The loopback device of a network namespace.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::{During, Error};

/// `SIOCSIFFLAGS` (netdevice(7)); its type in `libc` is not the one that musl's ioctl takes.
const SET_FLAGS: libc::Ioctl = 0x8914;

/// Brings `lo` up (netdevice(7), `SIOCSIFFLAGS`): a new network namespace has it down.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EAFNOSUPPORT in a kernel without IPv4.
pub fn bring_loopback_up() -> Result<(), Error> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .during("socket")?;
    // SAFETY: ifreq is integers and bytes; all zeroes is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (byte, letter) in request.ifr_name.iter_mut().zip(*b"lo") {
        *byte = letter as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads one ifreq, with the flags in its union.
    let ret = unsafe { libc::ioctl(any.as_raw_fd(), SET_FLAGS, &raw const request) };
    if ret < 0 { Err(Error::last("ioctl SIOCSIFFLAGS")) } else { Ok(()) }
}
