//! Overlays: configured layer by layer if the kernel can (Linux 6.8), else with one string.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use davit_sys::mount::{self, Attr, Change};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{SysconfVar, chdir, fchdir, sysconf};

use super::filesystem::{configure, set};
use super::log::Log;
use crate::op::{FsOption, Overlay};

/// A detached mount of a new overlay.
pub(super) fn create(wanted: &Overlay, log: &Log) -> Result<OwnedFd, Error> {
    match layer_by_layer(wanted, log) {
        // The kernel does not have `lowerdir+`, or a path is too long for fsconfig(2).
        Err(error) if error.errno == Errno::EINVAL => {
            let scratch = ScratchTmpfs::enter()?;
            let overlay = in_one_string(wanted)?;
            scratch.leave()?;
            Ok(overlay)
        }
        result => result,
    }
}

pub(super) fn layer_by_layer(wanted: &Overlay, log: &Log) -> Result<OwnedFd, Error> {
    let context = mount::fsopen(c"overlay")?;
    let context = context.as_fd();
    log.watch(context, || {
        if let Some(source) = &wanted.source {
            mount::fsconfig_string(context, c"source", source)?;
        }
        for layer in &wanted.layers {
            let key = if layer.data_only { c"datadir+" } else { c"lowerdir+" };
            set(context, key, &layer.path, log)?;
        }
        configure(context, &wanted.settings, log)?;
        mount::fsconfig_create(context)?;
        mount::fsmount(context, Attr::from_bits(wanted.attributes))
    })
}

/// Mounts it with mount(2) on a directory of the scratch tmpfs, and copies that mount.
pub(super) fn in_one_string(wanted: &Overlay) -> Result<OwnedFd, Error> {
    const MERGED: &CStr = c"merged";
    let data = one_string(wanted)?;
    mkdirat(AT_FDCWD, MERGED, Mode::from_bits_truncate(0o700)).syscall("mkdirat")?;
    let source = wanted.source.as_deref().unwrap_or(c"overlay");
    mount(Some(source), MERGED, Some(c"overlay"), MsFlags::empty(), Some(data.as_c_str()))
        .syscall("mount")?;
    let copy = mount::clone_tree(AT_FDCWD, MERGED, false)?;
    let change = Change { set: Attr::from_bits(wanted.attributes), ..Change::default() };
    mount::mount_setattr(copy.as_fd(), c"", false, &change)?;
    umount2(MERGED, MntFlags::MNT_DETACH).syscall("umount2")?;
    Ok(copy)
}

/// All options, separated by commas. The kernel would truncate them after a page.
fn one_string(wanted: &Overlay) -> Result<CString, Error> {
    let mut data = b"lowerdir=".to_vec();
    for (index, layer) in wanted.layers.iter().enumerate() {
        match (index, layer.data_only) {
            (0, _) => {}
            (_, true) => data.extend(b"::"),
            (_, false) => data.push(b':'),
        }
        escape(layer.path.as_bytes(), &mut data);
    }
    for setting in &wanted.settings {
        data.push(b',');
        match setting {
            FsOption::Flag(name) => data.extend(name.as_bytes()),
            FsOption::Text(name, value) => {
                data.extend(name.as_bytes());
                data.push(b'=');
                data.extend(value.as_bytes());
            }
        }
    }
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096);
    if data.len() >= page {
        return Err(Error::new("overlay options are longer than a page: mount", Errno::E2BIG));
    }
    CString::new(data).map_err(|_| Error::new("mount", Errno::EINVAL))
}

fn escape(path: &[u8], into: &mut Vec<u8>) {
    for byte in path {
        if matches!(byte, b'\\' | b':' | b',') {
            into.push(b'\\');
        }
        into.push(*byte);
    }
}

/// A tmpfs over `/` that is the working directory for now: overlayfs needs directories on a mount
/// of this namespace that have a path, and these are not visible to other processes. Absolute paths
/// still start in the root below it.
pub(super) struct ScratchTmpfs(());

impl ScratchTmpfs {
    pub(super) fn enter() -> Result<Self, Error> {
        let context = mount::fsopen(c"tmpfs")?;
        mount::fsconfig_string(context.as_fd(), c"mode", c"700")?;
        mount::fsconfig_create(context.as_fd())?;
        let tmpfs = mount::fsmount(context.as_fd(), Attr::NOSUID | Attr::NODEV)?;
        let root = open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).syscall("open")?;
        mount::move_mount(tmpfs.as_fd(), root.as_fd())?;
        fchdir(&tmpfs).syscall("fchdir")?;
        Ok(Self(()))
    }

    /// Unmounts the tmpfs; an overlay keeps using its directories.
    pub(super) fn leave(self) -> Result<(), Error> {
        umount2(c".", MntFlags::MNT_DETACH).syscall("umount2")?;
        chdir(c"/").syscall("chdir")
    }
}
