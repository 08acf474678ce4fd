//! The container's root: found or made, and attached where it becomes the root from.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use sys::mount::{Change, change_root, move_mount_onto};
use sys::{During, Error};

use super::attach::{kernel_propagation, put};
use super::log::Log;
use super::overlay::{self, Workbench};
use crate::op::{Layer, Overlay, Place, Propagation, Setting};

pub(super) fn contain(propagation: Propagation) -> Result<(), Error> {
    let propagation = Some(kernel_propagation(propagation));
    change_root(true, &Change { propagation, ..Change::default() })
}

/// Opens a directory of the host. The configuration names it, and is trusted: links are followed.
pub(crate) fn directory(path: &CStr) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty()).during("open")
}

pub(super) fn place(tree: BorrowedFd<'_>, at: &Place) -> Result<(), Error> {
    let path = match at {
        Place::Directory(path) => path,
        Place::OverRoot => c"/",
    };
    // A dot is found in a directory only, and the root is nothing else.
    let inside = CString::new([path.to_bytes(), b"/."].concat())
        .map_err(|_| Error::new("move_mount", Errno::EINVAL))?;
    // By descriptor it can be said what is wrong with the place.
    move_mount_onto(tree, &inside).or_else(|_| put(tree, directory(path)?.as_fd()))
}

/// Makes and places the overlay of `layers`, with a tmpfs on top where it is to be ephemeral.
pub(super) fn overlay(
    layers: &[CString],
    ephemeral: bool,
    userxattr: bool,
    at: &Place,
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
        wanted.settings.push(Setting::Flag(c"userxattr".to_owned()));
    }
    let root = if ephemeral { with_tmpfs(&mut wanted, log)? } else { overlay::make(&wanted, log)? };
    place(root.as_fd(), at)?;
    Ok(root)
}

fn with_tmpfs(wanted: &mut Overlay, log: &Log) -> Result<OwnedFd, Error> {
    let bench = Workbench::set_up()?;
    make_upper(wanted.layers.first())?;
    mkdirat(AT_FDCWD, c"work", Mode::from_bits_truncate(0o700)).during("mkdirat")?;
    for (key, directory) in [(c"upperdir", c"upper"), (c"workdir", c"work")] {
        wanted.settings.push(Setting::Text(key.to_owned(), directory.to_owned()));
    }
    let root = match overlay::layer_by_layer(wanted, log) {
        Err(error) if error.errno == Errno::EINVAL => overlay::in_one_string(wanted),
        result => result,
    };
    let root = root?;
    bench.clear()?;
    Ok(root)
}

/// The upper directory is what the root of an overlay looks like: as the topmost layer's does.
fn make_upper(top: Option<&Layer>) -> Result<(), Error> {
    let top = top.map_or(c"/", |layer| &layer.path);
    let like = fstatat(AT_FDCWD, top, AtFlags::empty()).during("fstatat")?;
    let mode = Mode::from_bits_truncate(like.st_mode & 0o7777);
    mkdirat(AT_FDCWD, c"upper", mode).during("mkdirat")?;
    if (like.st_uid, like.st_gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        let owned = fchownat(AT_FDCWD, c"upper", Some(uid), Some(gid), AtFlags::empty());
        // An owner without a number in this user namespace cannot be given: it stays root's.
        return owned
            .or_else(|errno| if errno == Errno::EINVAL { Ok(()) } else { Err(errno) })
            .during("fchownat");
    }
    Ok(())
}
