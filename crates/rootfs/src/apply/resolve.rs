//! Finds a destination inside the container's root, and creates its missing components.
//!
//! Nothing here trusts the root: every lookup is openat2(2) from a descriptor, and files are
//! created in a directory that is open already.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::op::{LookupPolicy, Target};

/// The kind of file to create if the destination does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Directory,
    File,
}

/// A destination, opened with `O_PATH`.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) fd: OwnedFd,
    pub(super) created: bool,
}

/// The directory in which a file was made last: several mounts, nodes and links have the same.
#[derive(Debug, Default)]
pub(super) struct LastDirectory(Option<(CString, OwnedFd)>);

impl LastDirectory {
    /// It is known by its path only as long as nothing was mounted there, or above it.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    fn clear_below(&mut self, target: &CStr) {
        // The root is above all.
        let target = target.to_bytes();
        let target = target.strip_suffix(b"/").unwrap_or(target);
        let is_below = |path: &[u8]| {
            path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.0 = self.0.take().filter(|(path, _)| !is_below(path.to_bytes()));
    }

    /// The directory at `path`; `open` opens it if it is another one.
    pub(super) fn at(
        &mut self,
        path: &CStr,
        open: impl FnOnce() -> Result<OwnedFd, Error>,
    ) -> Result<BorrowedFd<'_>, Error> {
        let last = self.0.take().filter(|(last, _)| last.as_c_str() == path);
        let (_, fd): &(_, OwnedFd) = self.0.insert(match last {
            Some(last) => last,
            None => (path.to_owned(), open()?),
        });
        Ok(fd.as_fd())
    }
}

impl LookupPolicy {
    const fn follows_links(self) -> bool {
        matches!(self, Self::OutsideProc | Self::Proc)
    }
}

