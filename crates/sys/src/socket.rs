//! Sending a descriptor where sendmsg(2) cannot be used.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Error;

/// A control message with one descriptor (unix(7), `SCM_RIGHTS`).
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: libc::c_int,
}

/// Sends `data` and `descriptor` by sendmmsg(2) itself: musl makes sendmsg(2) of its own.
///
/// # Errors
/// EPIPE where nobody listens; EMSGSIZE.
pub fn sendmmsg(
    socket: BorrowedFd<'_>,
    data: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<(), Error> {
    // SAFETY: integers; all zeroes is a valid one, and its padding must be zero.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: a calculation. Its type differs between the C libraries.
    header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<libc::c_int>() as u32) } as _;
    let mut rights = Rights { header, descriptor: descriptor.as_raw_fd() };
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: integers and pointers; all zeroes is a valid one.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = (&raw mut rights).cast();
    message.msg_hdr.msg_controllen = size_of::<Rights>() as _;
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: one message, whose parts are all alive; the kernel writes its length alone.
    let sent = unsafe {
        libc::syscall(libc::SYS_sendmmsg, socket.as_raw_fd(), &raw mut message, 1, flags)
    };
    if sent == 1 { Ok(()) } else { Err(Error::last("sendmmsg")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_stands_where_the_kernel_looks() {
        // SAFETY: a calculation.
        let length = unsafe { libc::CMSG_LEN(4) } as usize;
        assert_eq!(std::mem::offset_of!(Rights, descriptor) + 4, length);
    }
}
