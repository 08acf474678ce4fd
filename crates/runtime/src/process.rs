//! A process of the host that is known by more than its number.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sys::During;

use crate::error::{Error, Result};

/// A pid and what tells its process from all others that had it or will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The pid in the runtime's pid namespace.
    pub pid: i32,
    /// Of this process only.
    pub mark: Mark,
}

/// What no two processes with one pid have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The inode of its pidfd, where each has its own: no file of /proc has to be read.
    Inode(u64),
    /// When it began, in clock ticks after boot (proc(5), field 22 of stat).
    StartTime(u64),
}

impl Mark {
    fn of(pid: i32, pidfd: &OwnedFd) -> Result<Self> {
        let inode = sys::pidfd::inode(pidfd.as_fd())?;
        let mark = inode.map(Self::Inode).or_else(|| start_time(pid).map(Self::StartTime));
        mark.ok_or_else(|| Error::new(format!("process {pid}: has ended")))
    }

    fn is_that_of(self, pid: i32, pidfd: &OwnedFd) -> Result<bool> {
        match self {
            Self::Inode(inode) => Ok(fstat(pidfd).during("fstat")?.st_ino == inode),
            Self::StartTime(time) => Ok(start_time(pid) == Some(time)),
        }
    }
}

fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&sys::file::read_record(format!("/proc/{pid}/stat").as_str()).ok()?)
}

/// The state, field 3, comes after the name, which stands in brackets and may hold anything, brackets too: it
/// ends at the last one.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, tail) = text.rsplit_once(')')?;
    tail.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl Process {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> Result<Self> {
        Self::behind(&sys::pidfd::open(Pid::from_raw(pid))?, pid)
    }

    /// The process of this handle, which has `pid`.
    ///
    /// # Errors
    /// It has ended.
    pub fn behind(pidfd: &OwnedFd, pid: i32) -> Result<Self> {
        Ok(Self { pid, mark: Mark::of(pid, pidfd)? })
    }

    /// The name of the process that has the pid now (proc(5), comm): its own if it runs afterwards.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let name = sys::file::read_record(format!("/proc/{}/comm", self.pid).as_str()).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    /// Whether it has not ended, as far as can be told.
    #[must_use]
    pub fn runs(&self) -> bool {
        !matches!(self.handle(), Ok(None))
    }

    /// A handle of this very process; `None` once it has ended, also where it is still to be reaped or
    /// where the pid is another's by now.
    ///
    /// # Errors
    /// pidfd_open(2), but for ESRCH.
    pub fn handle(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match sys::pidfd::open(Pid::from_raw(self.pid)) {
            Err(sys::Error { errno: Errno::ESRCH, .. }) => return Ok(None),
            opened => opened?,
        };
        let runs =
            self.mark.is_that_of(self.pid, &pidfd)? && !ended_within(&pidfd, Duration::ZERO)?;
        Ok(runs.then_some(pidfd))
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
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time(b""), None);
        assert_eq!(parse_start_time(b"7 (x"), None);
    }

    #[test]
    fn we_run_and_a_stranger_with_our_pid_is_not_us() {
        let pid = std::process::id() as i32;
        let older = Process { pid, mark: Mark::StartTime(start_time(pid).unwrap()) };
        for me in [Process::of(pid).unwrap(), older] {
            assert!(me.runs(), "{me:?}");
            assert!(me.name().is_some());
            assert!(me.handle().unwrap().is_some());
            let mark = match me.mark {
                Mark::Inode(inode) => Mark::Inode(inode + 1),
                Mark::StartTime(time) => Mark::StartTime(time + 1),
            };
            let stranger = Process { mark, ..me };
            assert!(!stranger.runs(), "{stranger:?}");
            assert!(stranger.handle().unwrap().is_none());
        }
    }

    #[test]
    fn whoever_has_ended_does_not_run_though_nobody_has_reaped_him() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(child.id() as i32).unwrap();
        assert!(process.wait_for_end(Duration::from_secs(10)).unwrap());
        assert!(!process.runs());
        child.wait().unwrap();
        assert!(!process.runs());
    }
}
