//! Removing a container's cgroup, whatever of it there is.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::poll::PollFlags;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use sys::During;

use crate::cgroup::{Member, is_gone};
use crate::freeze::{wait, wait_for_event};
use crate::{Cgroup, Fault, file};

/// Between two tries where nothing can be waited for: the last process is dead, but the kernel has
/// not let go of the cgroup yet.
const INTERVAL: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Removes the directories with everything below them, then those above that were made for this
    /// container and are empty. Waits for processes that are dying; kills nothing.
    ///
    /// # Errors
    /// [`Fault::Busy`] with the processes that are left at the deadline; a failed system call. A
    /// directory that is not there is as good as removed.
    pub fn remove(&self, deadline: Instant) -> Result<(), Fault> {
        self.stop_unit(deadline);
        let trees = self.members.iter().map(|member| &member.directory);
        // Every tree, whatever became of the others.
        let failures: Vec<Fault> =
            trees.filter_map(|tree| self.remove_tree(tree, deadline).err()).collect();
        if let Some(first) = failures.into_iter().next() {
            return Err(first);
        }
        self.remove_parents();
        Ok(())
    }

    /// Removes the directories where that takes one rmdir(2) each; whether it did. Those of a unit are
    /// systemd's: it sees that a cgroup has become empty, but not while it reloads its units, and would
    /// take one that has gone by then for one in use.
    #[must_use]
    pub fn remove_if_empty(&self) -> bool {
        if self.unit.is_some() {
            return false;
        }
        let gone = |member: &Member| {
            let removed = unlinkat(AT_FDCWD, &member.directory, UnlinkatFlags::RemoveDir);
            matches!(removed, Ok(()) | Err(Errno::ENOENT))
        };
        let removed = self.members.iter().all(gone);
        if removed {
            self.remove_parents();
        }
        removed
    }

    fn remove_parents(&self) {
        for parent in self.parents.iter().rev() {
            // In use by others, or gone: both are right.
            let _ = unlinkat(AT_FDCWD, parent, UnlinkatFlags::RemoveDir);
        }
    }

    /// Ends the unit. Where systemd cannot be asked, or is too busy, it sees by itself that the cgroup
    /// has become empty: then that is the end of the unit too.
    fn stop_unit(&self, deadline: Instant) {
        if let (Some(unit), Some(member)) = (&self.unit, self.members.first()) {
            let half = deadline.saturating_duration_since(Instant::now()) / 2;
            let _ = unit.stop(&member.path, Instant::now() + half);
        }
    }

    fn remove_tree(&self, path: &Path, deadline: Instant) -> Result<(), Fault> {
        loop {
            // The usual case is one system call: no process left, nothing below.
            match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno).during("rmdir").map_err(Fault::at(path)),
            }
            let directory = match file::directory(path) {
                Err(error) if error.errno == Errno::ENOENT => return Ok(()),
                result => result.map_err(Fault::at(path))?,
            };
            if remove_below(&directory).map_err(Fault::at(path))? {
                match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
                    Ok(()) => return Ok(()),
                    Err(_) if Instant::now() < deadline => {}
                    Err(_) => return Err(self.busy(path)),
                }
            }
            if Instant::now() >= deadline {
                return Err(self.busy(path));
            }
            self.wait_until_empty(directory.as_fd(), deadline).map_err(Fault::at(path))?;
        }
    }

    fn busy(&self, path: &Path) -> Fault {
        Fault::Busy { path: path.to_path_buf(), pids: self.procs().unwrap_or_default() }
    }

    /// Waits for a reason to try again, without asking again and again where the kernel can tell:
    /// `cgroup.events` of v2, or else a pidfd of some process that is left.
    fn wait_until_empty(
        &self,
        directory: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<(), sys::Error> {
        let told = match file::open(directory, "cgroup.events", OFlag::O_RDONLY) {
            Ok(events) => wait_for_end(&events, deadline),
            Err(error) if is_gone(error.errno) => {
                let pids = self.procs().unwrap_or_default();
                match pids.iter().find_map(|pid| sys::pidfd::open(Pid::from_raw(*pid)).ok()) {
                    Some(process) => wait(process.as_fd(), PollFlags::POLLIN, deadline),
                    None => Ok(false),
                }
            }
            Err(error) => Err(error),
        };
        match told {
            Err(error) if !is_gone(error.errno) => return Err(error),
            Ok(true) => {}
            _ => std::thread::sleep(INTERVAL),
        }
        Ok(())
    }
}

