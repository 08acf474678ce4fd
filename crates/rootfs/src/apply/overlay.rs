//! Overlays: one layer at a time where the kernel can (Linux 6.8), else in one string.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{SysconfVar, chdir, fchdir, sysconf};
use sys::mount::{self, Attr, Change};
use sys::{During, Error};

use super::filesystem::{configure, set};
use super::log::Log;
use crate::op::{Overlay, Setting};

/// A detached mount of a new overlay.
pub(super) fn make(wanted: &Overlay, log: &Log) -> Result<OwnedFd, Error> {
    match layer_by_layer(wanted, log) {
        // The kernel does not know `lowerdir+`, or a path is longer than fsconfig(2) takes.
        Err(error) if error.errno == Errno::EINVAL => {
            let bench = Workbench::set_up()?;
            let made = in_one_string(wanted)?;
            bench.clear()?;
            Ok(made)
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

/// mount(2) on a directory of the workbench that the caller has set up, and a copy of that mount.
pub(super) fn in_one_string(wanted: &Overlay) -> Result<OwnedFd, Error> {
    const PLACE: &CStr = c"merged";
    let data = one_string(wanted)?;
    mkdirat(AT_FDCWD, PLACE, Mode::from_bits_truncate(0o700)).during("mkdirat")?;
    let source = wanted.source.as_deref().unwrap_or(c"overlay");
    mount(Some(source), PLACE, Some(c"overlay"), MsFlags::empty(), Some(data.as_c_str()))
        .during("mount")?;
    let copy = mount::clone_tree(AT_FDCWD, PLACE, false)?;
    let change = Change { set: Attr::from_bits(wanted.attributes), ..Change::default() };
    mount::mount_setattr(copy.as_fd(), c"", false, &change)?;
    umount2(PLACE, MntFlags::MNT_DETACH).during("umount2")?;
    Ok(copy)
}

/// All options with commas between them. The kernel would cut off what is beyond a page.
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
            Setting::Flag(name) => data.extend(name.as_bytes()),
            Setting::Text(name, value) => {
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

/// A tmpfs over `/` that is the working directory meanwhile: what overlayfs needs (directories of
/// its own, on a mount of this namespace, found by a path) without a path that anyone else sees.
/// Absolute paths still begin in the root below it.
pub(super) struct Workbench(());

impl Workbench {
    pub(super) fn set_up() -> Result<Self, Error> {
        let context = mount::fsopen(c"tmpfs")?;
        mount::fsconfig_string(context.as_fd(), c"mode", c"700")?;
        mount::fsconfig_create(context.as_fd())?;
        let tmpfs = mount::fsmount(context.as_fd(), Attr::NOSUID | Attr::NODEV)?;
        let root = open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).during("open")?;
        mount::move_mount(tmpfs.as_fd(), root.as_fd())?;
        fchdir(&tmpfs).during("fchdir")?;
        Ok(Self(()))
    }

    /// Lets go of the tmpfs; an overlay keeps what it uses of it.
    pub(super) fn clear(self) -> Result<(), Error> {
        umount2(c".", MntFlags::MNT_DETACH).during("umount2")?;
        chdir(c"/").during("chdir")
    }
}
