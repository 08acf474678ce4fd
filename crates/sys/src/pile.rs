//! Descriptors that are done with, closed many at a time.

use std::cell::RefCell;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// So many wait at most: a process may have few descriptors (RLIMIT_NOFILE).
const MOST: usize = 8;

/// Descriptors that wait to be closed. Opened one after the other they have numbers in a row, and one
/// close_range(2) closes a row.
#[derive(Debug, Default)]
pub struct Pile(RefCell<Vec<OwnedFd>>);

impl Pile {
    /// Puts one more onto the pile.
    pub fn add(&self, fd: OwnedFd) {
        self.0.borrow_mut().push(fd);
        if self.0.borrow().len() >= MOST {
            self.close();
        }
    }

    /// Closes all of them.
    pub fn close(&self) {
        let waiting = self.0.take().into_iter();
        let mut numbers: Vec<RawFd> = waiting.map(IntoRawFd::into_raw_fd).collect();
        numbers.sort_unstable();
        for row in numbers.chunk_by(|one, next| one + 1 == *next) {
            if let [first, .., last] = row
                && close_range(*first, *last)
            {
                continue;
            }
            for number in row {
                // As when an OwnedFd is dropped: there is nothing to be done about a failure.
                let _ = nix::unistd::close(*number);
            }
        }
    }
}

/// close_range(2), Linux 5.9: whether it was done.
fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: the caller owns all descriptors from the first to the last.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_on_the_pile_is_closed_and_nothing_else() {
        let pipes: Vec<_> = (0..MOST).map(|_| nix::unistd::pipe().unwrap()).collect();
        let kept = File::open("/").unwrap();
        let pile = Pile::default();
        let (ends, others): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        // As many as make the pile close itself, and a few more, in no order.
        ends.into_iter().rev().for_each(|end| pile.add(end));
        let left = File::open("/").unwrap();
        let number = left.as_raw_fd();
        pile.add(left.into());
        let closed = |end: &OwnedFd| nix::unistd::write(end, b"x") == Err(nix::errno::Errno::EPIPE);
        assert!(others.iter().all(closed));
        assert!(crate::process::is_open(number));
        pile.close();
        assert!(kept.metadata().is_ok());
        assert_eq!(pile.0.borrow().len(), 0);
    }
}
