//! Creating one directory of a container, with every missing parent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, mkdirat};

use crate::file;
use crate::file::is_gone;

const MODE: Mode = Mode::from_bits_truncate(0o755);

/// Maximum number of attempts: each may fail because another process removes a parent directory.
const MAX_RETRIES: usize = 16;

/// The container's directory, and the directories that were created.
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

/// Creates each level of `path`. An existing directory is used only if it has no processes and is
/// not frozen.
pub(crate) fn make(
    mountpoint: &Path,
    path: &Path,
    controllers: &[String],
) -> Result<Made, davit_sys::Error> {
    let cpuset = controllers.iter().any(|name| name == "cpuset");
    let mut created = Vec::new();
    for _ in 0..MAX_RETRIES {
        match levels(mountpoint, path, cpuset, &mut created) {
            Err(error) if is_gone(error.errno) && !created.is_empty() => {}
            Err(error) => return Err(error),
            Ok(directory) => {
                let made = Made { directory, created };
                if !made.is_new(&mountpoint.join(path)) {
                    check_unused(made.directory.as_fd())?;
                }
                return Ok(made);
            }
        }
    }
    Err(davit_sys::Error::new("mkdirat", Errno::ENOENT))
}

fn levels(
    mountpoint: &Path,
    path: &Path,
    cpuset: bool,
    created: &mut Vec<PathBuf>,
) -> Result<OwnedFd, davit_sys::Error> {
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
            Err(errno) => return Err(errno).syscall("mkdirat"),
        }
        let below = file::subdirectory(here.as_fd(), name)?;
        if cpuset {
            inherit_cpuset(here.as_fd(), below.as_fd())?;
        }
        here = below;
    }
    Ok(here)
}

/// The last level alone takes two system calls if the parents exist, as they usually do.
fn last_level(
    path: &Path,
    created: &mut Vec<PathBuf>,
) -> Result<Option<OwnedFd>, davit_sys::Error> {
    match mkdirat(AT_FDCWD, path, MODE) {
        Ok(()) => created.push(path.to_owned()),
        Err(Errno::EEXIST) => {}
        // Creating level by level finds the one that fails.
        Err(_) => return Ok(None),
    }
    file::directory(path).map(Some)
}

/// Copies the cpuset of the parent: a new v1 cpuset has no CPU and no memory node, and refuses
/// processes until it has both (cpuset(7)). On cgroup v2 the kernel does that.
fn inherit_cpuset(above: BorrowedFd<'_>, below: BorrowedFd<'_>) -> Result<(), davit_sys::Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(below, name)?.trim().is_empty() {
            file::write(below, name, file::read(above, name)?.trim())?;
        }
    }
    Ok(())
}

/// Refuses a cgroup that has processes or is frozen, as the specification allows: limits and
/// signals for one container would affect another.
fn check_unused(directory: BorrowedFd<'_>) -> Result<(), davit_sys::Error> {
    if file::has_processes(directory)? {
        return Err(davit_sys::Error::new("cgroup.procs", Errno::EBUSY));
    }
    for (name, thawed) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        match file::read(directory, name) {
            Ok(state) if state.trim() != thawed => {
                return Err(davit_sys::Error::new(name, Errno::EBUSY));
            }
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
    fn existing_directories_must_be_unused() {
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
