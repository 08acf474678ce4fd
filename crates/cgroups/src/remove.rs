//! Removing a container's cgroup, complete or not.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use davit_sys::OsContext;
use davit_sys::poll::wait_until;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::poll::PollFlags;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use crate::cgroup::Member;
use crate::file::is_gone;
use crate::freeze::wait_for_event;
use crate::systemd::BusError;
use crate::{Cgroup, Fault, file};

/// Between two attempts if there is nothing to wait for: the last process is dead, but the kernel
/// has not released the cgroup yet.
const INTERVAL: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Removes the directories with everything below them, then the parents that were created for
    /// this container and are empty. Waits for processes that are ending; kills none.
    ///
    /// # Errors
    /// [`Fault::Busy`] with the processes that are left at the deadline; a failed system call. A
    /// missing directory is not an error.
    pub fn remove(&self, deadline: Instant) -> Result<(), Fault> {
        davit_sys::trace::operation("cgroup", &"remove the cgroup", || self.remove_trees(deadline))
    }

    fn remove_trees(&self, deadline: Instant) -> Result<(), Fault> {
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let stopped = self.stop_unit(Instant::now() + half);
        let trees = self.members.iter().map(|member| &member.directory);
        // Every tree, even if another one failed.
        let failures: Vec<Fault> =
            trees.filter_map(|tree| self.remove_tree(tree, deadline).err()).collect();
        if let Some(first) = failures.into_iter().next() {
            return Err(first);
        }
        self.remove_parents();
        // A systemd that is reloading its units misses the removal of a cgroup that it does not
        // watch yet.
        if stopped.is_err_and(|error| !error.is_disconnect()) {
            let _ = self.stop_unit(deadline);
        }
        Ok(())
    }

    /// Removes the directories if one rmdir(2) each is enough; false if not. Those of a unit are
    /// left to systemd: it notices that a cgroup becomes empty, but not while it reloads its units,
    /// and would then take a removed cgroup for one in use.
    #[must_use]
    pub fn remove_if_empty(&self) -> bool {
        if self.unit.is_some() {
            return false;
        }
        let gone = |member: &Member| {
            let removed = unlinkat(AT_FDCWD, &member.directory, UnlinkatFlags::RemoveDir);
            match removed {
                Ok(()) => true,
                Err(errno) => is_absent(&member.directory, errno),
            }
        };
        let removed = self.members.iter().all(gone);
        if removed {
            self.remove_parents();
        }
        removed
    }

    fn remove_parents(&self) {
        for parent in self.parents.iter().rev() {
            // It may be in use or already removed.
            let _ = unlinkat(AT_FDCWD, parent, UnlinkatFlags::RemoveDir);
        }
    }

    /// Stops the unit. If that fails, systemd stops it once it notices that the cgroup is empty.
    fn stop_unit(&self, deadline: Instant) -> Result<(), BusError> {
        match (&self.unit, self.members.first()) {
            (Some(unit), Some(member)) => unit.stop(&member.path, deadline),
            _ => Ok(()),
        }
    }

    fn remove_tree(&self, path: &Path, deadline: Instant) -> Result<(), Fault> {
        loop {
            // Usually one system call is enough: no process is left, and no directory below.
            match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
                Ok(()) => return Ok(()),
                Err(errno) if is_absent(path, errno) => return Ok(()),
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno).syscall("rmdir").map_err(Fault::at(path)),
            }
            let directory = match file::directory(path) {
                Err(error) if is_gone(error.errno) => return Ok(()),
                result => result.map_err(Fault::at(path))?,
            };
            if remove_below(&directory).map_err(Fault::at(path))? {
                match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
                    Ok(()) => return Ok(()),
                    Err(errno) if is_absent(path, errno) => return Ok(()),
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

    /// Waits until another attempt makes sense, by notification if possible: `cgroup.events` of v2,
    /// or else a pidfd of a process that is left.
    fn wait_until_empty(
        &self,
        directory: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<(), davit_sys::Error> {
        let notified = match file::open(directory, "cgroup.events", OFlag::O_RDONLY) {
            Ok(events) => wait_for_end(&events, deadline),
            Err(error) if is_gone(error.errno) => {
                let pids = self.procs().unwrap_or_default();
                match pids.iter().find_map(|pid| davit_sys::pidfd::open(Pid::from_raw(*pid)).ok()) {
                    Some(process) => wait_until(process.as_fd(), PollFlags::POLLIN, deadline),
                    None => Ok(false),
                }
            }
            Err(error) => Err(error),
        };
        match notified {
            Err(error) if !is_gone(error.errno) => return Err(error),
            Ok(true) => {}
            _ => std::thread::sleep(INTERVAL),
        }
        Ok(())
    }
}

/// Whether rmdir(2) failed because the directory does not exist. On a read-only mount EROFS takes
/// precedence over ENOENT.
fn is_absent(path: &Path, errno: Errno) -> bool {
    let missing = || file::directory(path).is_err_and(|error| is_gone(error.errno));
    is_gone(errno) || (errno == Errno::EROFS && missing())
}

/// Waits until a cgroup v2 with processes has none; false at once if it has none now.
fn wait_for_end(events: &OwnedFd, deadline: Instant) -> Result<bool, davit_sys::Error> {
    if file::value_of(&file::content(events)?, "populated") == Some(0) {
        return Ok(false);
    }
    wait_for_event(events, "populated", 0, deadline)
}

/// The state of a walk: a directory's name in its parent, and its children that are left.
struct Level {
    name: OsString,
    children: VecDeque<OsString>,
}

/// Removes all directories below, bottom-up; false if some are left.
///
/// A container may create a tree of any depth, so the walk needs one descriptor and no recursion:
/// it goes up through `..`, which in a cgroup tree is always the parent.
fn remove_below(top: &OwnedFd) -> Result<bool, davit_sys::Error> {
    let mut here = match file::subdirectory(top.as_fd(), Path::new(".")) {
        Err(error) if is_gone(error.errno) => return Ok(true),
        opened => opened?,
    };
    let mut above: Vec<Level> = Vec::new();
    let mut children = VecDeque::from(file::children(here.as_fd())?);
    let mut all_gone = true;
    loop {
        while let Some(name) = children.pop_front() {
            match unlinkat(&here, name.as_os_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) => {}
                Err(errno) if is_gone(errno) => {}
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
                Err(errno) => return Err(errno).syscall("rmdir"),
            }
        }
        let Some(level) = above.pop() else { return Ok(all_gone) };
        here = match file::subdirectory(here.as_fd(), Path::new("..")) {
            Err(error) if is_gone(error.errno) => return Ok(true),
            opened => opened?,
        };
        children = level.children;
        match unlinkat(&here, level.name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) => {}
            Err(errno) if is_gone(errno) => {}
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => all_gone = false,
            Err(errno) => return Err(errno).syscall("rmdir"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use crate::systemd::{Address, Bus, Unit};
    use std::fs;
    use std::path::PathBuf;

    fn cgroup(directory: PathBuf) -> Cgroup {
        let member = Member { directory, path: "x".into(), controllers: Vec::new() };
        Cgroup { members: vec![member], ..Cgroup::default() }
    }

    #[test]
    fn trees_are_removed_and_missing_ones_are_fine() {
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
    fn the_cgroup_of_a_unit_is_left_to_systemd() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("x");
        fs::create_dir(&top).unwrap();
        let free = cgroup(top.clone());
        let socket = Address::Path("/nonexistent".into());
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
        // A file keeps a directory from being removed, as a process does with a cgroup.
        fs::write(top.join("cgroup.procs"), "4194305\n").unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let fault = cgroup(top.clone()).remove(deadline).unwrap_err();
        assert_eq!(fault, Fault::Busy { path: top, pids: vec![4_194_305] });
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn deep_trees_are_removed() {
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
