//! `start`: the word of command to a created container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use namespaces::handshake::{Channel, Message, ReceiveError};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use sys::During;

use super::LOCK;
use super::undertaking::with_oom;
use crate::annotations::HookOutput;
use crate::error::{Error, Result, Within};
use crate::hook::{self, Output};
use crate::id::Id;
use crate::notify::{Manager, Proxy};
use crate::process::Process;
use crate::record::{Entry, Record, Root, START_SOCKET, Stage};
use crate::state::{self, Status};
use crate::step::InitPlan;

/// How long the way to the user's program may take, hooks apart.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a created container, and returns when its program was executed; where somebody waits for
/// the container to be ready, when it has said so or has ended.
///
/// # Errors
/// It is not waiting; its program cannot be executed; a hook failed.
pub fn start(root: &Root, id: &Id, notify: Option<&Manager>) -> Result<()> {
    let entry = root.get(id)?;
    let lock = entry.lock(LOCK)?;
    let mut record = entry.record()?;
    match Status::of(&record) {
        Status::Created => {}
        status => return Err(Error::new(refusal(status))),
    }
    let proxy = match (notify, record.init) {
        (Some(manager), Some(init)) => Ready::prepare(&entry, manager, init)?,
        _ => None,
    };
    let plan = InitPlan::decode(&entry.plan()?)?;
    command(&entry, &plan).map_err(|error| with_oom(error, &record))?;
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

fn command(entry: &Entry, plan: &InitPlan) -> Result<()> {
    let channel = Channel::new(dial(entry).within(|| START_SOCKET)?);
    channel.send(&Message::Go).within(|| "davit's init")?;
    let hooks = u32::try_from(plan.hooks()).unwrap_or(u32::MAX);
    let patience = PATIENCE.saturating_add(hook::PATIENCE.saturating_mul(hooks));
    let mut executing = false;
    loop {
        match channel.receive(Some(patience)) {
            Ok((Message::Executing, _)) => executing = true,
            Ok((Message::Failed(report), _)) => return Err(plan.explain(&report)),
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
