//! OOM kill notification.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;

use crate::cgroup::Member;
use crate::file::is_gone;
use crate::{Cgroup, Fault, file};

/// Watches a container for OOM kills.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
}

/// OOM kills since the last read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OomEvent {
    /// How many processes were killed.
    pub kills: u64,
    /// The cgroup whose limit was reached; `None` if the host itself is out of memory, and on
    /// cgroup v1, which does not tell.
    pub scope: Option<OomScope>,
}

/// A cgroup that has reached its memory limit: the container's own, or an ancestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomScope {
    /// Its path, below the mount point of cgroup v2.
    pub path: PathBuf,
    /// The limit in bytes; `None` if it has been removed since.
    pub limit: Option<u64>,
}

#[derive(Debug)]
enum Source {
    /// `memory.events` of cgroup v2, and its number of kills at the last read.
    Events { file: OwnedFd, seen: u64, levels: Vec<Level> },
    /// An eventfd that cgroup v1 signals. `control` tells whether the cgroup still exists, because
    /// its removal is signalled too.
    Counter { counter: OwnedFd, control: OwnedFd },
}

/// One level of cgroup v2, from the container's own upwards. Kills are counted in the cgroup of the
/// process, but running out of memory (`oom`) in the cgroup with the limit: `memory.events.local`.
#[derive(Debug)]
struct Level {
    directory: PathBuf,
    path: PathBuf,
    seen: u64,
}

impl Cgroup {
    /// Starts to watch; `None` without a memory controller.
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

fn watch_v2(
    directory: BorrowedFd<'_>,
    name: &str,
    member: &Member,
) -> Result<Source, davit_sys::Error> {
    let file = file::open(directory, name, OFlag::O_RDONLY)?;
    let levels = member.directory.ancestors().zip(member.path.ancestors());
    let levels = levels
        // The root of the tree has no limit.
        .take_while(|(_, path)| !path.as_os_str().is_empty())
        .map(|(directory, path)| {
            let (directory, path) = (directory.to_owned(), Path::new("/").join(path));
            Level { seen: local_ooms(&directory), directory, path }
        });
    let levels = levels.collect();
    let seen = file::value_of(&file::content(&file)?, "oom_kill").unwrap_or(0);
    Ok(Source::Events { file, seen, levels })
}

/// How often the limit of this cgroup itself was reached. The file exists since Linux 5.2.
fn local_ooms(directory: &Path) -> u64 {
    let text = file::read_path(&directory.join("memory.events.local")).unwrap_or_default();
    file::value_of(&text, "oom").unwrap_or(0)
}

/// The cgroup whose limit has been reached since the last read.
fn scope(levels: &mut [Level]) -> Option<OomScope> {
    let mut found = None;
    for level in levels {
        let now = local_ooms(&level.directory);
        if now > std::mem::replace(&mut level.seen, now) && found.is_none() {
            let limit = file::read_path(&level.directory.join("memory.max")).unwrap_or_default();
            found = Some(OomScope { path: level.path.clone(), limit: limit.trim().parse().ok() });
        }
    }
    found
}

/// `cgroup.event_control` takes the eventfd and the file to watch (memory.txt of cgroup v1, "OOM
/// Control").
fn watch_v1(directory: BorrowedFd<'_>, name: &str) -> Result<Source, davit_sys::Error> {
    let control = file::open(directory, name, OFlag::O_RDONLY)?;
    let counter = davit_sys::eventfd::counter()?;
    let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
    file::write(directory, "cgroup.event_control", &line)?;
    Ok(Source::Counter { counter, control })
}

impl OomWatch {
    /// The descriptor and events for poll(2).
    #[must_use]
    pub fn poll_events(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.source {
            // POLLERR is set with POLLPRI here, and is not an error (cgroups v2, "Interface
            // Files").
            Source::Events { file, .. } => (file.as_fd(), PollFlags::POLLPRI),
            Source::Counter { counter, .. } => (counter.as_fd(), PollFlags::POLLIN),
        }
    }

    /// Reads the kills since the last read: none if the cgroup no longer exists.
    ///
    /// # Errors
    /// A failed system call.
    pub fn read(&mut self) -> Result<OomEvent, davit_sys::Error> {
        match &mut self.source {
            Source::Events { file, seen, levels } => match file::content(file) {
                Ok(text) => {
                    let now = file::value_of(&text, "oom_kill").unwrap_or(*seen);
                    let kills = now.saturating_sub(std::mem::replace(seen, now));
                    // The kernel counts the `oom` before the kill.
                    let scope = if kills > 0 { scope(levels) } else { None };
                    Ok(OomEvent { kills, scope })
                }
                Err(error) if is_gone(error.errno) => Ok(OomEvent::default()),
                Err(error) => Err(error),
            },
            Source::Counter { counter, control } => {
                let mut bytes = [0; 8];
                match nix::unistd::read(&*counter, &mut bytes) {
                    Err(Errno::EAGAIN) => return Ok(OomEvent::default()),
                    result => result.syscall("read")?,
                };
                match file::content(control) {
                    Ok(_) => Ok(OomEvent { kills: u64::from_ne_bytes(bytes), scope: None }),
                    Err(error) if is_gone(error.errno) => Ok(OomEvent::default()),
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
    fn only_new_kills_are_returned() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = of(root.path(), "x");
        fs::create_dir(root.path().join("x")).unwrap();
        assert!(cgroup.watch_oom().unwrap().is_none());
        let events = root.path().join("x/memory.events");
        fs::write(&events, "oom 3\noom_kill 2\n").unwrap();
        let mut watch = cgroup.watch_oom().unwrap().unwrap();
        assert_eq!(watch.read().unwrap(), OomEvent::default());
        fs::write(&events, "oom 9\noom_kill 5\n").unwrap();
        assert_eq!(watch.read().unwrap(), OomEvent { kills: 3, scope: None });
        assert_eq!(watch.read().unwrap(), OomEvent::default());
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
        assert_eq!(watch.read().unwrap(), OomEvent::default());
        write("a/b/c", "memory.events", "oom 0\noom_kill 1\n");
        let scope = OomScope { path: "/a".into(), limit: Some(4096) };
        assert_eq!(watch.read().unwrap(), OomEvent { kills: 1, scope: Some(scope) });

        write("a/b/c", "memory.events", "oom 1\noom_kill 2\n");
        write("a/b/c", "memory.events.local", "oom 2\noom_kill 1\n");
        write("a/b/c", "memory.max", "max\n");
        let scope = OomScope { path: "/a/b/c".into(), limit: None };
        assert_eq!(watch.read().unwrap(), OomEvent { kills: 1, scope: Some(scope) });
    }
}
