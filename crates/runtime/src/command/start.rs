//! `start`: tells a created container to run its program.

use std::os::fd::{AsFd, OwnedFd};

use davit_protocol::Channel;
use davit_sys::trace::operation;

use super::oom_hint::with_oom_hint;
use super::{LOCK, delete};
use crate::config::annotations::hook_output;
use crate::error::{Error, ErrorKind, Result};
use crate::hook::{self, Output};
use crate::id::Id;
use crate::notify::{Manager, Proxy};
use crate::spawn::channel::{InitChannel, InitEvent, Performed, protocol_error};
use crate::state::Process;
use crate::state::start_fifo;
use crate::state::{self, Status};
use crate::state::{ContainerDir, Record, StateRoot};

/// Starts a created container, and returns when its program was executed; with `notify`, when the
/// container has reported that it is ready, or has ended.
///
/// # Errors
/// It is not in state created; its program cannot be executed; a hook failed.
pub fn start(root: &StateRoot, id: &Id, notify: Option<&Manager>) -> Result<()> {
    let dir = root.get(id)?;
    let lock = dir.lock(LOCK)?;
    let record = dir.record()?;
    match Status::recorded(&record)?.0 {
        Status::Created => {}
        status => return Err(Error::new(refusal(status))),
    }
    let proxy = match (notify, record.init) {
        (Some(manager), Some(init)) => Ready::prepare(&dir, manager, init)?,
        _ => None,
    };
    run_program(&dir, &record).map_err(|error| match error.kind() {
        ErrorKind::Hook => destroy(root, &dir, &record, error),
        _ => with_oom_hint(error, &record),
    })?;
    start_fifo::remove(&dir).map_err(|error| stop(&record, error))?;
    poststart(&record).map_err(|error| destroy(root, &dir, &record, error))?;
    // A container that never gets ready can be killed and deleted meanwhile.
    drop(lock);
    if let Some(ready) = proxy {
        ready.wait();
    }
    Ok(())
}

/// The wait until the container is ready.
struct Ready {
    proxy: Proxy,
    pidfd: OwnedFd,
    pid: i32,
}

impl Ready {
    fn prepare(dir: &ContainerDir, manager: &Manager, init: Process) -> Result<Option<Self>> {
        let (Some(proxy), Some(pidfd)) = (Proxy::open(dir, manager)?, init.pidfd()?) else {
            return Ok(None);
        };
        Ok(Some(Self { proxy, pidfd, pid: init.pid }))
    }

    fn wait(&self) {
        self.proxy.wait(self.pidfd.as_fd(), self.pid);
    }
}

const fn refusal(status: Status) -> &'static str {
    match status {
        Status::Creating => "container is still being created",
        Status::Created => "container is created",
        Status::Running => "container is running already",
        Status::Paused => "container is paused",
        Status::Stopped => "container is stopped: it cannot be started again",
    }
}

/// Tells init to run the user's program. If that fails, init has ended when this returns: `delete`
/// works at once. If a hook failed, [`destroy`] kills it.
fn run_program(dir: &ContainerDir, record: &Record) -> Result<()> {
    let command = || start_fifo::command(dir);
    let Some(channel) = operation("runtime", &"tell init to go on", command)? else {
        return Err(Error::new(match Status::of(record)? {
            Status::Created => "container is being started already",
            status => refusal(status),
        }));
    };
    follow(channel, record).map_err(|error| match error.kind() {
        ErrorKind::Hook => error,
        _ => stop(record, error),
    })
}

/// A command that has reported failure has finished failing.
fn stop(record: &Record, error: Error) -> Error {
    error.after_cleanup(delete::kill_and_wait(record))
}

fn follow(channel: Channel, record: &Record) -> Result<()> {
    let pid = record.init.map_or(0, |init| init.pid);
    let mut channel = InitChannel::new(channel, Performed::default(), record.inner_hooks);
    let wait = || {
        channel.await_end(pid)?;
        channel.listen(pid)
    };
    match operation("wait", &"wait for init to execute the program", wait)? {
        InitEvent::Executed => Ok(()),
        InitEvent::Ended => Err(Error::new("davit's init ended before the program was executed")),
        InitEvent::Message(..) => Err(protocol_error()),
    }
}

/// A container whose startContainer or poststart hook has failed is stopped and destroyed, and its
/// poststop hooks run (runtime.md, "Lifecycle", steps 7, 9, 12 and 13).
fn destroy(root: &StateRoot, dir: &ContainerDir, record: &Record, error: Error) -> Error {
    // Its processes may still run, even if the cgroup seems empty.
    error.after_cleanup(delete::remove(root, dir, record, Status::Running))
}

/// Runs the hooks that are due once the program runs.
///
/// # Errors
/// A hook failed: the container must then be destroyed.
pub(super) fn poststart(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    if record.poststart.is_empty() {
        return Ok(());
    }
    let status = hook::HookPoint::Poststart.status();
    let id = record.id.as_str();
    let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
    let output = Output::open(&hook_output(&record.annotations))?;
    for hook in &record.poststart {
        let state = format!("{before}{}{after}", init.pid);
        operation("hooks", hook, || hook.run(&state, Some(&record.bundle), &output))?;
    }
    Ok(())
}
