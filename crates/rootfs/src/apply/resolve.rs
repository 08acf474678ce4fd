//! Finds a destination inside the container's root, and makes what is missing of it.
//!
//! Nothing here trusts the root: every lookup is openat2(2) from a descriptor, and whatever is
//! made is made in a directory that was opened before.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use sys::path::{Links, open_in_root};
use sys::{During, Error};

use crate::op::{Rule, Target};

/// What to make where the destination does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    File,
}

/// A destination, opened with `O_PATH`.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fd: OwnedFd,
    pub(super) made: bool,
}

/// As many as the kernel follows in one lookup (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Opens a destination. `missing` says what to make of its last component, and is only asked
/// where it is not there.
pub(super) fn destination(
    root: BorrowedFd<'_>,
    target: &Target,
    missing: impl FnOnce() -> Result<Missing, Error>,
) -> Result<Found, Error> {
    // Where the path meets no link it is what it says: the usual case is one system call.
    match open_in_root(root, &target.path, OFlag::O_PATH, Links::Refuse) {
        Ok(fd) => return Ok(Found { fd, made: false }),
        Err(error) if error.errno == Errno::ENOENT => {}
        Err(error) if error.errno == Errno::ELOOP && target.rule != Rule::NoLinks => {
            match open_in_root(root, &target.path, OFlag::O_PATH, Links::Follow) {
                Ok(fd) => {
                    refuse_procfs(fd.as_fd(), target.rule)?;
                    return Ok(Found { fd, made: false });
                }
                Err(error) if error.errno == Errno::ENOENT => {}
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    }
    let mut walk = Walk::begin(root, target);
    let fd = walk.finish(missing()?)?;
    Ok(Found { fd, made: true })
}

/// A link that leads into procfs would let the image choose which of its files is covered.
fn refuse_procfs(fd: BorrowedFd<'_>, rule: Rule) -> Result<(), Error> {
    let inside = || Ok(fstatfs(fd).during("fstatfs")?.filesystem_type() == PROC_SUPER_MAGIC);
    if rule == Rule::OutsideProc && inside()? {
        return Err(Error::new("a link leads into procfs: openat2", Errno::ELOOP));
    }
    Ok(())
}

/// A walk from the root, one component at a time, that makes what is missing. Links are followed
/// to where they point even if nothing is there yet, as the other runtimes do.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    rule: Rule,
    /// Where the walk is; `None` at the root.
    here: Option<OwnedFd>,
    /// The way from the root to `here`, without links.
    way: Vec<CString>,
    /// What is still to be walked, last component first.
    rest: Vec<CString>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn begin(root: BorrowedFd<'a>, target: &Target) -> Self {
        let rest = components(target.path.as_bytes());
        Self { root, rule: target.rule, here: None, way: Vec::new(), rest, links: 0 }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.root, AsFd::as_fd)
    }

    fn finish(&mut self, missing: Missing) -> Result<OwnedFd, Error> {
        while let Some(name) = self.rest.pop() {
            if name.as_bytes() == b".." {
                self.back()?;
                continue;
            }
            let fd = match self.open(&name) {
                Err(error) if error.errno == Errno::ENOENT => self.make(&name, missing)?,
                result => result?,
            };
            let kind = SFlag::from_bits_truncate(fstat(&fd).during("fstat")?.st_mode);
            if kind & SFlag::S_IFMT == SFlag::S_IFLNK {
                self.follow(fd.as_fd())?;
            } else {
                self.way.push(name);
                self.here = Some(fd);
            }
        }
        if self.links > 0 {
            refuse_procfs(self.here(), self.rule)?;
        }
        match self.here.take() {
            Some(fd) => Ok(fd),
            None => open_in_root(self.root, c".", OFlag::O_PATH, Links::Refuse),
        }
    }

    fn open(&self, name: &CStr) -> Result<OwnedFd, Error> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        open_in_root(self.here(), name, flags, Links::Refuse)
    }

    fn make(&self, name: &CStr, missing: Missing) -> Result<OwnedFd, Error> {
        let result = if missing == Missing::File && self.rest.is_empty() {
            make_file(self.here(), name, 0o644)
        } else {
            mkdirat(self.here(), name, Mode::from_bits_truncate(0o755)).during("mkdirat")
        };
        match result {
            Err(error) if error.errno != Errno::EEXIST => Err(error),
            _ => self.open(name),
        }
    }

    fn back(&mut self) -> Result<(), Error> {
        self.way.pop();
        let names: Vec<&[u8]> = self.way.iter().map(|name| name.as_bytes()).collect();
        self.here = if names.is_empty() {
            None
        } else {
            let path = plain(names.join(&b'/'))?;
            Some(open_in_root(self.root, &path, OFlag::O_PATH, Links::Refuse)?)
        };
        Ok(())
    }

    fn follow(&mut self, link: BorrowedFd<'_>) -> Result<(), Error> {
        self.links += 1;
        if self.links > MOST_LINKS || self.rule == Rule::NoLinks {
            return Err(Error::new("openat2", Errno::ELOOP));
        }
        let points_to = readlinkat(link, c"").during("readlinkat")?;
        if points_to.as_bytes().first() == Some(&b'/') {
            self.way.clear();
            self.here = None;
        }
        self.rest.append(&mut components(points_to.as_bytes()));
        Ok(())
    }
}

/// The components of a path, last one first; a name from the kernel has no NUL in it.
fn components(path: &[u8]) -> Vec<CString> {
    let names = path.split(|byte| *byte == b'/');
    let names = names.filter(|name| !name.is_empty() && *name != b".");
    let mut names: Vec<CString> = names.filter_map(|name| CString::new(name).ok()).collect();
    names.reverse();
    names
}

fn plain(bytes: Vec<u8>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::new("openat2", Errno::EINVAL))
}

/// Makes an empty file that a mount can go over.
pub(super) fn make_file(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Error> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::from_bits_truncate(mode)).during("openat")?;
    Ok(())
}
