//! Paths inside a directory that is not trusted: `openat2(2)` does not leave it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::sys::stat::Mode;

use crate::{Error, OsContext};

/// How symbolic links on the way are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are followed, absolute ones from the given root directory.
    Follow,
    /// Each of them is an error (ELOOP); with `O_PATH | O_NOFOLLOW` the last component may be one,
    /// which is opened itself.
    Refuse,
}

/// Maximum number of retries when openat2 returns EAGAIN.
const MAX_RETRIES: usize = 64;

/// openat2(2) of `path` with `root` as its root directory (`RESOLVE_IN_ROOT`,
/// `RESOLVE_NO_MAGICLINKS`), close-on-exec. An absolute path starts at `root` too.
///
/// # Errors
/// The errno of openat2(2): ENOENT, ELOOP, ENOTDIR, EACCES, ...
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    links: Links,
) -> Result<OwnedFd, Error> {
    let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let mut errno = Errno::EAGAIN;
    for _ in 0..MAX_RETRIES {
        match openat2(root, path, how) {
            Ok(fd) => return Ok(fd),
            // A rename or mount anywhere on the host during `..` is EAGAIN (openat2(2)).
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(other) => {
                errno = other;
                break;
            }
        }
    }
    Err(Error::new("openat2", errno))
}

/// A path as a C string.
///
/// # Errors
/// EINVAL for a NUL byte in it.
pub fn c_string(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::new("open", Errno::EINVAL))
}

/// An absolute path without symbolic links, as realpath(3), which makes a system call for each
/// component of the path.
///
/// # Errors
/// ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG.
pub fn canonical<P: ?Sized + NixPath>(path: &P) -> Result<PathBuf, Error> {
    let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).syscall("open")?;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let found = PathBuf::from(readlink(link.as_str()).syscall("readlink")?);
    // The kernel says so after the name of what has been removed, but a file may be named so too.
    if found.as_os_str().as_bytes().ends_with(b" (deleted)") && !found.exists() {
        return Err(Error::new("open", Errno::ENOENT));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn canonical_paths_are_absolute_and_without_links() {
        let scratch =
            Scratch(std::env::temp_dir().join(format!("sys-path-real-{}", std::process::id())));
        let real = scratch.0.join("real");
        fs::create_dir_all(&real).unwrap();
        symlink("real", scratch.0.join("link")).unwrap();
        let through = scratch.0.join("link/../link/.");
        assert_eq!(canonical(&through).unwrap(), fs::canonicalize(&real).unwrap());
        assert_eq!(canonical(".").unwrap(), std::env::current_dir().unwrap());
        assert_eq!(canonical(&scratch.0.join("none")).unwrap_err().errno, Errno::ENOENT);
        let named = scratch.0.join("x (deleted)");
        fs::create_dir(&named).unwrap();
        assert_eq!(canonical(&named).unwrap(), fs::canonicalize(&named).unwrap());
        let removed = File::open(&named).unwrap();
        fs::remove_dir(&named).unwrap();
        let removed = format!("/proc/self/fd/{}", removed.as_raw_fd());
        assert_eq!(canonical(removed.as_str()).unwrap_err().errno, Errno::ENOENT);
    }

    #[test]
    fn links_stay_inside_the_root() {
        let scratch =
            Scratch(std::env::temp_dir().join(format!("sys-path-{}", std::process::id())));
        fs::create_dir_all(scratch.0.join("inside")).unwrap();
        symlink("/inside", scratch.0.join("absolute")).unwrap();
        symlink("../../../../../../../../etc", scratch.0.join("upwards")).unwrap();
        let root = File::open(&scratch.0).unwrap();
        let open = |path, links| open_in_root(root.as_fd(), path, OFlag::O_PATH, links);
        assert!(open(c"/absolute", Links::Follow).is_ok());
        assert_eq!(open(c"upwards", Links::Follow).unwrap_err().errno, Errno::ENOENT);
        assert_eq!(open(c"absolute", Links::Refuse).unwrap_err().errno, Errno::ELOOP);
        assert!(open(c"inside", Links::Refuse).is_ok());
    }
}
