//! The mounts of a container that has no mount namespace of its own, taken away after its end.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use sys::path::{Links, open_in_root};
use sys::{During, Error};

use crate::apply::directory;
use crate::mountinfo;

/// The ids of the mounts below a container's root: those that are there before the container is,
/// are not its own.
///
/// # Errors
/// /proc is not there.
pub fn mounts_below(root: &Path) -> Result<Vec<u64>, Error> {
    Ok(below(root)?.into_iter().map(|(id, _)| id).collect())
}

/// Unmounts what is below a container's root, but for the mounts with the ids `others`.
///
/// # Errors
/// A mount that cannot be removed.
pub fn unmount_below(root: &Path, others: &[u64]) -> Result<(), Error> {
    let own = below(root)?.into_iter().filter(|(id, _)| !others.contains(id));
    for (_, path) in own.collect::<Vec<_>>().into_iter().rev() {
        let root = directory(&c_string(root)?)?;
        // Whoever shares the tree may have put a link in the way since the kernel told the path.
        let mount = open_in_root(root.as_fd(), &c_string(&path)?, OFlag::O_PATH, Links::Refuse)?;
        let handle = format!("/proc/self/fd/{}", mount.as_raw_fd());
        umount2(handle.as_str(), MntFlags::MNT_DETACH).during("umount2")?;
    }
    Ok(())
}

/// Id and path, relative to the root, of each mount below it, parents before children.
fn below(root: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let Ok(root) = root.canonicalize() else { return Ok(Vec::new()) };
    let text = std::fs::read("/proc/self/mountinfo").during("open")?;
    let inside = |(id, path): (u64, PathBuf)| {
        let path = path.strip_prefix(&root).ok()?.to_owned();
        (!path.as_os_str().is_empty()).then_some((id, path))
    };
    Ok(mountinfo::mounts(&text).filter_map(inside).collect())
}

fn c_string(path: &Path) -> Result<std::ffi::CString, Error> {
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new("path", nix::errno::Errno::EINVAL))
}
