//! Facts of the host for hints after a failure: the component of a path that could not be looked
//! up, and the type of a file system. Nothing is opened or changed.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use davit_sys::IdMapping;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, lstat, stat};

use crate::mountinfo::filesystems;

/// The ids of the container's new user namespace; empty without one, or with a joined one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

impl Ids {
    /// The host uid of a user of the container; the same without a user namespace.
    pub(crate) fn uid_outside(&self, id: u32) -> Option<u32> {
        match self.uids.as_slice() {
            [] => Some(id),
            ranges => ranges.iter().find_map(|range| range.to_host(id)),
        }
    }

    /// The host gid of a group of the container.
    pub(crate) fn gid_outside(&self, id: u32) -> Option<u32> {
        match self.gids.as_slice() {
            [] => Some(id),
            ranges => ranges.iter().find_map(|range| range.to_host(id)),
        }
    }

    /// Whether root of the container has these permissions on a file (4, 2, 1): CAP_DAC_OVERRIDE of
    /// a user namespace applies only to files of its own ids (capabilities(7)).
    fn may(&self, file: &FileStat, bits: u32) -> bool {
        if self.uids.is_empty() {
            return true;
        }
        let is_ours = self.uids.iter().any(|range| range.has_host(file.st_uid))
            && self.gids.iter().any(|range| range.has_host(file.st_gid));
        let shift = match (self.uid_outside(0), self.gid_outside(0)) {
            (Some(uid), _) if uid == file.st_uid => 6,
            (_, Some(gid)) if gid == file.st_gid => 3,
            _ => 0,
        };
        is_ours || file.st_mode >> shift & bits == bits
    }
}

/// Why a lookup failed.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The first component that does not exist.
    Missing(PathBuf),
    /// A dangling symbolic link, and its target.
    Dangling(PathBuf, PathBuf),
    /// A file that is not a directory.
    NotDirectory(PathBuf),
    /// A symbolic link that leads to itself; in a root, any symbolic link.
    Link(PathBuf),
    /// A directory that root of the container may not search or write to.
    NoAccess(NoAccess),
}

/// A directory, with its mode and owner.
#[derive(Debug)]
pub(crate) struct NoAccess {
    directory: PathBuf,
    mode: u32,
    uid: u32,
    gid: u32,
    /// The path that could not be created in it.
    missing: Option<PathBuf>,
}

