//! Making one directory of a container, with every level above it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, mkdirat};
use sys::During;

use crate::file;

const MODE: Mode = Mode::from_bits_truncate(0o755);

/// Rounds of [`make`], each lost to someone who removed a level above in the same moment.
const ROUNDS: usize = 16;

/// The container's directory, and which directories did not exist before.
pub(crate) struct Made {
    pub(crate) directory: OwnedFd,
    pub(crate) created: Vec<PathBuf>,
}

impl Made {
    /// Whether the container's own directory is new.
    pub(crate) fn is_new(&self, directory: &Path) -> bool {
        self.created.last().is_some_and(|last| last == directory)
    }
}

/// mkdir(2) for each level of `path`. A directory that is there already is taken only when it is fit
/// for a container: empty, and not frozen.
pub(crate) fn make(
    mountpoint: &Path,
    path: &Path,
    controllers: &[String],
) -> Result<Made, sys::Error> {
    let cpuset = controllers.iter().any(|name| name == "cpuset");
    let mut created = Vec::new();
    for _ in 0..ROUNDS {
        match levels(mountpoint, path, cpuset, &mut created) {
            Err(error) if error.errno == Errno::ENOENT && !created.is_empty() => {}
            Err(error) => return Err(error),
            Ok(directory) => {
                let made = Made { directory, created };
                if !made.is_new(&mountpoint.join(path)) {
                    check_fit(made.directory.as_fd())?;
                }
                return Ok(made);
            }
        }
    }
    Err(sys::Error::new("mkdirat", Errno::ENOENT))
}

fn levels(
    mountpoint: &Path,
    path: &Path,
    cpuset: bool,
    created: &mut Vec<PathBuf>,
) -> Result<OwnedFd, sys::Error> {
    if !cpuset && let Some(directory) = last_level(&mountpoint.join(path), created)? {
        return Ok(directory);
    }
    let mut here = file::directory(mountpoint)?;
    let mut so_far = mountpoint.to_path_buf();
    for name in path {
        let name = Path::new(name);
        so_far.push(name);
        match mkdirat(&here, name, MODE) {
            Ok(()) => created.push(so_far.clone()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).during("mkdirat"),
        }
        let below = file::subdirectory(here.as_fd(), name)?;
        if cpuset {
            inherit_cpuset(here.as_fd(), below.as_fd())?;
        }
        here = below;
    }
    Ok(here)
}

/// Where all levels above are there, as they are most often, the last one is two system calls.
fn last_level(path: &Path, created: &mut Vec<PathBuf>) -> Result<Option<OwnedFd>, sys::Error> {
    match mkdirat(AT_FDCWD, path, MODE) {
        Ok(()) => created.push(path.to_owned()),
        Err(Errno::EEXIST) => {}
        // That is said of the very level which it is about.
        Err(_) => return Ok(None),
    }
    file::directory(path).map(Some)
}

/// A new v1 cpuset has no cpu and no memory node, and takes no process before it has both
/// (cpuset(7)). cgroup v2 inherits by itself.
fn inherit_cpuset(above: BorrowedFd<'_>, below: BorrowedFd<'_>) -> Result<(), sys::Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(below, name)?.trim().is_empty() {
            file::write(below, name, file::read(above, name)?.trim())?;
        }
    }
    Ok(())
}

/// The spec lets a runtime refuse a cgroup that is frozen or holds processes; limits and signals
/// meant for one container would reach another.
fn check_fit(directory: BorrowedFd<'_>) -> Result<(), sys::Error> {
    if file::has_processes(directory)? {
        return Err(sys::Error::new("cgroup.procs", Errno::EBUSY));
    }
    for (name, thawed) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        match file::read(directory, name) {
            Ok(state) if state.trim() != thawed => return Err(sys::Error::new(name, Errno::EBUSY)),
            Ok(_) => {}
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn existing_directories_must_be_fit() {
        let root = tempfile::tempdir().unwrap();
        let made = make(root.path(), Path::new("a/b"), &[]).unwrap();
        assert_eq!(made.created, [root.path().join("a"), root.path().join("a/b")]);
        assert!(made.is_new(&root.path().join("a/b")));

        fs::write(root.path().join("a/b/cgroup.procs"), "").unwrap();
        let again = make(root.path(), Path::new("a/b"), &[]).unwrap();
        assert!(again.created.is_empty());

        fs::write(root.path().join("a/b/cgroup.procs"), "17\n").unwrap();
        let error = make(root.path(), Path::new("a/b"), &[]).err().unwrap();
        assert_eq!((error.call, error.errno), ("cgroup.procs", Errno::EBUSY));

        fs::write(root.path().join("a/b/cgroup.events"), "populated 0\nfrozen 1\n").unwrap();
        fs::write(root.path().join("a/b/cgroup.freeze"), "1\n").unwrap();
        let error = make(root.path(), Path::new("a/b"), &[]).err().unwrap();
        assert_eq!((error.call, error.errno), ("cgroup.freeze", Errno::EBUSY));
    }

    #[test]
    fn cpusets_inherit_at_every_level() {
        let root = tempfile::tempdir().unwrap();
        for level in ["", "a", "a/b"] {
            fs::create_dir_all(root.path().join(level)).unwrap();
            fs::write(root.path().join(level).join("cpuset.cpus"), "\n").unwrap();
            fs::write(root.path().join(level).join("cpuset.mems"), "\n").unwrap();
            fs::write(root.path().join(level).join("cgroup.procs"), "").unwrap();
        }
        fs::write(root.path().join("cpuset.cpus"), "0-3\n").unwrap();
        fs::write(root.path().join("cpuset.mems"), "0\n").unwrap();
        fs::write(root.path().join("a/cpuset.cpus"), "1\n").unwrap();
        make(root.path(), Path::new("a/b"), &["cpuset".to_owned()]).unwrap();
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(read("a/cpuset.cpus").trim(), "1");
        assert_eq!(read("a/cpuset.mems").trim(), "0");
        assert_eq!(read("a/b/cpuset.cpus").trim(), "1");
        assert_eq!(read("a/b/cpuset.mems").trim(), "0");
    }
}
