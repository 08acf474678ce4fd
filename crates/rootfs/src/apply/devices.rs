//! Device nodes and symbolic links, created in a directory that was opened inside the root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::mount::Attr;
use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchdir, fchownat, symlinkat, unlinkat};

use super::attach::put;
use super::resolve::{FileKind, LastDirectory, create_file, destination};
use super::{Context, NO_ROOT, WRONG_PHASE, root};
use crate::op::{Action, Device, NewNode, Target};

impl Context {
    pub(super) fn make_node(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Symlink { directory, name, points_to, replace } => {
                link(self.directory(directory)?, name, points_to, *replace)
            }
            Action::Node { directory, name, device, mode, uid, gid } => {
                let directory = self.directory(directory)?;
                node(directory, name, *device, *mode)?;
                set_owner(directory, name, *uid, *gid)
            }
            Action::AttachNodes { slot } => {
                let root = root::directory(c"/")?;
                davit_sys::mount::move_mount(self.slots.get(*slot)?, root.as_fd())
            }
            Action::DetachNodes { slot } => {
                let tmpfs = self.slots.take(*slot)?;
                fchdir(&tmpfs).syscall("fchdir")?;
                umount2(c".", MntFlags::MNT_DETACH).syscall("umount2")
            }
            Action::BindNode { made, source, directory, name, device } => {
                let node = self.node(made.as_ref(), source)?;
                bind(self.directory(directory)?, name, &node, *device)
            }
            _ => Err(WRONG_PHASE),
        }
    }

    /// A detached copy of the node that was created outside, or else of the host's.
    fn node(&self, made: Option<&(u16, CString)>, source: &CStr) -> Result<OwnedFd, Error> {
        // As in crun: a node is neither a program nor a directory of programs.
        let change =
            davit_sys::mount::Change { set: Attr::NOSUID | Attr::NOEXEC, ..Default::default() };
        if let Some((slot, name)) = made {
            let tmpfs = self.slots.get(*slot)?;
            match davit_sys::mount::clone_changed_tree(tmpfs, name, false, &change) {
                Err(Error { errno: Errno::ENOENT, .. }) => {}
                copied => return copied,
            }
        }
        davit_sys::mount::clone_changed_tree(AT_FDCWD, source, false, &change)
    }

    /// The directory of a node.
    fn directory(&mut self, target: &Target) -> Result<BorrowedFd<'_>, Error> {
        let Self { root, last_directory, .. } = self;
        let root = root.as_ref().ok_or(NO_ROOT)?;
        last_directory.at(&target.path, || {
            // Nothing is mounted on it.
            let mut last = LastDirectory::default();
            let missing = || Ok(FileKind::Directory);
            Ok(destination(root.as_fd(), target, &mut last, missing)?.fd)
        })
    }
}

fn link(
    directory: BorrowedFd<'_>,
    name: &CStr,
    points_to: &CStr,
    replace: bool,
) -> Result<(), Error> {
    match symlinkat(points_to, directory, name) {
        Err(Errno::EEXIST) if replace => {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).syscall("unlinkat")?;
            symlinkat(points_to, directory, name).syscall("symlinkat")
        }
        Err(Errno::EEXIST) => Ok(()),
        result => result.syscall("symlinkat"),
    }
}

fn node(directory: BorrowedFd<'_>, name: &CStr, device: Device, mode: u32) -> Result<(), Error> {
    let mode = Mode::from_bits_truncate(mode);
    match mknodat(directory, name, kind(device), mode, number(device)) {
        Err(Errno::EEXIST) => {
            let there =
                open_in_root(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Links::Refuse)?;
            if is(there.as_fd(), device)? {
                return Ok(());
            }
            Err(Error::new("another file exists: mknodat", Errno::EEXIST))
        }
        result => result.syscall("mknodat"),
    }
}

fn set_owner(directory: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<(), Error> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).syscall("fchownat")
}

/// A tmpfs with these nodes, named by their indexes. A node that the device cgroup of the runtime
/// forbids to create is left out.
pub(super) fn make_nodes(nodes: &[NewNode]) -> Result<OwnedFd, Error> {
    let context = davit_sys::mount::fsopen(c"tmpfs")?;
    // The container's root user looks up nodes in it as an unprivileged user.
    davit_sys::mount::fsconfig_string(context.as_fd(), c"mode", c"711")?;
    davit_sys::mount::fsconfig_create(context.as_fd())?;
    let tmpfs = davit_sys::mount::fsmount(context.as_fd(), Attr::NOSUID | Attr::NOEXEC)?;
    for (index, made) in nodes.iter().enumerate() {
        let name =
            CString::new(index.to_string()).map_err(|_| Error::new("mknodat", Errno::EINVAL))?;
        match node(tmpfs.as_fd(), &name, made.device, made.mode) {
            Err(Error { errno: Errno::EPERM, .. }) => continue,
            done => done?,
        }
        set_owner(tmpfs.as_fd(), &name, made.uid, made.gid)?;
    }
    Ok(tmpfs)
}

fn bind(
    directory: BorrowedFd<'_>,
    name: &CStr,
    tree: &OwnedFd,
    device: Device,
) -> Result<(), Error> {
    if !is(tree.as_fd(), device)? {
        return Err(Error::new("the host's node is another device: open_tree", Errno::ENODEV));
    }
    match create_file(directory, name, 0o600) {
        Err(error) if error.errno != Errno::EEXIST => return Err(error),
        _ => {}
    }
    // If the last component is a symbolic link this fails with ELOOP, instead of a mount on its
    // target.
    let target = open_in_root(directory, name, OFlag::O_PATH, Links::Refuse)?;
    put(tree.as_fd(), target.as_fd())
}

/// Whether an open file is this device.
pub(super) fn is(fd: BorrowedFd<'_>, device: Device) -> Result<bool, Error> {
    let stat = fstat(fd).syscall("fstat")?;
    let same_kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind(device);
    Ok(same_kind && (device == Device::Fifo || stat.st_rdev == number(device)))
}

fn kind(device: Device) -> SFlag {
    match device {
        Device::Character(..) => SFlag::S_IFCHR,
        Device::Block(..) => SFlag::S_IFBLK,
        Device::Fifo => SFlag::S_IFIFO,
    }
}

fn number(device: Device) -> u64 {
    match device {
        Device::Character(major, minor) | Device::Block(major, minor) => {
            makedev(u64::from(major), u64::from(minor))
        }
        Device::Fifo => 0,
    }
}
