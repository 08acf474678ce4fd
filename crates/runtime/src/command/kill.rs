//! `kill`: a signal to the container's init, or to all of its processes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::state::Process;
use crate::state::{Record, StateRoot};

/// Timeout for reaching every process.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends `signal` to init; with `all` to every process of the container.
///
/// # Errors
/// "container not running" where init has ended (with `all` that is no error, as engines expect).
pub fn kill(root: &StateRoot, id: &Id, signal: i32, all: bool) -> Result<()> {
    let record = root.get(id)?.record()?;
    if all {
        return all_processes(&record, signal);
    }
    if signal == libc::SIGKILL && !record.own_pid_namespace {
        return kill_cgroup(&record);
    }
    let sent = match record.init {
        Some(init) => send(&init, signal)?,
        None => false,
    };
    if let (true, libc::SIGKILL, Some(cgroup)) = (sent, signal, &record.cgroup) {
        cgroup.thaw_v1()?;
    }
    if sent { Ok(()) } else { Err(Error::not_running()) }
}

/// Without a pid namespace the kernel does not end the other processes with init: they may be all
/// that is left. runc kills them too since 1.2.
fn kill_cgroup(record: &Record) -> Result<()> {
    let has_processes = match &record.cgroup {
        Some(cgroup) => !cgroup.procs()?.is_empty(),
        None => false,
    };
    if !has_processes && !record.init.is_some_and(|init| init.is_alive()) {
        return Err(Error::not_running());
    }
    all_processes(record, libc::SIGKILL)
}

/// Sends `signal` to every process of the container.
///
/// # Errors
/// Processes that could not be reached.
pub(super) fn all_processes(record: &Record, signal: i32) -> Result<()> {
    if record.is_of_another_boot() {
        return Ok(());
    }
    match &record.cgroup {
        Some(cgroup) if signal == libc::SIGKILL => cgroup.kill(Instant::now() + KILL_TIMEOUT)?,
        Some(cgroup) => {
            for pid in cgroup.procs()? {
                // A process that has ended in the meantime needs no signal.
                if let Ok(process) = Process::of(pid) {
                    send(&process, signal)?;
                }
            }
            return Ok(());
        }
        None => {}
    }
    // Init may be in another cgroup: moved there, or without a cgroup of its own.
    record.init.map_or(Ok(false), |init| send(&init, signal)).map(drop)
}

/// Sends a signal to exactly this process; returns whether it was still running.
///
/// # Errors
/// EPERM.
pub(super) fn send(process: &Process, signal: i32) -> Result<bool> {
    let handle = process.pidfd()?.filter(|_| process.has_its_start_time());
    let Some(pidfd) = handle else { return Ok(false) };
    match davit_sys::pidfd::send_signal(pidfd.as_fd(), signal) {
        Ok(()) => Ok(true),
        Err(davit_sys::Error { errno: Errno::ESRCH, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
