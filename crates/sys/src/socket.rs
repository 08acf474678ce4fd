//! Receiving descriptors from a socket, and sending one by sendmmsg(2).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::{Error, OsContext};

/// recvmsg(2), non-blocking: the length of one message, and the first descriptor that came with it.
/// Others are closed.
///
/// # Errors
/// EINTR, ECONNRESET, EAGAIN if there is no message yet; ENOBUFS for too many descriptors.
pub fn try_receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Error> {
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut data = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut control), flags)
        .syscall("recvmsg")?;
    let mut first = None;
    for message in received.cmsgs().syscall("recvmsg")? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: a new descriptor of this call, which has no other owner.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                first.get_or_insert(fd);
            }
        }
    }
    Ok((received.bytes, first))
}

/// A control message with one descriptor (unix(7), `SCM_RIGHTS`).
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: libc::c_int,
}

/// sendmmsg(2): sends `data` and `descriptor`. The function of musl calls sendmsg(2) instead.
///
/// # Errors
/// EPIPE if the peer is gone; EMSGSIZE.
pub fn sendmmsg(
    socket: BorrowedFd<'_>,
    data: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<(), Error> {
    // SAFETY: integers, for which zeroes are valid; the padding must be zero.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: a calculation. Its type differs between the C libraries.
    header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) } as _;
    let mut rights = Rights { header, descriptor: descriptor.as_raw_fd() };
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: integers and pointers, for which zeroes are valid.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = (&raw mut rights).cast();
    message.msg_hdr.msg_controllen = size_of::<Rights>() as _;
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: one message, whose parts outlive the call; the kernel writes only its length.
    let sent = unsafe {
        libc::syscall(libc::SYS_sendmmsg, socket.as_raw_fd(), &raw mut message, 1, flags)
    };
    if sent == 1 { Ok(()) } else { Err(Error::last("sendmmsg")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_has_the_offset_of_cmsg_data() {
        // SAFETY: a calculation.
        let length = unsafe { libc::CMSG_LEN(4) } as usize;
        assert_eq!(std::mem::offset_of!(Rights, descriptor) + 4, length);
    }
}
