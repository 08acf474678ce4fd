//! A procfs over which nothing can be mounted (CVE-2019-16884, CVE-2025-52881).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::mount::{Attr, fsconfig_create, fsmount, fsopen};
use crate::path::{Links, open_in_root};
use crate::{Error, OsContext};

/// A detached procfs of this process's pid namespace. If the kernel refuses one (in a user
/// namespace whose /proc is partly covered, mount_namespaces(7)) it is the /proc of the runtime's
/// mount namespace, after a check that it is a procfs.
///
/// # Errors
/// The errno of fsopen(2), ...; EXDEV if /proc is not a procfs.
pub fn private() -> Result<OwnedFd, Error> {
    match detached() {
        Err(Error { errno: Errno::EPERM | Errno::ENOSYS, .. }) => checked(),
        result => result,
    }
}

fn detached() -> Result<OwnedFd, Error> {
    let context = fsopen(c"proc")?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), Attr::NONE)
}

fn checked() -> Result<OwnedFd, Error> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let proc = open_path(c"/proc", flags, Mode::empty()).syscall("open /proc")?;
    match fstatfs(&proc).syscall("fstatfs /proc")?.filesystem_type() {
        PROC_SUPER_MAGIC => Ok(proc),
        _ => Err(Error::new("fstatfs /proc", Errno::EXDEV)),
    }
}

/// Opens `path` below `procfs`, without symbolic links and only on procfs.
///
/// # Errors
/// The errno of openat2(2); EXDEV for a file on another file system.
pub fn open(procfs: &OwnedFd, path: &CStr, flags: libc::c_int) -> Result<OwnedFd, Error> {
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NOFOLLOW;
    let file = open_in_root(procfs.as_fd(), path, flags, Links::Refuse)?;
    match fstatfs(&file).syscall("fstatfs")?.filesystem_type() {
        PROC_SUPER_MAGIC => Ok(file),
        _ => Err(Error::new("fstatfs", Errno::EXDEV)),
    }
}