/// Waits until a cgroup v2 that holds processes holds none; false at once where it holds none now.
fn wait_for_end(events: &OwnedFd, deadline: Instant) -> Result<bool, sys::Error> {
    if file::value_of(&file::content(events)?, "populated") == Some(0) {
        return Ok(false);
    }
    wait_for_event(events, "populated", 0, deadline)
}

/// Where a walk stands: a directory's name in the one above, and which of its children are left.
struct Level {
    name: OsString,
    children: VecDeque<OsString>,
}

/// Removes all directories below, bottom-up; whether there is none left.
///
/// A container may have made a tree of any depth, so the walk needs one descriptor and no recursion:
/// up it goes through `..`, which in a cgroup tree is the directory above.
fn remove_below(top: &OwnedFd) -> Result<bool, sys::Error> {
    let mut here = file::subdirectory(top.as_fd(), Path::new("."))?;
    let mut above: Vec<Level> = Vec::new();
    let mut children = VecDeque::from(file::children(here.as_fd())?);
    let mut all_gone = true;
    loop {
        while let Some(name) = children.pop_front() {
            match unlinkat(&here, name.as_os_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => {
                    let below = match file::subdirectory(here.as_fd(), Path::new(&name)) {
                        Err(error) if is_gone(error.errno) => continue,
                        result => result?,
                    };
                    let names = VecDeque::from(file::children(below.as_fd())?);
                    if names.is_empty() {
                        all_gone = false;
                        continue;
                    }
                    above.push(Level { name, children: std::mem::replace(&mut children, names) });
                    here = below;
                }
                Err(errno) => return Err(errno).during("rmdir"),
            }
        }
        let Some(level) = above.pop() else { return Ok(all_gone) };
        here = file::subdirectory(here.as_fd(), Path::new(".."))?;
        children = level.children;
        match unlinkat(&here, level.name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => all_gone = false,
            Err(errno) => return Err(errno).during("rmdir"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use crate::systemd::{Bus, Socket, Unit};
    use std::fs;
    use std::path::PathBuf;

    fn cgroup(directory: PathBuf) -> Cgroup {
        let member = Member { directory, path: "x".into(), controllers: Vec::new() };
        Cgroup { members: vec![member], ..Cgroup::default() }
    }

    #[test]
    fn whole_trees_go_and_missing_ones_are_fine() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x");
        let mut cgroup = cgroup(top.clone());
        cgroup.remove(Instant::now()).unwrap();
        for path in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        cgroup.parents = vec![root.path().join("p"), root.path().join("p/q")];
        fs::create_dir_all(root.path().join("p/q")).unwrap();
        cgroup.remove(Instant::now() + Duration::from_secs(5)).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_units_cgroup_is_not_removed_behind_its_back() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x");
        fs::create_dir(&top).unwrap();
        let free = cgroup(top.clone());
        let socket = Socket::Path("/nonexistent".into());
        let bus = Bus { socket, direct: true, user: false };
        let unit = Unit { name: "x.scope".into(), bus, version: 0 };
        assert!(!Cgroup { unit: Some(unit), ..free.clone() }.remove_if_empty() && top.exists());
        assert!(free.remove_if_empty() && !top.exists());
    }

    #[test]
    fn parents_that_others_use_stay() {
        let root = tempfile::tempdir().unwrap();
        let mut cgroup = cgroup(root.path().join("p/x"));
        cgroup.parents = vec![root.path().join("p")];
        fs::create_dir_all(root.path().join("p/x")).unwrap();
        fs::create_dir_all(root.path().join("p/other")).unwrap();
        cgroup.remove(Instant::now()).unwrap();
        assert!(!root.path().join("p/x").exists() && root.path().join("p/other").exists());
    }

    #[test]
    fn what_cannot_be_removed_is_an_error_at_the_deadline() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x");
        fs::create_dir_all(&top).unwrap();
        // A plain file keeps a plain directory, as a process keeps a cgroup.
        fs::write(top.join("cgroup.procs"), "4194305\n").unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let fault = cgroup(top.clone()).remove(deadline).unwrap_err();
        assert_eq!(fault, Fault::Busy { path: top, pids: vec![4_194_305] });
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn depth_is_no_danger() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x");
        fs::create_dir(&top).unwrap();
        let mut here = file::directory(&top).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&here, "deeper", nix::sys::stat::Mode::S_IRWXU).unwrap();
            here = file::subdirectory(here.as_fd(), Path::new("deeper")).unwrap();
        }
        cgroup(top.clone()).remove(Instant::now() + Duration::from_secs(5)).unwrap();
        assert!(!top.exists());
    }
}
