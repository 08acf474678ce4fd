//! A process of the host that is known by more than its number.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sys::During;

use crate::error::{Error, Result};

/// A pid and the moment its process began: together they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The pid in the runtime's pid namespace.
    pub pid: i32,
    /// Clock ticks after boot (proc(5), field 22 of stat).
    pub start_time: u64,
}

/// What /proc/PID/stat says.
struct Stat {
    name: String,
    state: char,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&sys::file::read_record(format!("/proc/{pid}/stat").as_str()).ok()?)
    }

    /// The name stands in brackets and may hold anything, brackets too: it ends at the last one.
    fn parse(stat: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(stat);
        let (head, tail) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22; the state was field 3.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { name: name.to_owned(), state, start_time })
    }

    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl Process {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> Result<Self> {
        let stat =
            Stat::read(pid).ok_or_else(|| Error::new(format!("process {pid}: has ended")))?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// Its name while it runs; `None` once it has ended, also where it is still to be reaped or
    /// where the pid is another's by now.
    #[must_use]
    pub fn name_if_running(&self) -> Option<String> {
        let stat = Stat::read(self.pid)?;
        (stat.start_time == self.start_time && stat.runs()).then_some(stat.name)
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.name_if_running().is_some()
    }

    /// A handle of this very process; `None` once it has ended.
    ///
    /// # Errors
    /// pidfd_open(2), but for ESRCH.
    pub fn handle(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match sys::pidfd::open(Pid::from_raw(self.pid)) {
            Err(sys::Error { errno: Errno::ESRCH, .. }) => return Ok(None),
            opened => opened?,
        };
        // Only now is it certain that the number was not given to another in between.
        Ok(self.runs().then_some(pidfd))
    }

    /// Waits until it has ended, at most for `patience`; tells whether it has.
    ///
    /// # Errors
    /// pidfd_open(2), poll(2).
    pub fn wait_for_end(&self, patience: Duration) -> Result<bool> {
        match self.handle()? {
            None => Ok(true),
            Some(pidfd) => ended_within(&pidfd, patience),
        }
    }
}

/// Whether the process behind `pidfd` ends within `patience`.
///
/// # Errors
/// poll(2).
pub(crate) fn ended_within(pidfd: &OwnedFd, patience: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, timeout).during("poll")? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_brackets_and_spaces() {
        let stat = b"7 (a) R (b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.start_time), ("a) R (b", 'S', 4242));
        assert!(Stat::parse(b"").is_none());
        assert!(Stat::parse(b"7 (x").is_none());
    }

    #[test]
    fn we_run_and_a_stranger_with_our_pid_is_not_us() {
        let me = Process::of(std::process::id() as i32).unwrap();
        assert!(me.runs());
        assert!(me.handle().unwrap().is_some());
        let stranger = Process { start_time: me.start_time + 1, ..me };
        assert!(!stranger.runs());
        assert!(stranger.handle().unwrap().is_none());
    }
}
