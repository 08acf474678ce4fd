//! `start`: the word of command to a created container.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use namespaces::handshake::{Channel, Message, ReceiveError};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use sys::During;

use super::LOCK;
use super::undertaking::with_oom;
use crate::error::{Error, Result, Within};
use crate::hook;
use crate::id::Id;
use crate::record::{Entry, Record, Root, START_SOCKET, Stage};
use crate::state::{self, Status};

/// How long the way to the user's program may take, hooks apart.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a created container, and returns when its program was executed.
///
/// # Errors
/// It is not waiting; its program cannot be executed; a hook failed.
pub fn start(root: &Root, id: &Id) -> Result<()> {
    let entry = root.get(id)?;
    let _lock = entry.lock(LOCK)?;
    let mut record = entry.record()?;
    match Status::of(&record) {
        Status::Created => {}
        status => return Err(Error::new(refusal(status))),
    }
    command(&entry, record.hooks_inside).map_err(|error| with_oom(error, &record))?;
    record.stage = Stage::Running;
    entry.write_record(&record)?;
    after_start(&record)
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

fn command(entry: &Entry, hooks: u32) -> Result<()> {
    let channel = Channel::new(dial(entry).within(|| START_SOCKET)?);
    channel.send(&Message::Go).within(|| "davit's init")?;
    let patience = PATIENCE.saturating_add(hook::PATIENCE.saturating_mul(hooks));
    let mut executing = false;
    loop {
        match channel.receive(Some(patience)) {
            Ok((Message::Executing, _)) => executing = true,
            Ok((Message::Failed(report), _)) => return Err(entry.plan()?.0.explain(&report)),
            Err(ReceiveError::Ended) if executing => return Ok(()),
            Err(ReceiveError::Ended) => {
                return Err(Error::new("davit's init ended before the program was executed"));
            }
            Ok(_) => return Err(Error::new("davit's init does not keep to the conversation")),
            Err(error) => return Err(Error::from(error).within("wait for davit's init")),
        }
    }
}

fn dial(entry: &Entry) -> std::result::Result<OwnedFd, sys::Error> {
    let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let ours = socket(kind.0, kind.1, kind.2, None).during("socket")?;
    let address = UnixAddr::new(&entry.path_of(START_SOCKET)).during("connect")?;
    connect(ours.as_raw_fd(), &address).during("connect")?;
    Ok(ours)
}

/// Runs the hooks that are due once the program runs.
///
/// # Errors
/// A hook failed: then the container is stopped, as the spec wants.
pub(super) fn after_start(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    let status = hook::Moment::Poststart.status();
    let id = record.id.as_str();
    let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
    for hook in &record.poststart {
        let run = hook.run(&format!("{before}{}{after}", init.pid), Some(&record.bundle));
        if let Err(error) = run {
            super::kill::everything(record, libc::SIGKILL)?;
            return Err(error);
        }
    }
    Ok(())
}
