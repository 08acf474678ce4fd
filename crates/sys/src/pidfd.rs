//! Pidfds and namespaces: pidfd_open(2), pidfd_send_signal(2), setns(2), unshare(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::Pid;

use crate::{Error, OsContext};

/// pidfd_open(2): a pidfd of the process that has this pid now.
///
/// # Errors
/// ESRCH if there is none.
pub fn open(pid: Pid) -> Result<OwnedFd, Error> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(Error::last("pidfd_open"));
    }
    // SAFETY: the call succeeded: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The inode of a pidfd, which is unique for each process until the next boot (Linux 6.9, pidfs).
/// `None` on kernels where all pidfds have the same.
///
/// # Errors
/// fstatfs(2) or fstat(2) failed.
pub fn inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>, Error> {
    /// `PID_FS_MAGIC` of linux/magic.h
    const PIDFS: FsType = FsType(0x5049_4446);
    if fstatfs(pidfd).syscall("fstatfs")?.filesystem_type() != PIDFS {
        return Ok(None);
    }
    fstat(pidfd).syscall("fstat").map(|stat| Some(stat.st_ino))
}

/// pidfd_send_signal(2): sends `signal`, perhaps a real-time signal, to that process.
///
/// # Errors
/// ESRCH if it has ended, EPERM, EINVAL for a signal that does not exist.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    // SAFETY: without siginfo the call takes only integers.
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
/// EPERM if it is outside the caller's user namespace.
pub fn owning_user_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(Error::last("ioctl NS_GET_USERNS"));
    }
    // SAFETY: the call succeeded: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ioctl_ns(2) `NS_GET_NSTYPE`: the `CLONE_NEW*` flag of this namespace.
///
/// # Errors
/// ENOTTY if the descriptor is not a namespace.
pub fn namespace_type(namespace: BorrowedFd<'_>) -> Result<libc::c_int, Error> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 {
        return Err(Error::last("ioctl NS_GET_NSTYPE"));
    }
    Ok(kind)
}
