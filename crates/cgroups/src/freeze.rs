//! Freezing and thawing a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::During;

use crate::cgroup::{Member, is_gone};
use crate::{Cgroup, Fault, file};

/// How often cgroup v1 is asked: its freezer tells nobody when it is done.
const V1_INTERVAL: Duration = Duration::from_millis(1);

/// Who freezes this container: cgroup v2 where it is there (also on a hybrid host: freezing needs no
/// controller), the `freezer` controller of v1 elsewhere.
struct Freezer<'a> {
    member: &'a Member,
    directory: OwnedFd,
}

impl Cgroup {
    /// Freezes every process, and returns when all of them stand still.
    ///
    /// # Errors
    /// [`Fault::NotFrozen`] at the deadline, everything being thawed again; a failed system call.
    pub fn freeze(&self, deadline: Instant) -> Result<(), Fault> {
        let freezer = self.freezer()?.ok_or(Fault::NoFreezer)?;
        match freezer.freeze(deadline) {
            Ok(true) => Ok(()),
            Ok(false) => {
                freezer.thaw().map_err(Fault::at(&freezer.member.directory))?;
                Err(Fault::NotFrozen { path: freezer.member.directory.clone() })
            }
            Err(error) => Err(Fault::at(&freezer.member.directory)(error)),
        }
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// A failed system call.
    pub fn thaw(&self) -> Result<(), Fault> {
        let freezer = self.freezer()?.ok_or(Fault::NoFreezer)?;
        freezer.thaw().map_err(Fault::at(&freezer.member.directory))
    }

    /// Whether the container is frozen. One without a freezer, or without its cgroup, is not.
    ///
    /// # Errors
    /// A failed system call.
    pub fn is_frozen(&self) -> Result<bool, Fault> {
        for member in &self.members {
            if is_frozen(member).map_err(Fault::at(&member.directory))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first one; a hybrid host has two.
    fn freezer(&self) -> Result<Option<Freezer<'_>>, Fault> {
        let mut freezers = self.members.iter().filter_map(|member| {
            let control = match member {
                member if member.is_unified() => "cgroup.freeze",
                member if has_v1_freezer(member) => "freezer.state",
                _ => return None,
            };
            let opened = file::directory(&member.directory).and_then(|directory| {
                // The kernels between 4.5 and 5.2 have cgroup v2 without a freezer.
                file::open(directory.as_fd(), control, OFlag::O_RDONLY).map(|_| directory)
            });
            match opened {
                Ok(directory) => Some(Ok(Freezer { member, directory })),
                Err(error) if error.errno == Errno::ENOENT => None,
                Err(error) => Some(Err(Fault::at(&member.directory)(error))),
            }
        });
        freezers.next().transpose()
    }

    /// Thaws what only cgroup v1 has frozen: a signal, SIGKILL included, waits for that there.
    ///
    /// # Errors
    /// A failed system call.
    pub fn thaw_v1(&self) -> Result<(), Fault> {
        let mut members = self.members.iter();
        let Some(member) = members.find(|member| has_v1_freezer(member)) else { return Ok(()) };
        let thawed = file::directory(&member.directory)
            .and_then(|directory| file::write(directory.as_fd(), "freezer.state", "THAWED"));
        match thawed {
            Err(error) if error.errno != Errno::ENOENT => Err(Fault::at(&member.directory)(error)),
            _ => Ok(()),
        }
    }
}

impl Freezer<'_> {
    fn freeze(&self, deadline: Instant) -> Result<bool, sys::Error> {
        let directory = self.directory.as_fd();
        if self.member.is_unified() {
            file::write(directory, "cgroup.freeze", "1")?;
            let events = file::open(directory, "cgroup.events", OFlag::O_RDONLY)?;
            return wait_for_event(&events, "frozen", 1, deadline);
        }
        loop {
            // Written again each time, for processes that were forked in between.
            file::write(directory, "freezer.state", "FROZEN")?;
            if is_frozen(self.member)? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(V1_INTERVAL);
        }
    }

    fn thaw(&self) -> Result<(), sys::Error> {
        let directory = self.directory.as_fd();
        if self.member.is_unified() {
            file::write(directory, "cgroup.freeze", "0")
        } else {
            file::write(directory, "freezer.state", "THAWED")
        }
    }
}

fn has_v1_freezer(member: &Member) -> bool {
    member.controllers.iter().any(|name| name == "freezer")
}

/// The kernels between 4.5 and 5.2 have cgroup v2 without a freezer, and say nothing of it.
fn is_frozen(member: &Member) -> Result<bool, sys::Error> {
    let (name, says): (_, fn(&str) -> bool) = match member {
        member if member.is_unified() => {
            ("cgroup.events", |text| file::value_of(text, "frozen") == Some(1))
        }
        member if has_v1_freezer(member) => ("freezer.state", |text| text.trim() == "FROZEN"),
        _ => return Ok(false),
    };
    match file::read_path(&member.directory.join(name)) {
        Err(error) if is_gone(error.errno) => Ok(false),
        read => read.map(|text| says(&text)),
    }
}

/// Waits until `key` of an open `cgroup.events` is `value`; whether it came to that in time.
///
/// The kernel wakes poll(2) with POLLPRI when the file has changed since it was last read.
pub(crate) fn wait_for_event(
    events: &OwnedFd,
    key: &str,
    value: u64,
    deadline: Instant,
) -> Result<bool, sys::Error> {
    loop {
        if file::value_of(&file::content(events)?, key) == Some(value) {
            return Ok(true);
        }
        if !wait(events.as_fd(), PollFlags::POLLPRI, deadline)? {
            return Ok(false);
        }
    }
}

/// poll(2) for one descriptor; whether it was ready before the deadline.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    deadline: Instant,
) -> Result<bool, sys::Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, lest the last millisecond be spent in a loop.
        let millis = left.as_millis().saturating_add(u128::from(!left.is_zero()));
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, flags)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) if Instant::now() < deadline => {}
            result => return Ok(result.during("poll")? > 0),
        }
    }
}
