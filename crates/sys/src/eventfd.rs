//! eventfd(2): a counter that the kernel increments, for poll(2).

use std::os::fd::{FromRawFd, OwnedFd};

use crate::Error;

/// eventfd(2): a new counter at 0, non-blocking.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn counter() -> Result<OwnedFd, Error> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(Error::last("eventfd"));
    }
    // SAFETY: the call succeeded: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
