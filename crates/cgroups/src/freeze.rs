//! Freezing and thawing a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use davit_sys::poll::wait_until;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;

use crate::cgroup::Member;
use crate::file::is_gone;
use crate::{Cgroup, Fault, file};

/// How often the state is read on cgroup v1, whose freezer does not notify.
const V1_INTERVAL: Duration = Duration::from_millis(1);

/// The directory whose freezer is used: that of cgroup v2 if there is one (on a hybrid host too:
/// freezing needs no controller), else that of the `freezer` controller of v1.
struct Freezer<'a> {
    member: &'a Member,
    directory: OwnedFd,
}

impl Cgroup {
    /// Freezes all processes, and returns once all of them are frozen.
    ///
    /// # Errors
    /// [`Fault::NotFrozen`] at the deadline, after all processes are thawed again; a failed system
    /// call.
    pub fn freeze(&self, deadline: Instant) -> Result<(), Fault> {
        let freezer = self.freezer()?.ok_or(Fault::NoFreezer)?;
        let freeze = || freezer.freeze(deadline);
        match davit_sys::trace::operation("cgroup", &"freeze every process", freeze) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.thaw()?;
                Err(Fault::NotFrozen { path: freezer.member.directory.clone() })
            }
            Err(error) => Err(Fault::at(&freezer.member.directory)(error)),
        }
    }

    /// Thaws all processes. Does nothing if the cgroup no longer exists or has no freezer.
    ///
    /// # Errors
    /// A failed system call.
    pub fn thaw(&self) -> Result<(), Fault> {
        let Some(freezer) = self.freezer()? else { return Ok(()) };
        match davit_sys::trace::operation("cgroup", &"thaw every process", || freezer.thaw()) {
            Err(error) if !is_gone(error.errno) => Err(Fault::at(&freezer.member.directory)(error)),
            _ => Ok(()),
        }
    }

    /// Whether the container is frozen; false without a freezer or without its cgroup.
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

    /// The directory whose freezer [`Cgroup::freeze`] uses; `None` if there is none.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn freezer_directory(&self) -> Result<Option<&Path>, Fault> {
        Ok(self.freezer()?.map(|freezer| freezer.member.directory.as_path()))
    }

    /// The first freezer; a hybrid host has two.
    fn freezer(&self) -> Result<Option<Freezer<'_>>, Fault> {
        let mut freezers = self.members.iter().filter_map(|member| {
            let control = match member {
                member if member.is_unified() => "cgroup.freeze",
                member if has_v1_freezer(member) => "freezer.state",
                _ => return None,
            };
            let opened = file::directory(&member.directory).and_then(|directory| {
                // Kernels from 4.5 until 5.2 have cgroup v2 without a freezer.
                file::open(directory.as_fd(), control, OFlag::O_RDONLY).map(|_| directory)
            });
            match opened {
                Ok(directory) => Some(Ok(Freezer { member, directory })),
                Err(error) if is_gone(error.errno) => None,
                Err(error) => Some(Err(Fault::at(&member.directory)(error))),
            }
        });
        freezers.next().transpose()
    }

    /// Thaws the cgroup v1 freezer of the container's cgroup and of all below: processes that it
    /// has frozen receive no signals, not even SIGKILL. (On cgroup v2 SIGKILL is received.)
    ///
    /// # Errors
    /// A failed system call.
    pub fn thaw_v1(&self) -> Result<(), Fault> {
        let mut members = self.members.iter();
        let Some(member) = members.find(|member| has_v1_freezer(member)) else { return Ok(()) };
        let thaw =
            |directory: BorrowedFd<'_>| match file::write(directory, "freezer.state", "THAWED") {
                Err(error) if is_gone(error.errno) => Ok(()),
                written => written,
            };
        let thawed = file::directory(&member.directory).and_then(|top| file::walk(top, thaw));
        match thawed {
            Err(error) if !is_gone(error.errno) => Err(Fault::at(&member.directory)(error)),
            _ => Ok(()),
        }
    }
}

impl Freezer<'_> {
    fn freeze(&self, deadline: Instant) -> Result<bool, davit_sys::Error> {
        let directory = self.directory.as_fd();
        if self.member.is_unified() {
            file::write(directory, "cgroup.freeze", "1")?;
            let events = file::open(directory, "cgroup.events", OFlag::O_RDONLY)?;
            return wait_for_event(&events, "frozen", 1, deadline);
        }
        loop {
            // Written again each time, for processes that were forked in the meantime.
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

    fn thaw(&self) -> Result<(), davit_sys::Error> {
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

/// Kernels from 4.5 until 5.2 have cgroup v2 without a freezer.
fn is_frozen(member: &Member) -> Result<bool, davit_sys::Error> {
    let (name, is_frozen): (_, fn(&str) -> bool) = match member {
        member if member.is_unified() => {
            ("cgroup.events", |text| file::value_of(text, "frozen") == Some(1))
        }
        member if has_v1_freezer(member) => ("freezer.state", |text| text.trim() == "FROZEN"),
        _ => return Ok(false),
    };
    match file::read_path(&member.directory.join(name)) {
        Err(error) if is_gone(error.errno) => Ok(false),
        read => read.map(|text| is_frozen(&text)),
    }
}

/// Waits until `key` of an open `cgroup.events` is `value`; false if the deadline passes first.
///
/// The kernel wakes poll(2) with POLLPRI when the file has changed since it was last read.
pub(crate) fn wait_for_event(
    events: &OwnedFd,
    key: &str,
    value: u64,
    deadline: Instant,
) -> Result<bool, davit_sys::Error> {
    loop {
        if file::value_of(&file::content(events)?, key) == Some(value) {
            return Ok(true);
        }
        if !wait_until(events.as_fd(), PollFlags::POLLPRI, deadline)? {
            return Ok(false);
        }
    }
}
