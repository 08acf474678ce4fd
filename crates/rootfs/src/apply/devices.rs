//! Device nodes and links, made in a directory that was opened inside the root.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use sys::path::{Links, open_in_root};
use sys::{During, Error};

use super::attach::put;
use super::resolve::{Missing, destination, make_file};
use super::{Context, clone_path};
use crate::op::{Action, Device, Target};

impl Context {
    pub(super) fn make(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Symlink { directory, name, points_to, replace } => {
                link(self.directory(directory)?, name, points_to, *replace)
            }
            Action::Node { directory, name, device, mode, uid, gid } => {
                let directory = self.directory(directory)?;
                node(directory, name, *device, *mode)?;
                own(directory, name, *uid, *gid)
            }
            Action::BindNode { source, directory, name, device } => {
                bind(self.directory(directory)?, name, source, *device)
            }
            _ => Ok(()),
        }
    }

    /// Nodes come many to a directory: it is looked up once.
    fn directory(&mut self, target: &Target) -> Result<BorrowedFd<'_>, Error> {
        let known = self.directory.take().filter(|(path, _)| *path == target.path);
        let fd = match known {
            Some((_, fd)) => fd,
            None => destination(self.root()?, target, || Ok(Missing::Directory))?.fd,
        };
        let (_, fd): &(_, OwnedFd) = self.directory.insert((target.path.clone(), fd));
        Ok(fd.as_fd())
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
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).during("unlinkat")?;
            symlinkat(points_to, directory, name).during("symlinkat")
        }
        Err(Errno::EEXIST) => Ok(()),
        result => result.during("symlinkat"),
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
            Err(Error::new("something else is there: mknodat", Errno::EEXIST))
        }
        result => result.during("mknodat"),
    }
}

fn own(directory: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<(), Error> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).during("fchownat")
}

fn bind(
    directory: BorrowedFd<'_>,
    name: &CStr,
    source: &CStr,
    device: Device,
) -> Result<(), Error> {
    let tree = clone_path(source, false)?;
    if !is(tree.as_fd(), device)? {
        return Err(Error::new("the host's node is another device: open_tree", Errno::ENODEV));
    }
    match make_file(directory, name, 0o600) {
        Err(error) if error.errno != Errno::EEXIST => return Err(error),
        _ => {}
    }
    // The last component may have been a link: then ELOOP, not a mount where it points to.
    let target = open_in_root(directory, name, OFlag::O_PATH, Links::Refuse)?;
    put(tree.as_fd(), target.as_fd())
}

/// Whether an open file is this very device.
pub(super) fn is(fd: BorrowedFd<'_>, device: Device) -> Result<bool, Error> {
    let stat = fstat(fd).during("fstat")?;
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