/// Maximum number of symbolic links in one lookup, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens the destination of a mount, or creates it: `missing` returns the kind of its last
/// component.
pub(super) fn destination(
    root: BorrowedFd<'_>,
    target: &Target,
    last: &mut LastDirectory,
    missing: impl FnOnce() -> Result<FileKind, Error>,
) -> Result<Destination, Error> {
    last.clear_below(&target.path);
    // Without symbolic links on the way, which is the usual case, one system call is enough.
    match open_in_root(root, &target.path, OFlag::O_PATH, Links::Refuse) {
        Ok(fd) => return Ok(Destination { fd, created: false }),
        Err(error) if error.errno == Errno::ENOENT && target.policy == LookupPolicy::MustExist => {
            return Err(Error::new("the host's devtmpfs has no such file: openat2", error.errno));
        }
        Err(error) if error.errno == Errno::ENOENT => {}
        Err(error) if error.errno == Errno::ELOOP && target.policy.follows_links() => {
            match open_in_root(root, &target.path, OFlag::O_PATH, Links::Follow) {
                Ok(fd) => {
                    last.clear();
                    refuse_procfs(fd.as_fd(), target.policy)?;
                    return Ok(Destination { fd, created: false });
                }
                Err(error) if error.errno == Errno::ENOENT => {}
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    }
    let missing = missing()?;
    let fd = match create_last(root, &target.path, last, missing)? {
        Some(fd) => fd,
        None => {
            last.clear();
            Walk::new(root, target).finish(missing)?
        }
    };
    Ok(Destination { fd, created: true })
}

/// Makes a mount point at a path inside `root`, with its parents, unless the path exists.
///
/// # Errors
/// Those of openat2(2), mkdirat(2) and openat(2), such as EROFS.
pub fn make_mountpoint(root: BorrowedFd<'_>, path: &CStr, is_directory: bool) -> Result<(), Error> {
    let target = Target { path: path.to_owned(), policy: LookupPolicy::OutsideProc };
    let kind = if is_directory { FileKind::Directory } else { FileKind::File };
    destination(root, &target, &mut LastDirectory::default(), || Ok(kind)).map(drop)
}

/// Creates the last component if only that is missing, and no symbolic link is on the way.
fn create_last(
    root: BorrowedFd<'_>,
    path: &CStr,
    last: &mut LastDirectory,
    missing: FileKind,
) -> Result<Option<OwnedFd>, Error> {
    let mut parts = path.to_bytes().rsplitn(2, |byte| *byte == b'/');
    let (name, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if matches!(name, b"" | b"." | b"..") {
        return Ok(None);
    }
    let name = c_string(name.to_vec())?;
    let parent = c_string(parent.to_vec())?;
    let open = || open_in_root(root, &parent, OFlag::O_PATH, Links::Refuse);
    let directory = match parent.is_empty() {
        true => root,
        false => match last.at(&parent, open) {
            Ok(directory) => directory,
            Err(_) => return Ok(None),
        },
    };
    match create(directory, &name, missing) {
        Ok(()) => open_in_root(directory, &name, OFlag::O_PATH, Links::Refuse).map(Some),
        // A dangling symbolic link.
        Err(error) if error.errno == Errno::EEXIST => Ok(None),
        Err(error) => Err(error),
    }
}

fn create(directory: BorrowedFd<'_>, name: &CStr, missing: FileKind) -> Result<(), Error> {
    match missing {
        FileKind::File => create_file(directory, name, 0o644),
        FileKind::Directory => {
            mkdirat(directory, name, Mode::from_bits_truncate(0o755)).syscall("mkdirat")
        }
    }
}

/// With a link into procfs the image could choose the file of procfs that is covered.
fn refuse_procfs(fd: BorrowedFd<'_>, policy: LookupPolicy) -> Result<(), Error> {
    let inside = || Ok(fstatfs(fd).syscall("fstatfs")?.filesystem_type() == PROC_SUPER_MAGIC);
    if policy == LookupPolicy::OutsideProc && inside()? {
        return Err(Error::new("a link leads into procfs: openat2", Errno::ELOOP));
    }
    Ok(())
}

/// A lookup from the root, one component at a time, that creates missing components. Symbolic links
/// are followed even if their target does not exist yet, as in other runtimes.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    policy: LookupPolicy,
    /// The present directory; `None` at the root.
    here: Option<OwnedFd>,
    /// The path from the root to `here`, without links.
    path: Vec<CString>,
    /// The remaining components, last one first.
    rest: Vec<CString>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, target: &Target) -> Self {
        let rest = components(target.path.as_bytes());
        Self { root, policy: target.policy, here: None, path: Vec::new(), rest, links: 0 }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.root, AsFd::as_fd)
    }

    fn finish(&mut self, missing: FileKind) -> Result<OwnedFd, Error> {
        while let Some(name) = self.rest.pop() {
            if name.as_bytes() == b".." {
                self.go_up()?;
                continue;
            }
            let fd = match self.open(&name) {
                Err(error) if error.errno == Errno::ENOENT => self.create(&name, missing)?,
                result => result?,
            };
            let kind = SFlag::from_bits_truncate(fstat(&fd).syscall("fstat")?.st_mode);
            if kind & SFlag::S_IFMT == SFlag::S_IFLNK {
                self.follow(fd.as_fd())?;
            } else {
                self.path.push(name);
                self.here = Some(fd);
            }
        }
        if self.links > 0 {
            refuse_procfs(self.here(), self.policy)?;
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

    fn create(&self, name: &CStr, missing: FileKind) -> Result<OwnedFd, Error> {
        let missing = if self.rest.is_empty() { missing } else { FileKind::Directory };
        match create(self.here(), name, missing) {
            Err(error) if error.errno != Errno::EEXIST => Err(error),
            _ => self.open(name),
        }
    }

    fn go_up(&mut self) -> Result<(), Error> {
        self.path.pop();
        let names: Vec<&[u8]> = self.path.iter().map(|name| name.as_bytes()).collect();
        self.here = if names.is_empty() {
            None
        } else {
            let path = c_string(names.join(&b'/'))?;
            Some(open_in_root(self.root, &path, OFlag::O_PATH, Links::Refuse)?)
        };
        Ok(())
    }

    fn follow(&mut self, link: BorrowedFd<'_>) -> Result<(), Error> {
        self.links += 1;
        if self.links > MAX_LINKS || !self.policy.follows_links() {
            return Err(Error::new("openat2", Errno::ELOOP));
        }
        let points_to = readlinkat(link, c"").syscall("readlinkat")?;
        if points_to.as_bytes().first() == Some(&b'/') {
            self.path.clear();
            self.here = None;
        }
        self.rest.append(&mut components(points_to.as_bytes()));
        Ok(())
    }
}

/// The components of a path, last one first. Names from the kernel have no NUL byte.
fn components(path: &[u8]) -> Vec<CString> {
    let names = path.split(|byte| *byte == b'/');
    let names = names.filter(|name| !name.is_empty() && *name != b".");
    let mut names: Vec<CString> = names.filter_map(|name| CString::new(name).ok()).collect();
    names.reverse();
    names
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::new("openat2", Errno::EINVAL))
}

/// Creates an empty file as a mount point.
pub(super) fn create_file(directory: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Error> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::from_bits_truncate(mode)).syscall("openat")?;
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

    #[test]
    fn the_last_directory_is_forgotten_when_a_mount_may_cover_it() {
        let open = || Ok(OwnedFd::from(File::open("/").unwrap()));
        for (target, kept) in
            [(c"/a/b/c", true), (c"/a/bc", true), (c"/a/b", false), (c"/a", false), (c"/x", true)]
        {
            let mut last = LastDirectory::default();
            last.at(c"/a/b", open).unwrap();
            last.clear_below(target);
            assert_eq!(last.0.is_some(), kept, "{target:?}");
        }
        let mut last = LastDirectory::default();
        last.at(c"/a/b", open).unwrap();
        last.clear_below(c"/");
        assert!(last.0.is_none());
    }

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
            if followed > MAX_LINKS {
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

    fn real(root: &Path, path: &str, policy: LookupPolicy) -> Result<String, Error> {
        let directory = File::open(root).unwrap();
        let target = Target { path: CString::new(path).unwrap(), policy };
        let found = destination(directory.as_fd(), &target, &mut LastDirectory::default(), || {
            Ok(FileKind::Directory)
        })?;
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
                // A link is only reached through directories, not through other links.
                let parent = place.rsplit_once('/').map(|(parent, _)| parent.to_owned());
                if parent.as_ref().is_some_and(|parent| links.contains_key(parent)) {
                    continue;
                }
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                if symlink(&points_to, &file).is_ok() {
                    links.insert(place, points_to);
                }
            }
            match (real(&root, &wanted, LookupPolicy::OutsideProc), model(&links, &wanted)) {
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
            let strict = real(scratch.path(), &wanted, LookupPolicy::NoLinks).unwrap();
            prop_assert_eq!(strict, real(scratch.path(), &wanted, LookupPolicy::Proc).unwrap());
        }
    }

    #[test]
    fn symbolic_links_are_refused_where_they_are_forbidden() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("real")).unwrap();
        symlink("real", scratch.path().join("link")).unwrap();
        for path in ["/link", "/link/below", "/link/../real"] {
            let error = real(scratch.path(), path, LookupPolicy::NoLinks).unwrap_err();
            assert_eq!(error.errno, Errno::ELOOP, "{path}");
        }
        assert_eq!(fs::read_dir(scratch.path().join("real")).unwrap().count(), 0);
    }
}
