//! Being told of processes that the kernel kills for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use sys::During;

use crate::cgroup::is_gone;
use crate::{Cgroup, Fault, file};

/// A watch on a container's memory.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// `memory.events` of cgroup v2, and how many kills it had when it was last read.
    Events { file: OwnedFd, seen: u64 },
    /// A counter that cgroup v1 adds to. `control` tells whether the cgroup is there: its end is
    /// counted too.
    Counter { counter: OwnedFd, control: OwnedFd },
}

impl Cgroup {
    /// Begins to watch; `None` where nothing counts memory.
    ///
    /// # Errors
    /// A failed system call.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Fault> {
        for (tree, name) in [("memory", "memory.oom_control"), ("", "memory.events")] {
            let Some(directory) = self.directory(tree) else { continue };
            let at = || Fault::at(directory.join(name));
            let source = match file::directory(directory) {
                Ok(opened) if tree.is_empty() => watch_v2(opened.as_fd(), name),
                Ok(opened) => watch_v1(opened.as_fd(), name),
                Err(error) => Err(error),
            };
            match source {
                Ok(source) => return Ok(Some(OomWatch { source })),
                Err(error) if is_gone(error.errno) => {}
                Err(error) => return Err(at()(error)),
            }
        }
        Ok(None)
    }
}

fn watch_v2(directory: BorrowedFd<'_>, name: &str) -> Result<Source, sys::Error> {
    let file = file::open(directory, name, OFlag::O_RDONLY)?;
    let seen = file::value_of(&file::content(&file)?, "oom_kill").unwrap_or(0);
    Ok(Source::Events { file, seen })
}

/// `cgroup.event_control` takes the counter and the file that it is to count for (cgroup v1's
/// memory.txt, "OOM Control").
fn watch_v1(directory: BorrowedFd<'_>, name: &str) -> Result<Source, sys::Error> {
    let control = file::open(directory, name, OFlag::O_RDONLY)?;
    let counter = sys::eventfd::counter()?;
    let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
    file::write(directory, "cgroup.event_control", &line)?;
    Ok(Source::Counter { counter, control })
}

impl OomWatch {
    /// What to wait for with poll(2).
    #[must_use]
    pub fn wakes(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.source {
            // POLLERR comes with POLLPRI here, and is no error (cgroups v2, "Interface Files").
            Source::Events { file, .. } => (file.as_fd(), PollFlags::POLLPRI),
            Source::Counter { counter, .. } => (counter.as_fd(), PollFlags::POLLIN),
        }
    }

    /// How often it has happened since the last time. A cgroup that has gone has no news.
    ///
    /// # Errors
    /// A failed system call.
    pub fn news(&mut self) -> Result<u64, sys::Error> {
        match &mut self.source {
            Source::Events { file, seen } => match file::content(file) {
                Ok(text) => {
                    let now = file::value_of(&text, "oom_kill").unwrap_or(*seen);
                    Ok(now.saturating_sub(std::mem::replace(seen, now)))
                }
                Err(error) if is_gone(error.errno) => Ok(0),
                Err(error) => Err(error),
            },
            Source::Counter { counter, control } => {
                let mut bytes = [0; 8];
                match nix::unistd::read(&*counter, &mut bytes) {
                    Err(Errno::EAGAIN) => return Ok(0),
                    result => result.during("read")?,
                };
                match file::content(control) {
                    Ok(_) => Ok(u64::from_ne_bytes(bytes)),
                    Err(error) if is_gone(error.errno) => Ok(0),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use std::fs;

    #[test]
    fn only_what_is_new_is_news() {
        let root = tempfile::tempdir().unwrap();
        let member =
            Member { directory: root.path().to_owned(), path: "x".into(), controllers: Vec::new() };
        let cgroup = Cgroup { members: vec![member], ..Cgroup::default() };
        assert!(cgroup.watch_oom().unwrap().is_none());
        let events = root.path().join("memory.events");
        fs::write(&events, "oom 3\noom_kill 2\n").unwrap();
        let mut watch = cgroup.watch_oom().unwrap().unwrap();
        assert_eq!(watch.news().unwrap(), 0);
        fs::write(&events, "oom 9\noom_kill 5\n").unwrap();
        assert_eq!(watch.news().unwrap(), 3);
        assert_eq!(watch.news().unwrap(), 0);
    }
}
