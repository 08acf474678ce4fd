//! The container's root: opened or created, and attached.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::mount::{Change, Propagation, change_root, move_mount_onto};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use super::attach::put;
use super::log::Log;
use super::overlay::{self, ScratchTmpfs};
use crate::op::{AttachPoint, FsOption, Layer, Overlay};

pub(super) fn set_propagation(propagation: Propagation) -> Result<(), Error> {
    change_root(true, &Change::propagation(propagation))
}

/// Opens a directory of the host, following links: config.json is trusted.
pub(crate) fn directory(path: &CStr) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty()).syscall("open")
}

pub(super) fn attach(tree: BorrowedFd<'_>, at: &AttachPoint) -> Result<(), Error> {
    let path = match at {
        AttachPoint::Directory(path) => path,
        AttachPoint::StackOnRoot => c"/",
    };
    // The dot makes the lookup fail unless this is a directory.
    let inside = CString::new([path.to_bytes(), b"/."].concat())
        .map_err(|_| Error::new("move_mount", Errno::EINVAL))?;
    // By descriptor the error is more specific.
    move_mount_onto(tree, &inside).or_else(|_| put(tree, directory(path)?.as_fd()))
}

/// Creates and attaches the overlay of `layers`, with a tmpfs on top if it is ephemeral.
pub(super) fn overlay(
    layers: &[CString],
    ephemeral: bool,
    userxattr: bool,
    at: &AttachPoint,
    log: &Log,
) -> Result<OwnedFd, Error> {
    let layer = |path: &CString| Layer { path: path.clone(), data_only: false };
    let mut wanted = Overlay {
        source: Some(c"overlay".to_owned()),
        layers: layers.iter().map(layer).collect(),
        settings: Vec::new(),
        attributes: 0,
    };
    if userxattr {
        wanted.settings.push(FsOption::Flag(c"userxattr".to_owned()));
    }
    let root =
        if ephemeral { with_tmpfs(&mut wanted, log)? } else { overlay::create(&wanted, log)? };
    attach(root.as_fd(), at)?;
    Ok(root)
}

fn with_tmpfs(wanted: &mut Overlay, log: &Log) -> Result<OwnedFd, Error> {
    let scratch = ScratchTmpfs::enter()?;
    create_upper(wanted.layers.first())?;
    mkdirat(AT_FDCWD, c"work", Mode::from_bits_truncate(0o700)).syscall("mkdirat")?;
    for (key, directory) in [(c"upperdir", c"upper"), (c"workdir", c"work")] {
        wanted.settings.push(FsOption::Text(key.to_owned(), directory.to_owned()));
    }
    let root = match overlay::layer_by_layer(wanted, log) {
        Err(error) if error.errno == Errno::EINVAL => overlay::in_one_string(wanted),
        result => result,
    };
    let root = root?;
    scratch.leave()?;
    Ok(root)
}

/// The root of an overlay has the mode and owner of the upper directory: those of the topmost
/// layer.
fn create_upper(top: Option<&Layer>) -> Result<(), Error> {
    let top = top.map_or(c"/", |layer| &layer.path);
    let like = fstatat(AT_FDCWD, top, AtFlags::empty()).syscall("fstatat")?;
    let mode = Mode::from_bits_truncate(like.st_mode & 0o7777);
    mkdirat(AT_FDCWD, c"upper", mode).syscall("mkdirat")?;
    if (like.st_uid, like.st_gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        let owned = fchownat(AT_FDCWD, c"upper", Some(uid), Some(gid), AtFlags::empty());
        // An owner that is not mapped in this user namespace cannot be set: root owns it.
        return owned
            .or_else(|errno| if errno == Errno::EINVAL { Ok(()) } else { Err(errno) })
            .syscall("fchownat");
    }
    Ok(())
}
