//! Paths inside a directory that is not trusted: `openat2(2)` never leaves it.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::Error;

/// What symbolic links on the way may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are followed, absolute ones from the root directory given.
    Follow,
    /// Any of them is an error (ELOOP); with `O_PATH | O_NOFOLLOW` the last component may be one,
    /// and is what is opened.
    Refuse,
}

/// How often a lookup is begun again when renames or mounts elsewhere disturb it.
const PATIENCE: usize = 64;

/// openat2(2) of `path` with `root` as its root directory (`RESOLVE_IN_ROOT`,
/// `RESOLVE_NO_MAGICLINKS`), close-on-exec. An absolute path begins at `root` too.
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
    for _ in 0..PATIENCE {
        match openat2(root, path, how) {
            Ok(fd) => return Ok(fd),
            // A rename or mount anywhere on the machine during `..` says "try again" (openat2(2)).
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(other) => {
                errno = other;
                break;
            }
        }
    }
    Err(Error::new("openat2", errno))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
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
