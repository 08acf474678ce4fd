//! Process identity that survives pid reuse.
//!
//! A record can outlive a boot, after which pids and the inodes of pidfds are given again, often
//! the same numbers. So three things tell a process from another one with its pid:
//!
//! * the boot id, read once per command;
//! * the inode of its pidfd, one system call;
//! * its start time, which is expensive (25 us, decision 0011): compared only before the process is
//!   signalled or entered, and only where the record is on a disk. It is for a virtual machine that
//!   was reset to a snapshot: the boot id stays the same, and the disk may be newer than the
//!   memory.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{fstat, stat};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::ProcStat;
use crate::error::{Error, Result};

/// The first argument of init, which shows it in `ps`, and to `main`.
pub const INIT_NAME: &str = "davit:init";

/// The name of the runtime from the moment on when it makes init, which inherits it.
pub(crate) const LAUNCH_NAME: &CStr = c"davit:launch";

/// What the kernel calls the program of init: a mount of its own that has no place, or a copy in
/// memory; the file may have been removed meanwhile, by an upgrade.
const PROGRAMS: [&str; 3] = ["/", "/ (deleted)", "/memfd:davit (deleted)"];

/// A pid, and the identity that distinguishes its process from all others that had the pid or will
/// have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The pid in the runtime's pid namespace.
    pub pid: i32,
    /// The identity of this process.
    pub mark: ProcessIdentity,
    /// The boot in which it ran. Older records have none, and may be of any boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootId>,
    /// Its start time, as in [`ProcessIdentity::StartTime`]; only if it is needed and /proc can be
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

/// The kernel's id of a boot (random(4), boot_id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(u128);

impl BootId {
    /// The id of this boot; `None` where it cannot be read.
    pub(crate) fn current() -> Option<Self> {
        static CURRENT: OnceLock<Option<BootId>> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let text = davit_sys::file::read_record("/proc/sys/kernel/random/boot_id").ok()?;
            Self::parse(std::str::from_utf8(&text).ok()?.trim_end())
        })
    }

    /// 32 hexadecimal digits, with or without dashes between them.
    fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|character| *character != '-').collect();
        let is_whole = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_whole.then(|| u128::from_str_radix(&digits, 16).ok().map(Self))?
    }
}

impl TryFrom<String> for BootId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text).ok_or_else(|| Error::new(format!("{text:?} is not a boot id")))
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A property that no two processes with one pid share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessIdentity {
    /// The inode of its pidfd, on kernels where each pidfd inode is unique: no file of /proc is
    /// read.
    Inode(u64),
    /// Its start time, in clock ticks after boot (proc(5), field 22 of stat).
    StartTime(u64),
}

impl ProcessIdentity {
    fn of(pid: i32, pidfd: &OwnedFd) -> Result<Self> {
        let inode = davit_sys::pidfd::inode(pidfd.as_fd())?;
        let mark = inode.map(Self::Inode).or_else(|| start_time(pid).map(Self::StartTime));
        mark.ok_or_else(|| Error::new(format!("process {pid}: has ended")))
    }

    fn matches(self, pid: i32, pidfd: &OwnedFd) -> Result<bool> {
        match self {
            Self::Inode(inode) => Ok(fstat(pidfd).syscall("fstat")?.st_ino == inode),
            Self::StartTime(time) => Ok(start_time(pid) == Some(time)),
        }
    }
}

fn start_time(pid: i32) -> Option<u64> {
    ProcStat::of(pid).map(|stat| stat.start_time)
}

/// Whether start times in /proc can be compared with those of other commands. They cannot where
/// /proc shows another pid namespace (one was entered without a new /proc), or in a time namespace,
/// which has its own boot time.
fn proc_is_ours() -> bool {
    /// `PROC_TIME_INIT_INO` of linux/proc_ns.h
    const FIRST: u64 = 0xEFFF_FFFA;
    let own = std::fs::read_link("/proc/self");
    let is_own = own.is_ok_and(|own| own.as_os_str() == std::process::id().to_string().as_str());
    is_own && stat("/proc/self/ns/time").map_or(true, |namespace| namespace.st_ino == FIRST)
}

