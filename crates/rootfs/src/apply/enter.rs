//! Entering the container's root, and masking paths.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::mount::{self, Attr, Change};
use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::unistd::{chroot, fchdir, pivot_root};

use super::attach::{is_directory, put};
use super::devices::is;
use super::root::directory;
use super::{Context, WRONG_PHASE};
use crate::op::{Action, Device};

const NULL: Device = Device::Character(1, 3);

impl Context {
    pub(super) fn enter(&mut self, action: &Action) -> Result<(), Error> {
        self.last_directory.clear();
        match action {
            Action::CoverHostMount(path) => cover_host_mount(path),
            Action::Pivot => pivot(self.root()?),
            Action::Chroot { move_to_root } => chroot_into(self.root()?, *move_to_root),
            Action::ReadOnlyMount(path) => {
                let mount = open_in_root(self.root()?, path, OFlag::O_PATH, Links::Follow)?;
                make_read_only(mount.as_fd())
            }
            Action::Mask(path) => self.mask(path),
            Action::ReadOnlyPath(path) => self.read_only_path(path),
            Action::ReadOnlyRoot => make_read_only(self.root()?),
            Action::SetRootPropagation { propagation, recursive } => {
                let change = Change::propagation(*propagation);
                mount::mount_setattr(self.root()?, c"", *recursive, &change)
            }
            _ => Err(WRONG_PHASE),
        }
    }

    /// Opens a path; `None` if it does not exist.
    fn existing(&self, path: &CStr) -> Result<Option<OwnedFd>, Error> {
        match open_in_root(self.root()?, path, OFlag::O_PATH, Links::Follow) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            result => result.map(Some),
        }
    }

    fn mask(&mut self, path: &CStr) -> Result<(), Error> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        if !is_directory(target.as_fd())? {
            let cover = mount::clone_tree(self.null()?, c"", false)?;
            return put(cover.as_fd(), target.as_fd());
        }
        // One empty file system for all; only attached mounts can be copied (before Linux 6.15).
        match &self.empty {
            Some(empty) => {
                let cover = mount::clone_tree(empty.as_fd(), c"", false)?;
                put(cover.as_fd(), target.as_fd())
            }
            None => {
                let empty = empty_directory()?;
                put(empty.as_fd(), target.as_fd())?;
                self.empty = Some(empty);
                Ok(())
            }
        }
    }

    /// The container's null device, which is checked: an image may have another file of that name
    /// (CVE-2025-31133).
    fn null(&mut self) -> Result<BorrowedFd<'_>, Error> {
        let null = match self.null.take() {
            Some(null) => null,
            None => {
                let null = open_in_root(self.root()?, c"/dev/null", OFlag::O_PATH, Links::Refuse)?;
                if !is(null.as_fd(), NULL)? {
                    return Err(Error::new(
                        "/dev/null is not the null device: openat2",
                        Errno::ENODEV,
                    ));
                }
                null
            }
        };
        let null: &OwnedFd = self.null.insert(null);
        Ok(null.as_fd())
    }

    fn read_only_path(&self, path: &CStr) -> Result<(), Error> {
        let Some(target) = self.existing(path)? else { return Ok(()) };
        let copy = mount::clone_changed_tree(target.as_fd(), c"", true, &READ_ONLY)?;
        put(copy.as_fd(), target.as_fd())
    }
}

const READ_ONLY: Change = Change { set: Attr::RDONLY, clear: Attr::NONE, propagation: None };

fn make_read_only(mount: BorrowedFd<'_>) -> Result<(), Error> {
    mount::mount_setattr(mount, c"", false, &READ_ONLY)
}

fn empty_directory() -> Result<OwnedFd, Error> {
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig_flag(context.as_fd(), c"ro")?;
    mount::fsconfig_string(context.as_fd(), c"mode", c"755")?;
    mount::fsconfig_create(context.as_fd())?;
    mount::fsmount(context.as_fd(), Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC)
}

/// Stacks the old root onto the new one, and detaches it: no directory for the old root is needed
/// (pivot_root(2), "pivot_root(".", ".")").
fn pivot(root: BorrowedFd<'_>) -> Result<(), Error> {
    fchdir(root).syscall("fchdir")?;
    pivot_root(c".", c".").syscall("pivot_root")?;
    umount2(c".", MntFlags::MNT_DETACH).syscall("umount2")
}

fn chroot_into(root: BorrowedFd<'_>, move_to_root: bool) -> Result<(), Error> {
    if move_to_root {
        put(root, directory(c"/")?.as_fd())?;
    }
    fchdir(root).syscall("fchdir")?;
    chroot(c".").syscall("chroot")
}

fn cover_host_mount(path: &CStr) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // Locked in this user namespace, or not a mount point any more: cover it.
        Err(Errno::EINVAL | Errno::EPERM) => {
            put(empty_directory()?.as_fd(), directory(path)?.as_fd())
        }
        Err(errno) => Err(Error::new("umount2", errno)),
    }
}
