//! Process handles: pidfd_open(2), pidfd_send_signal(2), setns(2) through one.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::Pid;

use crate::{During, Error};

/// pidfd_open(2): a handle of the process that has this pid now.
///
/// # Errors
/// ESRCH where there is none.
pub fn open(pid: Pid) -> Result<OwnedFd, Error> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(Error::last("pidfd_open"));
    }
    // SAFETY: the call succeeded: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The number of that very process, which no other gets until the next boot: the inode of its pidfd
/// (Linux 6.9, pidfs). None where all pidfds have the same.
///
/// # Errors
/// fstat(2)'s.
pub fn inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>, Error> {
    /// `PID_FS_MAGIC` of linux/magic.h
    const PIDFS: FsType = FsType(0x5049_4446);
    if fstatfs(pidfd).during("fstatfs")?.filesystem_type() != PIDFS {
        return Ok(None);
    }
    fstat(pidfd).during("fstat").map(|stat| Some(stat.st_ino))
}

/// pidfd_send_signal(2): `signal` (a number, also a real-time one) to that very process.
///
/// # Errors
/// ESRCH where it has ended, EPERM, EINVAL for a signal that does not exist.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    // SAFETY: without siginfo the call takes integers only.
    let ret = unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0)
    };
    if ret < 0 { Err(Error::last("pidfd_send_signal")) } else { Ok(()) }
}

/// setns(2) with a pidfd (Linux 5.8) or a namespace descriptor: joins the namespaces of `flags`.
///
/// # Errors
/// EPERM, EINVAL for a descriptor of another type.
pub fn join_namespaces(fd: BorrowedFd<'_>, flags: libc::c_int) -> Result<(), Error> {
    // SAFETY: the call takes two integers.
    if unsafe { libc::setns(fd.as_raw_fd(), flags) } < 0 {
        return Err(Error::last("setns"));
    }
    Ok(())
}

/// unshare(2): new namespaces for this process (for its children: pid and time).
///
/// # Errors
/// EPERM, ENOSPC (too many), EINVAL.
pub fn unshare(flags: libc::c_int) -> Result<(), Error> {
    // SAFETY: the call takes an integer; the process has one thread.
    if unsafe { libc::unshare(flags) } < 0 {
        return Err(Error::last("unshare"));
    }
    Ok(())
}

/// ioctl_ns(2) `NS_GET_USERNS`: the user namespace that owns this namespace.
///
/// # Errors
/// EPERM where it is outside the caller's own user namespace.
pub fn owning_user_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(Error::last("ioctl NS_GET_USERNS"));
    }
    // SAFETY: the call succeeded: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ioctl_ns(2) `NS_GET_NSTYPE`: the `CLONE_NEW*` flag of this namespace.
///
/// # Errors
/// ENOTTY where the descriptor is no namespace.
pub fn namespace_type(namespace: BorrowedFd<'_>) -> Result<libc::c_int, Error> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 {
        return Err(Error::last("ioctl NS_GET_NSTYPE"));
    }
    Ok(kind)
}