impl Process {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> Result<Self> {
        let mark = ProcessIdentity::of(pid, &davit_sys::pidfd::open(Pid::from_raw(pid))?)?;
        Ok(Self { pid, mark, boot: None, started: None })
    }

    /// The process of this pidfd, which has `pid`, for a record; `outlives_memory`: the record is
    /// on a disk.
    ///
    /// # Errors
    /// It has ended.
    pub fn from_pidfd(pidfd: &OwnedFd, pid: i32, outlives_memory: bool) -> Result<Self> {
        let mark = ProcessIdentity::of(pid, pidfd)?;
        let started = match mark {
            ProcessIdentity::Inode(_) if outlives_memory && proc_is_ours() => start_time(pid),
            _ => None,
        };
        Ok(Self { pid, mark, boot: BootId::current(), started })
    }

    /// Whether it ran in an earlier boot: its pid and the path of its cgroup may belong to others
    /// now.
    #[must_use]
    pub fn is_of_another_boot(&self) -> bool {
        match (self.boot, BootId::current()) {
            (Some(its), Some(ours)) => its != ours,
            _ => false,
        }
    }

    /// Whether its start time, if it is recorded, is that of the process that has the pid now. It
    /// must be checked before the process is signalled or entered.
    #[must_use]
    pub fn has_its_start_time(&self) -> bool {
        match (self.started, self.started.and_then(|_| start_time(self.pid))) {
            (Some(its), Some(seen)) => its == seen || !proc_is_ours(),
            _ => true,
        }
    }

    /// The name of the process that has the pid now (proc(5), comm): its own name if it is alive
    /// afterwards.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let name =
            davit_sys::file::read_record(format!("/proc/{}/comm", self.pid).as_str()).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
    }

    /// Whether the process that has the pid now is davit's init, and not the user's program yet.
    #[must_use]
    pub fn is_init(&self) -> bool {
        let program = readlink(format!("/proc/{}/exe", self.pid).as_str());
        shows_init(program.ok().as_deref(), || self.name())
    }

    /// Whether it has not ended, as far as the kernel shows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.pidfd(), Ok(None))
    }

    /// The pidfd of exactly this process; `None` once it has ended, even if it is still a zombie,
    /// or if the pid belongs to another process by now.
    ///
    /// # Errors
    /// pidfd_open(2), but for ESRCH.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match davit_sys::pidfd::open(Pid::from_raw(self.pid)) {
            Err(davit_sys::Error { errno: Errno::ESRCH, .. }) => return Ok(None),
            opened => opened?,
        };
        let runs = self.mark.matches(self.pid, &pidfd)?
            && !ended_within(&pidfd, Duration::ZERO)?
            && !self.is_of_another_boot();
        Ok(runs.then_some(pidfd))
    }

    /// Waits for its end, at most for `timeout`; returns whether it has ended.
    ///
    /// # Errors
    /// pidfd_open(2), poll(2).
    pub fn wait_for_end(&self, timeout: Duration) -> Result<bool> {
        match self.pidfd()? {
            None => Ok(true),
            Some(pidfd) => ended_within(&pidfd, timeout),
        }
    }
}

/// Whether a process with this program (proc(5), exe) and this name is init, or has not executed
/// init yet. execve(2) replaces the program before it closes the descriptors whose end tells the
/// runtime that the user's program was executed; it replaces name and arguments only later. So a
/// caller of `run --detach` who asks at once is told "running". A program that executes another one
/// has no arguments for a while either.
fn shows_init(program: Option<&OsStr>, name: impl FnOnce() -> Option<String>) -> bool {
    match program.and_then(OsStr::to_str) {
        Some(program) if PROGRAMS.contains(&program) => true,
        Some(_) => name().is_some_and(|name| name.as_bytes() == LAUNCH_NAME.to_bytes()),
        // It ends, or this user may not look.
        None => name().is_some_and(|name| name.starts_with("davit:")),
    }
}

