//! `kill`: a signal to the container's init, or to all of its processes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::process::Process;
use crate::record::{Record, Root};

/// How long the kernel may take to reach every process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `signal` to init; with `all` to every process of the container.
///
/// # Errors
/// "container not running" where init has ended (with `all` that is no error, as engines expect).
pub fn kill(root: &Root, id: &Id, signal: i32, all: bool) -> Result<()> {
    let record = root.get(id)?.record()?;
    if all {
        return everything(&record, signal);
    }
    let sent = match record.init {
        Some(init) => send(&init, signal)?,
        None => false,
    };
    if let (true, libc::SIGKILL, Some(cgroup)) = (sent, signal, &record.cgroup) {
        cgroup.thaw_v1()?;
    }
    if sent { Ok(()) } else { Err(Error::new("container not running")) }
}

/// Sends `signal` to every process of the container that is left.
///
/// # Errors
/// Processes that could not be reached.
pub(super) fn everything(record: &Record, signal: i32) -> Result<()> {
    match &record.cgroup {
        Some(cgroup) if signal == libc::SIGKILL => cgroup.kill(Instant::now() + PATIENCE)?,
        Some(cgroup) => {
            for pid in cgroup.procs()? {
                // One that has ended in the meantime has no use for a signal.
                if let Ok(process) = Process::of(pid) {
                    send(&process, signal)?;
                }
            }
            return Ok(());
        }
        None => {}
    }
    // Init may be elsewhere: moved by somebody, or without a cgroup of its own.
    record.init.map_or(Ok(false), |init| send(&init, signal)).map(drop)
}

/// Sends a signal to that very process; tells whether it was there to get it.
///
/// # Errors
/// EPERM.
pub(super) fn send(process: &Process, signal: i32) -> Result<bool> {
    let Some(pidfd) = process.handle()? else { return Ok(false) };
    match sys::pidfd::send_signal(pidfd.as_fd(), signal) {
        Ok(()) => Ok(true),
        Err(sys::Error { errno: Errno::ESRCH, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