impl NoAccess {
    fn new(directory: &Path, stat: &FileStat, missing: Option<&Path>) -> Self {
        Self {
            directory: directory.to_owned(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            missing: missing.map(Path::to_owned),
        }
    }

    /// `/srv is mode 0700 of 0:0; uid 0 of the container's user namespace is uid 100000 here`
    pub(crate) fn describe(&self, ids: &Ids) -> String {
        let Self { directory, mode, uid, gid, missing } = self;
        let missing = missing.as_ref().map_or_else(String::new, |path| {
            format!("{} is not there, and cannot be created: ", path.display())
        });
        let who = match ids.uid_outside(0).filter(|_| !ids.uids.is_empty()) {
            Some(uid) => format!("uid 0 of the container's user namespace is uid {uid} here"),
            None => format!("davit runs as uid {}", nix::unistd::geteuid()),
        };
        format!("{missing}{} is mode {mode:04o} of {uid}:{gid}; {who}", directory.display())
    }
}

/// Why the lookup of a path of the host fails.
pub(crate) fn obstacle(path: &Path, ids: &Ids) -> Option<Obstacle> {
    let mut parts: Vec<&Path> =
        path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    let mut parent: Option<(&Path, FileStat)> = None;
    for part in parts {
        let found = match stat(part) {
            Ok(found) => found,
            Err(Errno::ENOENT) => {
                return Some(match std::fs::read_link(part) {
                    Ok(to) => Obstacle::Dangling(part.to_owned(), to),
                    Err(_) => Obstacle::Missing(part.to_owned()),
                });
            }
            Err(Errno::ENOTDIR) => return Some(Obstacle::NotDirectory(parent?.0.to_owned())),
            Err(Errno::ELOOP) => return Some(Obstacle::Link(part.to_owned())),
            Err(Errno::EACCES) => {
                let (directory, stat) = parent?;
                return Some(Obstacle::NoAccess(NoAccess::new(directory, &stat, None)));
            }
            Err(_) => return None,
        };
        if is(&found, libc::S_IFDIR) && !ids.may(&found, 1) {
            return Some(Obstacle::NoAccess(NoAccess::new(part, &found, None)));
        }
        parent = Some((part, found));
    }
    None
}

/// The first component of a path of the host that does not exist.
#[must_use]
pub fn missing(path: &Path) -> Option<PathBuf> {
    match obstacle(path, &Ids::default())? {
        Obstacle::Missing(part) | Obstacle::Dangling(part, _) => Some(part),
        _ => None,
    }
}

/// Why the lookup of a path in a root at this directory of the host fails. Symbolic links are not
/// followed.
pub(crate) fn obstacle_in_root(root: &Path, path: &Path, ids: &Ids) -> Option<Obstacle> {
    let mut here = root.to_owned();
    let mut shown = PathBuf::from("/");
    let mut directory = lstat(&here).ok()?;
    let names: Vec<_> = path.iter().filter(|name| name.as_bytes() != b"/").collect();
    for (index, name) in names.iter().enumerate() {
        if !ids.may(&directory, 1) {
            return Some(Obstacle::NoAccess(NoAccess::new(&here, &directory, None)));
        }
        shown.push(name);
        let next = here.join(name);
        match lstat(&next) {
            Ok(found) if is(&found, libc::S_IFLNK) => {
                return Some(Obstacle::Link(shown));
            }
            Ok(found) if is(&found, libc::S_IFDIR) => directory = found,
            Ok(_) if index + 1 < names.len() => return Some(Obstacle::NotDirectory(shown)),
            Ok(_) => return None,
            Err(Errno::ENOENT) if !ids.may(&directory, 2) => {
                return Some(Obstacle::NoAccess(NoAccess::new(&here, &directory, Some(&shown))));
            }
            Err(Errno::ENOENT) => return Some(Obstacle::Missing(shown)),
            Err(_) => return None,
        }
        here = next;
    }
    None
}

fn is(stat: &FileStat, kind: u32) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// The type of the file system of a path: that of the mount with the longest matching mount point.
pub(crate) fn type_of(path: &Path) -> Option<String> {
    let path = davit_sys::path::canonical(path).ok()?;
    let mountinfo = std::fs::read("/proc/self/mountinfo").ok()?;
    let mounts = filesystems(&mountinfo).filter(|(mount, _)| path.starts_with(mount));
    // Of two on one mount point the later one is visible.
    let last = mounts.max_by_key(|(mount, _)| mount.as_os_str().len())?;
    Some(String::from_utf8_lossy(last.1).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mapped() -> Ids {
        let range = |size| vec![IdMapping { container: 0, host: 100_000, size }];
        Ids { uids: range(10), gids: range(10) }
    }

    #[test]
    fn the_component_that_fails_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("closed")).unwrap();
        fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("/nosuch", at("dangling")).unwrap();
        let look = |name: &str| obstacle(&at(name), &mapped());
        assert!(matches!(look("a/b/c"), Some(Obstacle::Missing(part)) if part == at("a")));
        assert!(matches!(look("file/b"), Some(Obstacle::NotDirectory(part)) if part == at("file")));
        assert!(matches!(look("circle"), Some(Obstacle::Link(part)) if part == at("circle")));
        assert!(
            matches!(look("dangling"), Some(Obstacle::Dangling(_, to)) if to == Path::new("/nosuch"))
        );
        let Some(Obstacle::NoAccess(closed)) = look("closed/b") else { panic!() };
        let text = closed.describe(&mapped());
        assert!(text.contains("closed is mode 0700 of "), "{text}");
        assert!(
            text.ends_with("uid 0 of the container's user namespace is uid 100000 here"),
            "{text}"
        );
        assert!(look("file").is_none());
    }

    #[test]
    fn root_of_a_user_namespace_has_access_to_files_of_its_ids() {
        let mut file = stat("/").unwrap();
        file.st_mode = libc::S_IFDIR | 0o700;
        for (uid, gid, may) in
            [(100_000, 0, true), (100_005, 100_005, true), (100_005, 0, false), (0, 0, false)]
        {
            (file.st_uid, file.st_gid) = (uid, gid);
            assert_eq!(mapped().may(&file, 1), may, "{uid}:{gid}");
        }
        assert!(Ids::default().may(&file, 1));
    }
}
