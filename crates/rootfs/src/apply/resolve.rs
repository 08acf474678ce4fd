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
    let missing = missing()?;
    let fd = match make_last(root, &target.path, missing)? {
        Some(fd) => fd,
        None => Walk::begin(root, target).finish(missing)?,
    };
    Ok(Found { fd, made: true })
}

/// Makes the last component where only that is missing, and no link is on the way to it.
fn make_last(
    root: BorrowedFd<'_>,
    path: &CStr,
    missing: Missing,
) -> Result<Option<OwnedFd>, Error> {
    let mut parts = path.to_bytes().rsplitn(2, |byte| *byte == b'/');
    let (name, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if matches!(name, b"" | b"." | b"..") {
        return Ok(None);
    }
    let name = plain(name.to_vec())?;
    let opened;
    let directory = if parent.is_empty() {
        root
    } else {
        let parent = plain(parent.to_vec())?;
        match open_in_root(root, &parent, OFlag::O_PATH, Links::Refuse) {
            Ok(fd) => opened = fd,
            Err(_) => return Ok(None),
        }
        opened.as_fd()
    };
    match make(directory, &name, missing) {
        Ok(()) => open_in_root(directory, &name, OFlag::O_PATH, Links::Refuse).map(Some),
        // A link that points to nothing.
        Err(error) if error.errno == Errno::EEXIST => Ok(None),
        Err(error) => Err(error),
    }
}

fn make(directory: BorrowedFd<'_>, name: &CStr, missing: Missing) -> Result<(), Error> {
    match missing {
        Missing::File => make_file(directory, name, 0o644),
        Missing::Directory => {
            mkdirat(directory, name, Mode::from_bits_truncate(0o755)).during("mkdirat")
        }
    }
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
        let missing = if self.rest.is_empty() { missing } else { Missing::Directory };
        match make(self.here(), name, missing) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// What path_resolution(7) says, with the root as the only world and all that is missing made.
    fn model(links: &BTreeMap<String, String>, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut way: Vec<String> = Vec::new();
        let mut followed = 0;
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    way.pop();
                    continue;
                }
                _ => way.push(name),
            }
            let Some(points_to) = links.get(&way.join("/")) else { continue };
            followed += 1;
            if followed > MOST_LINKS {
                return None;
            }
            way.pop();
            if points_to.starts_with('/') {
                way.clear();
            }
            rest.extend(points_to.split('/').rev().map(str::to_owned));
        }
        Some(way.join("/"))
    }

    fn real(root: &Path, path: &str, rule: Rule) -> Result<String, Error> {
        let directory = File::open(root).unwrap();
        let target = Target { path: CString::new(path).unwrap(), rule };
        let found = destination(directory.as_fd(), &target, || Ok(Missing::Directory))?;
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found.fd));
        let place = fs::read_link(name).unwrap();
        let inside = place.strip_prefix(root.canonicalize().unwrap());
        Ok(inside.expect("inside the root").to_str().unwrap().to_owned())
    }

    fn part() -> impl Strategy<Value = String> {
        "(a|b|c|\\.\\.|\\.|)"
    }

    fn path() -> impl Strategy<Value = String> {
        (any::<bool>(), prop::collection::vec(part(), 1..5))
            .prop_map(|(absolute, parts)| {
                if absolute { "/" } else { "" }.to_owned() + &parts.join("/")
            })
            .prop_filter("an empty path is no path", |path| !path.is_empty())
    }

    proptest! {
        #[test]
        fn a_destination_is_where_the_model_says(
            places in prop::collection::vec(("[abc](/[abc])?", path()), 0..5),
            wanted in path(),
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let root = scratch.path().join("root");
            fs::create_dir(&root).unwrap();
            let mut links = BTreeMap::new();
            for (place, points_to) in places {
                let file = root.join(&place);
                // Only directories that are none themselves lead to a link.
                let parent = place.rsplit_once('/').map(|(parent, _)| parent.to_owned());
                if parent.as_ref().is_some_and(|parent| links.contains_key(parent)) {
                    continue;
                }
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                if symlink(&points_to, &file).is_ok() {
                    links.insert(place, points_to);
                }
            }
            match (real(&root, &wanted, Rule::OutsideProc), model(&links, &wanted)) {
                (Ok(place), Some(expected)) => prop_assert_eq!(place, expected),
                (Err(error), None) => prop_assert_eq!(error.errno, Errno::ELOOP),
                (real, model) => prop_assert!(false, "{:?} {:?}", real, model),
            }
            // Nothing was made beside the root.
            prop_assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        }

        #[test]
        fn without_links_the_rule_makes_no_difference(wanted in path()) {
            let scratch = tempfile::tempdir().unwrap();
            let strict = real(scratch.path(), &wanted, Rule::NoLinks).unwrap();
            prop_assert_eq!(strict, real(scratch.path(), &wanted, Rule::Proc).unwrap());
        }
    }

    #[test]
    fn no_link_is_followed_where_none_may_be() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("real")).unwrap();
        symlink("real", scratch.path().join("link")).unwrap();
        for path in ["/link", "/link/below", "/link/../real"] {
            let error = real(scratch.path(), path, Rule::NoLinks).unwrap_err();
            assert_eq!(error.errno, Errno::ELOOP, "{path}");
        }
        assert_eq!(fs::read_dir(scratch.path().join("real")).unwrap().count(), 0);
    }
}
