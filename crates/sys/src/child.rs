//! What a child does between fork(2) and execve(2), for programs that davit executes. davit has one
//! thread: these closures only make system calls, on values that they own.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Passes a descriptor to `command`, which gets it under the returned number. This process closes
/// it when `command` is dropped.
pub fn pass(command: &mut Command, fd: OwnedFd) -> RawFd {
    let number = fd.as_raw_fd();
    let keep =
        move || fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(errno_to_io);
    // SAFETY: one system call, on a descriptor that the closure owns.
    unsafe { command.pre_exec(keep) };
    number
}

/// Gives `command` a session keyring of its own with this name.
pub fn with_session_keyring(command: &mut Command, name: CString) {
    let join = move || match crate::process::join_session_keyring(&name) {
        // As for init: a kernel without keyrings has none to share.
        Err(error) if error.errno == Errno::ENOSYS => Ok(()),
        joined => joined.map(drop).map_err(|error| errno_to_io(error.errno)),
    };
    // SAFETY: one system call, on a string that the closure owns.
    unsafe { command.pre_exec(join) };
}

fn errno_to_io(errno: Errno) -> std::io::Error {
    errno.into()
}
