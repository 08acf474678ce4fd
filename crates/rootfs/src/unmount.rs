//! Unmounting the mounts of a container without a mount namespace, after its end.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use davit_sys::path::{Links, c_string, open_in_root};
use davit_sys::{Error, OsContext};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};

use crate::apply::directory;
use crate::mountinfo;

/// The ids of the mounts below a container's root, which are not the container's if they exist
/// before it is created.
///
/// # Errors
/// /proc/self/mountinfo cannot be read.
pub fn mounts_below(root: &Path) -> Result<Vec<u64>, Error> {
    Ok(below(root)?.into_iter().map(|(id, _)| id).collect())
}

/// Unmounts all mounts below a container's root, except those with the ids `others`.
///
/// # Errors
/// A mount cannot be unmounted.
pub fn unmount_below(root: &Path, others: &[u64]) -> Result<(), Error> {
    let own = below(root)?.into_iter().filter(|(id, _)| !others.contains(id));
    for (_, path) in own.collect::<Vec<_>>().into_iter().rev() {
        let root = directory(&c_string(root)?)?;
        // A process may have replaced a component by a symbolic link since mountinfo was read.
        let mount = open_in_root(root.as_fd(), &c_string(&path)?, OFlag::O_PATH, Links::Refuse)?;
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        umount2(path.as_str(), MntFlags::MNT_DETACH).syscall("umount2")?;
    }
    Ok(())
}

/// Id and path, relative to the root, of each mount below it, parents before children.
fn below(root: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let Ok(root) = root.canonicalize() else { return Ok(Vec::new()) };
    let text = std::fs::read("/proc/self/mountinfo").syscall("open")?;
    let inside = |(id, path): (u64, PathBuf)| {
        let path = path.strip_prefix(&root).ok()?.to_owned();
        (!path.as_os_str().is_empty()).then_some((id, path))
    };
    Ok(mountinfo::mounts(&text).filter_map(inside).collect())
}
