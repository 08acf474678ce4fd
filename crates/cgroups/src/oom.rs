//! Being told of processes that the kernel kills for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use sys::During;

use crate::cgroup::{Member, is_gone};
use crate::{Cgroup, Fault, file};

/// A watch on a container's memory.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
}

/// What has happened since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OomNews {
    /// How many processes were killed.
    pub kills: u64,
    /// Whose limit it was; `None` where the whole machine had no memory left, and on cgroup v1, which
    /// does not tell.
    pub limited: Option<Limited>,
}

/// A cgroup that has reached its limit of memory: the container's own, or one above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Its path, below the mount point of cgroup v2.
    pub path: PathBuf,
    /// The limit in bytes; `None` if it has been lifted since.
    pub limit: Option<u64>,
}

#[derive(Debug)]
enum Source {
    /// `memory.events` of cgroup v2, and how many kills it had when it was last read.
    Events { file: OwnedFd, seen: u64, levels: Vec<Level> },
    /// A counter that cgroup v1 adds to. `control` tells whether the cgroup is there: its end is
    /// counted too.
    Counter { counter: OwnedFd, control: OwnedFd },
}

/// One level of cgroup v2, from the container's own upwards. The kills are counted in the cgroup of
/// the killed, but the want of memory (`oom`) only where the limit is: in `memory.events.local`.
#[derive(Debug)]
struct Level {
    directory: PathBuf,
    path: PathBuf,
    seen: u64,
}

impl Cgroup {
    /// Begins to watch; `None` where nothing counts memory.
    ///
    /// # Errors
    /// A failed system call.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Fault> {
        for (tree, name) in [("memory", "memory.oom_control"), ("", "memory.events")] {
            let Some(member) = self.member(tree) else { continue };
            let at = || Fault::at(member.directory.join(name));
            let source = match file::directory(&member.directory) {
                Ok(opened) if tree.is_empty() => watch_v2(opened.as_fd(), name, member),
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

fn watch_v2(directory: BorrowedFd<'_>, name: &str, member: &Member) -> Result<Source, sys::Error> {
    let file = file::open(directory, name, OFlag::O_RDONLY)?;
    let levels = member.directory.ancestors().zip(member.path.ancestors());
    let levels = levels
        // The root of the tree has no limit.
        .take_while(|(_, path)| !path.as_os_str().is_empty())
        .map(|(directory, path)| {
            let (directory, path) = (directory.to_owned(), Path::new("/").join(path));
            Level { seen: wants(&directory), directory, path }
        });
    let levels = levels.collect();
    let seen = file::value_of(&file::content(&file)?, "oom_kill").unwrap_or(0);
    Ok(Source::Events { file, seen, levels })
}

/// How often the limit of this very cgroup was reached. The file came with Linux 5.2.
fn wants(directory: &Path) -> u64 {
    let text = file::read_path(&directory.join("memory.events.local")).unwrap_or_default();
    file::value_of(&text, "oom").unwrap_or(0)
}

/// Whose limit has been reached since the last time.
fn limited(levels: &mut [Level]) -> Option<Limited> {
    let mut found = None;
    for level in levels {
        let now = wants(&level.directory);
        if now > std::mem::replace(&mut level.seen, now) && found.is_none() {
            let limit = file::read_path(&level.directory.join("memory.max")).unwrap_or_default();
            found = Some(Limited { path: level.path.clone(), limit: limit.trim().parse().ok() });
        }
    }
    found
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

    /// What has happened since the last time. A cgroup that has gone has no news.
    ///
    /// # Errors
    /// A failed system call.
    pub fn news(&mut self) -> Result<OomNews, sys::Error> {
        match &mut self.source {
            Source::Events { file, seen, levels } => match file::content(file) {
                Ok(text) => {
                    let now = file::value_of(&text, "oom_kill").unwrap_or(*seen);
                    let kills = now.saturating_sub(std::mem::replace(seen, now));
                    // The kernel counts the want before the kill: not looked at in between.
                    let limited = if kills > 0 { limited(levels) } else { None };
                    Ok(OomNews { kills, limited })
                }
                Err(error) if is_gone(error.errno) => Ok(OomNews::default()),
                Err(error) => Err(error),
            },
            Source::Counter { counter, control } => {
                let mut bytes = [0; 8];
                match nix::unistd::read(&*counter, &mut bytes) {
                    Err(Errno::EAGAIN) => return Ok(OomNews::default()),
                    result => result.during("read")?,
                };
                match file::content(control) {
                    Ok(_) => Ok(OomNews { kills: u64::from_ne_bytes(bytes), limited: None }),
                    Err(error) if is_gone(error.errno) => Ok(OomNews::default()),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of(root: &Path, path: &str) -> Cgroup {
        let member =
            Member { directory: root.join(path), path: path.into(), controllers: Vec::new() };
        Cgroup { members: vec![member], ..Cgroup::default() }
    }

    #[test]
    fn only_what_is_new_is_news() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = of(root.path(), "x");
        fs::create_dir(root.path().join("x")).unwrap();
        assert!(cgroup.watch_oom().unwrap().is_none());
        let events = root.path().join("x/memory.events");
        fs::write(&events, "oom 3\noom_kill 2\n").unwrap();
        let mut watch = cgroup.watch_oom().unwrap().unwrap();
        assert_eq!(watch.news().unwrap(), OomNews::default());
        fs::write(&events, "oom 9\noom_kill 5\n").unwrap();
        assert_eq!(watch.news().unwrap(), OomNews { kills: 3, limited: None });
        assert_eq!(watch.news().unwrap(), OomNews::default());
    }

    #[test]
    fn the_level_whose_limit_was_reached_is_named() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("a/b/c");
        fs::create_dir_all(&leaf).unwrap();
        let write = |directory: &str, name: &str, text: &str| {
            fs::write(root.path().join(directory).join(name), text).unwrap();
        };
        write("a/b/c", "memory.events", "oom 0\noom_kill 0\n");
        for level in ["a/b/c", "a/b", "a"] {
            write(level, "memory.events.local", "oom 1\noom_kill 0\n");
        }
        let mut watch = of(root.path(), "a/b/c").watch_oom().unwrap().unwrap();

        write("a", "memory.events.local", "oom 2\noom_kill 0\n");
        write("a", "memory.max", "4096\n");
        assert_eq!(watch.news().unwrap(), OomNews::default());
        write("a/b/c", "memory.events", "oom 0\noom_kill 1\n");
        let limited = Limited { path: "/a".into(), limit: Some(4096) };
        assert_eq!(watch.news().unwrap(), OomNews { kills: 1, limited: Some(limited) });

        write("a/b/c", "memory.events", "oom 1\noom_kill 2\n");
        write("a/b/c", "memory.events.local", "oom 2\noom_kill 1\n");
        write("a/b/c", "memory.max", "max\n");
        let limited = Limited { path: "/a/b/c".into(), limit: None };
        assert_eq!(watch.news().unwrap(), OomNews { kills: 1, limited: Some(limited) });
    }
}
