//! `start`: the word of command to a created container.

use std::os::fd::{AsFd, OwnedFd};

use namespaces::handshake::Message;
use nix::unistd::Pid;

use super::LOCK;
use super::want_of_memory::with_want_of_memory;
use crate::agent::{self, Agent};
use crate::annotations::HookOutput;
use crate::conversation::{Conversation, Heard, Walked, misunderstood};
use crate::error::{Error, Result};
use crate::hook::{self, Output};
use crate::id::Id;
use crate::notify::{Manager, Proxy};
use crate::process::Process;
use crate::record::{Entry, Record, Root, Stage};
use crate::start_socket;
use crate::state::{self, Status};

/// Starts a created container, and returns when its program was executed; where somebody waits for
/// the container to be ready, when it has said so or has ended.
///
/// # Errors
/// It is not waiting; its program cannot be executed; a hook failed.
pub fn start(root: &Root, id: &Id, notify: Option<&Manager>) -> Result<()> {
    let entry = root.get(id)?;
    let lock = entry.lock(LOCK)?;
    let mut record = entry.record()?;
    match Status::recorded(&record)?.0 {
        Status::Created => {}
        status => return Err(Error::new(refusal(status))),
    }
    let proxy = match (notify, record.init) {
        (Some(manager), Some(init)) => Ready::prepare(&entry, manager, init)?,
        _ => None,
    };
    command(&entry, &record).map_err(|error| with_want_of_memory(error, &record))?;
    record.stage = Stage::Running;
    entry.write_record(&record)?;
    after_start(&record)?;
    // A container that never gets ready can still be killed and deleted.
    drop(lock);
    proxy.map_or(Ok(()), |ready| ready.wait())
}

/// What is needed to wait until the container is ready.
struct Ready {
    proxy: Proxy,
    pidfd: OwnedFd,
    pid: i32,
}

impl Ready {
    fn prepare(entry: &Entry, manager: &Manager, init: Process) -> Result<Option<Self>> {
        let (Some(proxy), Some(pidfd)) = (Proxy::open(entry, manager)?, init.handle()?) else {
            return Ok(None);
        };
        Ok(Some(Self { proxy, pidfd, pid: init.pid }))
    }

    fn wait(&self) -> Result<()> {
        self.proxy.wait(self.pidfd.as_fd(), self.pid)
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

fn command(entry: &Entry, record: &Record) -> Result<()> {
    let mut agent = agent::call(record)?;
    let channel = start_socket::call(entry).map_err(|error| match Status::of(record) {
        Ok(Status::Created) | Err(_) => error,
        Ok(status) => Error::new(refusal(status)),
    })?;
    let walked = Walked::Kept(entry.clone());
    let mut conversation = Conversation::new(channel, walked, record.inner_hooks)?;
    conversation.go()?;
    if agent.is_none() {
        conversation.await_end()?;
    }
    loop {
        match conversation.listen()? {
            Heard::Executed => return Ok(()),
            Heard::Ended => {
                return Err(Error::new("davit's init ended before the program was executed"));
            }
            Heard::Said(Message::Listener, Some(listener)) => {
                hand_over(agent.take(), &listener, record)?;
            }
            Heard::Said(..) => return Err(misunderstood()),
        }
    }
}

/// A program that nobody watches as was asked for does not run.
fn hand_over(agent: Option<Agent>, listener: &OwnedFd, record: &Record) -> Result<()> {
    let (Some(agent), Some(init)) = (agent, record.init) else { return Err(misunderstood()) };
    agent.hand_over(listener, Pid::from_raw(init.pid)).map_err(
        |error| match super::kill::everything(record, libc::SIGKILL) {
            Ok(()) => error,
            Err(left) => error.hint(format!("it still runs: {left}")),
        },
    )
}

/// Runs the hooks that are due once the program runs.
///
/// # Errors
/// A hook failed: then the container is stopped, as the spec wants.
pub(super) fn after_start(record: &Record) -> Result<()> {
    poststart(record).or_else(|error| {
        super::kill::everything(record, libc::SIGKILL)?;
        Err(error)
    })
}

fn poststart(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    if record.poststart.is_empty() {
        return Ok(());
    }
    let status = hook::Moment::Poststart.status();
    let id = record.id.as_str();
    let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
    let output = Output::open(&HookOutput::of(&record.annotations))?;
    for hook in &record.poststart {
        hook.run(&format!("{before}{}{after}", init.pid), Some(&record.bundle), &output)?;
    }
    Ok(())
}
