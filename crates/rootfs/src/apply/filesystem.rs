//! File systems made with fsopen(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use sys::mount::{self, Attr};
use sys::{During, Error, Pile};

use super::log::Log;
use crate::op::{Filesystem, Setting};

/// A detached mount of a new file system; `covered` is the directory whose mode its root gets.
pub(super) fn make(
    wanted: &Filesystem,
    covered: Option<BorrowedFd<'_>>,
    log: &Log,
    pile: &Pile,
) -> Result<OwnedFd, Error> {
    let opened = mount::fsopen(&wanted.fstype);
    let opened = opened.inspect_err(|_| log.unknown_type(&wanted.fstype))?;
    let context = opened.as_fd();
    let made = log.watch(context, || {
        if let Some(source) = &wanted.source {
            set(context, c"source", source, log)?;
        }
        if let Some(covered) = covered {
            mount::fsconfig_string(context, c"mode", &mode_of(covered)?)?;
        }
        configure(context, &wanted.settings, log)?;
        mount::fsconfig_create(context)?;
        mount::fsmount(context, Attr::from_bits(wanted.attributes))
    });
    pile.add(opened);
    made
}

fn mode_of(directory: BorrowedFd<'_>) -> Result<CString, Error> {
    let mode = fstat(directory).during("fstat")?.st_mode & 0o7777;
    CString::new(format!("{mode:o}")).map_err(|_| Error::new("fstat", Errno::EINVAL))
}

pub(super) fn configure(
    context: BorrowedFd<'_>,
    settings: &[Setting],
    log: &Log,
) -> Result<(), Error> {
    settings.iter().try_for_each(|setting| match setting {
        Setting::Flag(name) => mount::fsconfig_flag(context, name),
        Setting::Text(name, value) => set(context, name, value, log),
    })
}

/// fsconfig(2) of one value, which is named where it is refused.
pub(super) fn set(
    context: BorrowedFd<'_>,
    name: &CStr,
    value: &CStr,
    log: &Log,
) -> Result<(), Error> {
    mount::fsconfig_string(context, name, value).inspect_err(|_| log.name(name, value))
}

/// Changes the superblock of what is mounted.
pub(super) fn reconfigure(
    mounted: BorrowedFd<'_>,
    settings: &[Setting],
    log: &Log,
) -> Result<(), Error> {
    let context = mount::fspick(mounted)?;
    let context = context.as_fd();
    log.watch(context, || {
        configure(context, settings, log)?;
        mount::fsconfig_reconfigure(context)
    })
}
