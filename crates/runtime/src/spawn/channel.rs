//! The runtime's end of the channel to init.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use davit_protocol::{Channel, Message, ReceiveError, StartFailure};
use nix::errno::Errno;

use crate::error::{Error, ErrorKind, Result, Within};
use crate::hook::{self, HookPoint};
use crate::plan::InitPlan;
use crate::spawn::idle_deadline::{CHECK_INTERVAL, IdleDeadline};

/// An event on the channel.
#[derive(Debug)]
pub(crate) enum InitEvent {
    /// A message of init, which goes on.
    Message(Message, Option<OwnedFd>),
    /// It has become the user's program.
    Executed,
    /// Init has ended before that, without a report.
    Ended,
}

/// The plan that init performs, from which its failures are explained.
#[derive(Debug, Default)]
pub(crate) struct Performed {
    pub(crate) plan: Rc<InitPlan>,
    /// The ids of its user namespace.
    pub(crate) ids: davit_rootfs::Ids,
}

/// The error for the failure of a created container to start. The path of a hook is looked for on
/// the host here.
fn start_error(failure: StartFailure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    let error = Error::new(failure.message);
    match CString::new(failure.hook) {
        Ok(hook) if !hook.is_empty() => error.of_kind(ErrorKind::Hook).hinted(hook::hint::of(
            HookPoint::StartContainer,
            errno,
            &hook,
        )),
        _ => error.hinted(Some(failure.hint).filter(|hint| !hint.is_empty())),
    }
}

/// The channel.
#[derive(Debug)]
pub(crate) struct InitChannel {
    channel: Channel,
    performed: Performed,
    executing: bool,
    idle_deadline: IdleDeadline,
}

impl InitChannel {
    /// The channel to an init that runs this number of hooks.
    pub(crate) fn new(channel: Channel, performed: Performed, hooks: usize) -> Self {
        let hooks = u32::try_from(hooks).unwrap_or(u32::MAX);
        let idle_deadline = IdleDeadline::new(hook::DEFAULT_TIMEOUT.saturating_mul(hooks));
        Self { channel, performed, executing: false, idle_deadline }
    }

    /// The runtime's end.
    pub(crate) fn end(&self) -> RawFd {
        self.channel.as_fd().as_raw_fd()
    }

    /// Lets init go on.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn go(&self) -> Result<()> {
        self.channel.send(&Message::Go).within(|| "davit's init")
    }

    /// Waits for the end of the channel, for an init that asks for nothing any more.
    /// [`InitChannel::listen`] then receives the messages.
    ///
    /// # Errors
    /// Init, the process `pid`, makes no progress.
    pub(crate) fn await_end(&mut self, pid: i32) -> Result<()> {
        while !self.channel.wait_for_end(CHECK_INTERVAL).within(waiting)? {
            self.idle_deadline.check(pid).within(waiting)?;
        }
        Ok(())
    }

    /// Waits for the next message of init, the process `pid`.
    ///
    /// # Errors
    /// The failure that init reported; init makes no progress.
    pub(crate) fn listen(&mut self, pid: i32) -> Result<InitEvent> {
        loop {
            match self.channel.try_receive() {
                Ok(None) => {
                    if !self.channel.wait(CHECK_INTERVAL).within(waiting)? {
                        self.idle_deadline.check(pid).within(waiting)?;
                    }
                }
                Ok(Some((Message::Executing, _))) => self.executing = true,
                Ok(Some((Message::Failed(report), _))) => {
                    return Err(self.performed.plan.explain(&report, &self.performed.ids));
                }
                Ok(Some((Message::StartFailed(failure), _))) => return Err(start_error(failure)),
                Ok(Some((Message::Go, _))) | Err(ReceiveError::Garbage) => {
                    return Err(protocol_error());
                }
                Ok(Some((message, descriptor))) => {
                    return Ok(InitEvent::Message(message, descriptor));
                }
                Err(ReceiveError::Ended) if self.executing => return Ok(InitEvent::Executed),
                Err(ReceiveError::Ended) => return Ok(InitEvent::Ended),
                Err(error) => return Err(Error::from(error).within(waiting())),
            }
        }
    }
}

const fn waiting() -> &'static str {
    "wait for davit's init"
}

/// The error for a message that the protocol does not allow here.
pub(crate) fn protocol_error() -> Error {
    Error::new("unexpected message from davit's init (protocol error)")
}

#[cfg(test)]
mod tests {
    use davit_protocol::Report;

    use super::*;

    fn channel() -> (InitChannel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (InitChannel::new(ours, Performed::default(), 0), theirs)
    }

    #[test]
    fn an_end_is_success_once_the_program_was_next() {
        let (mut ours, theirs) = channel();
        theirs.send(&Message::Created).unwrap();
        theirs.send(&Message::Executing).unwrap();
        drop(theirs);
        assert!(matches!(ours.listen(1).unwrap(), InitEvent::Message(Message::Created, None)));
        assert!(matches!(ours.listen(1).unwrap(), InitEvent::Executed));
        let (mut ours, theirs) = channel();
        drop(theirs);
        assert!(matches!(ours.listen(1).unwrap(), InitEvent::Ended));
    }

    #[test]
    fn a_failure_counts_though_the_program_was_next() {
        let (mut ours, theirs) = channel();
        let (call, detail) = ("execve".to_owned(), String::new());
        theirs.send(&Message::Executing).unwrap();
        theirs
            .send(&Message::Failed(Report { section: 0, op: 0, errno: 2, call, detail }))
            .unwrap();
        drop(theirs);
        assert!(ours.listen(1).unwrap_err().to_string().starts_with("execve"));
    }
}
