//! File systems created with fsopen(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::mount::{self, Attr};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::log::Log;
use crate::op::{Filesystem, FsOption};

/// A detached mount of a new file system. Its root gets the mode of the directory `covered`.
pub(super) fn create(
    wanted: &Filesystem,
    covered: Option<BorrowedFd<'_>>,
    log: &Log,
) -> Result<OwnedFd, Error> {
    let opened = mount::fsopen(&wanted.fstype);
    let opened = opened.inspect_err(|_| log.unknown_type(&wanted.fstype))?;
    let context = opened.as_fd();
    log.watch(context, || {
        if let Some(source) = &wanted.source {
            set(context, c"source", source, log)?;
        }
        if let Some(covered) = covered {
            mount::fsconfig_string(context, c"mode", &mode_of(covered)?)?;
        }
        configure(context, &wanted.settings, log)?;
        mount::fsconfig_create(context)?;
        mount::fsmount(context, Attr::from_bits(wanted.attributes))
    })
}

fn mode_of(directory: BorrowedFd<'_>) -> Result<CString, Error> {
    let mode = fstat(directory).syscall("fstat")?.st_mode & 0o7777;
    CString::new(format!("{mode:o}")).map_err(|_| Error::new("fstat", Errno::EINVAL))
}

pub(super) fn configure(
    context: BorrowedFd<'_>,
    settings: &[FsOption],
    log: &Log,
) -> Result<(), Error> {
    settings.iter().try_for_each(|setting| match setting {
        FsOption::Flag(name) => mount::fsconfig_flag(context, name),
        FsOption::Text(name, value) => set(context, name, value, log),
    })
}

/// fsconfig(2) of one value, which is logged if it is refused.
pub(super) fn set(
    context: BorrowedFd<'_>,
    name: &CStr,
    value: &CStr,
    log: &Log,
) -> Result<(), Error> {
    mount::fsconfig_string(context, name, value).inspect_err(|_| log.name(name, value))
}

/// Changes the superblock of a mount.
pub(super) fn reconfigure(
    mounted: BorrowedFd<'_>,
    settings: &[FsOption],
    log: &Log,
) -> Result<(), Error> {
    let context = mount::fspick(mounted)?;
    let context = context.as_fd();
    log.watch(context, || {
        configure(context, settings, log)?;
        mount::fsconfig_reconfigure(context)
    })
}
