//! poll(2) with a deadline.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Error, OsContext};

/// Waits until `fd` has one of `events`; false if `deadline` passes first.
///
/// # Errors
/// poll(2) failed.
pub fn wait_until(fd: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<bool, Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, or the last millisecond would be a busy loop.
        let millis = left.as_millis().saturating_add(u128::from(!left.is_zero()));
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) if Instant::now() < deadline => {}
            result => return Ok(result.syscall("poll")? > 0),
        }
    }
}