/// Whether the process behind `pidfd` ends within `timeout`.
///
/// # Errors
/// poll(2).
pub(crate) fn ended_within(pidfd: &OwnedFd, timeout: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, timeout).syscall("poll")? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_run_and_a_stranger_with_our_pid_is_not_us() {
        let pid = std::process::id() as i32;
        let mark = ProcessIdentity::StartTime(start_time(pid).unwrap());
        let older = Process { pid, mark, boot: None, started: None };
        let pidfd = davit_sys::pidfd::open(Pid::from_raw(pid)).unwrap();
        for me in
            [Process::of(pid).unwrap(), older, Process::from_pidfd(&pidfd, pid, true).unwrap()]
        {
            assert!(me.is_alive(), "{me:?}");
            assert!(me.name().is_some());
            assert!(me.pidfd().unwrap().is_some());
            let mark = match me.mark {
                ProcessIdentity::Inode(inode) => ProcessIdentity::Inode(inode + 1),
                ProcessIdentity::StartTime(time) => ProcessIdentity::StartTime(time + 1),
            };
            let stranger = Process { mark, ..me };
            assert!(!stranger.is_alive(), "{stranger:?}");
            assert!(stranger.pidfd().unwrap().is_none());
        }
    }

    #[test]
    fn the_program_decides_before_the_name_does() {
        let shows = |program: Option<&str>, name: &str| {
            shows_init(program.map(OsStr::new), || Some(name.to_owned()))
        };
        // Before, in and after the execve(2) of init.
        assert!(shows(Some("/usr/bin/davit"), "davit:launch"));
        assert!(shows(Some("/"), "davit:launch"));
        assert!(shows(Some("/ (deleted)"), "davit:init"));
        assert!(shows(Some("/memfd:davit (deleted)"), "davit:created"));
        // In and after that of the user's program.
        assert!(!shows(Some("/bin/sleep"), "davit:init"));
        assert!(!shows(Some("/bin/sleep"), "sleep"));
        // While it ends.
        assert!(shows(None, "davit:init") && !shows(None, "sleep"));
    }

    #[test]
    fn one_of_another_boot_is_not_us() {
        let pid = std::process::id() as i32;
        let pidfd = davit_sys::pidfd::open(Pid::from_raw(pid)).unwrap();
        let me = Process::from_pidfd(&pidfd, pid, true).unwrap();
        assert!(me.boot.is_some() && !me.is_of_another_boot() && me.has_its_start_time());
        let other = Process { boot: me.boot.map(|boot| BootId(boot.0 ^ 1)), ..me };
        assert!(other.is_of_another_boot() && other.pidfd().unwrap().is_none());
        if let Some(started) = me.started {
            assert!(!Process { started: Some(started + 1), ..me }.has_its_start_time());
        }
    }

    #[test]
    fn records_without_a_boot_are_read_and_boots_written_as_text() {
        let text = r#"{"pid":7,"mark":{"inode":9}}"#;
        let older: Process = serde_json::from_str(text).unwrap();
        assert_eq!((older.boot, older.started), (None, None));
        assert_eq!(serde_json::to_string(&older).unwrap(), text);
        let boot = BootId::parse("0f2c1c9e-6a1e-4f0b-9d0c-0123456789ab");
        let newer = Process { boot, started: Some(3), ..older };
        let text = serde_json::to_string(&newer).unwrap();
        assert!(text.contains(r#""boot":"0f2c1c9e6a1e4f0b9d0c0123456789ab""#), "{text}");
        assert_eq!(serde_json::from_str::<Process>(&text).unwrap(), newer);
        for bad in ["", "0", "+f2c1c9e6a1e4f0b9d0c0123456789ab", "xf2c1c9e6a1e4f0b9d0c0123456789ab"]
        {
            assert_eq!(BootId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn whoever_has_ended_does_not_run_though_nobody_has_reaped_him() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(child.id() as i32).unwrap();
        assert!(process.wait_for_end(Duration::from_secs(10)).unwrap());
        assert!(!process.is_alive());
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
