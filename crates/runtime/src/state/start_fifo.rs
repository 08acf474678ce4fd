//! The two FIFOs by which a created container waits for `start`, which removes them.
//!
//! Init opens both before it is confined. What it does from then on is read(2), write(2) and
//! execve(2): calls that a system call filter hardly ever refuses, and that need no further
//! descriptor under RLIMIT_NOFILE (decision 0017).

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use davit_protocol::{Channel, Message};
use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstatat;

use crate::error::{Result, Within};
use crate::state::ContainerDir;

/// `start` writes `Go` here.
pub(crate) const COMMAND: &CStr = c"start.fifo";
/// Init writes its answer here.
pub(crate) const ANSWER: &CStr = c"answer.fifo";

/// Creates both, and returns init's ends: for the command and for the answer. Both are open for
/// reading and writing, so that an absent `start` is neither an end of file nor a SIGPIPE.
///
/// # Errors
/// The container's directory cannot be written.
pub(crate) fn create(dir: &ContainerDir) -> Result<(OwnedFd, OwnedFd)> {
    let open = |name: &CStr| -> std::result::Result<OwnedFd, davit_sys::Error> {
        dir.make_fifo(name)?;
        let fifo = dir.open_fifo(name, OFlag::O_RDWR)?;
        // Packet mode: a message is a packet (pipe(7)). open(2) refuses the flag.
        fcntl(&fifo, FcntlArg::F_SETFL(OFlag::O_DIRECT)).syscall("fcntl")?;
        Ok(fifo)
    };
    let named = |name: &CStr| open(name).within(|| name.to_string_lossy().into_owned());
    Ok((named(COMMAND)?, named(ANSWER)?))
}

/// Removes both: the container has been started.
///
/// # Errors
/// unlink(2)'s.
pub(crate) fn remove(dir: &ContainerDir) -> Result<()> {
    [COMMAND, ANSWER].into_iter().try_for_each(|name| dir.unlink(name)).within(|| "start")
}

/// Whether the FIFO of the command is gone from the container's directory, which is at `path` below
/// `directory`.
pub(crate) fn is_removed(directory: impl AsFd, path: &str) -> bool {
    let fifo = Path::new(path).join(OsStr::from_bytes(COMMAND.to_bytes()));
    fstatat(directory, &fifo, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT)
}

/// Tells init to go on; returns the channel for its answer, or `None` if no init waits.
///
/// # Errors
/// open(2)'s, write(2)'s.
pub(crate) fn command(dir: &ContainerDir) -> Result<Option<Channel>> {
    let command = || -> std::result::Result<Option<Channel>, davit_sys::Error> {
        let answers = dir.open_fifo(ANSWER, OFlag::O_RDONLY)?;
        match dir.open_fifo(COMMAND, OFlag::O_WRONLY) {
            // No process has it open for reading (fifo(7)).
            Err(davit_sys::Error { errno: Errno::ENXIO, .. }) => Ok(None),
            commands => {
                Channel::fifo(commands?).send_with_write(&Message::Go)?;
                Ok(Some(Channel::fifo(answers)))
            }
        }
    };
    command().within(|| COMMAND.to_string_lossy().into_owned())
}
