//! The runtime's side of the conversation with init, whichever command leads it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use namespaces::handshake::{Channel, Message, ReceiveError, Report};

use crate::error::{Error, Result, Within};
use crate::hook;
use crate::record::Entry;
use crate::step::InitPlan;

/// How long the process inside may be silent. It waits for nobody but the kernel; hooks, which
/// have deadlines of their own, come on top.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It goes on, and says so.
    Said(Message, Option<OwnedFd>),
    /// It has become the user's program.
    Executed,
    /// It has ended before that, and said nothing.
    Ended,
}

/// The plan that init walks: it has the words for what fails there.
#[derive(Debug)]
pub(crate) enum Walked {
    /// It was made here.
    Here(Rc<InitPlan>),
    /// It is kept in the container's directory, and read where something fails.
    Kept(Entry),
}

impl Walked {
    fn explain(&self, report: &Report) -> Error {
        match self {
            Self::Here(plan) => plan.explain(report),
            // Without it there is the system call and its errno at least.
            Self::Kept(entry) => {
                entry.kept().and_then(|kept| kept.plan()).unwrap_or_default().explain(report)
            }
        }
    }
}

/// The conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    channel: Channel,
    walked: Walked,
    executing: bool,
}

impl Conversation {
    /// With an init that runs so many hooks.
    ///
    /// # Errors
    /// setsockopt(2)'s.
    pub(crate) fn new(mut channel: Channel, walked: Walked, hooks: usize) -> Result<Self> {
        let hooks = u32::try_from(hooks).unwrap_or(u32::MAX);
        channel.set_patience(PATIENCE.saturating_add(hook::PATIENCE.saturating_mul(hooks)))?;
        Ok(Self { channel, walked, executing: false })
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

    /// Waits for its end, which an init comes to that asks for nothing any more. What it has said until then
    /// is to be listened to.
    ///
    /// # Errors
    /// Silence.
    pub(crate) fn await_end(&self) -> Result<()> {
        self.channel.await_end().map_err(silent)
    }

    /// Waits for what init says next.
    ///
    /// # Errors
    /// What failed inside; silence.
    pub(crate) fn listen(&mut self) -> Result<Heard> {
        loop {
            match self.channel.receive() {
                Ok((Message::Executing, _)) => self.executing = true,
                Ok((Message::Failed(report), _)) => return Err(self.walked.explain(&report)),
                Ok((Message::Go, _)) | Err(ReceiveError::Garbage) => return Err(misunderstood()),
                Ok((message, descriptor)) => return Ok(Heard::Said(message, descriptor)),
                Err(ReceiveError::Ended) if self.executing => return Ok(Heard::Executed),
                Err(ReceiveError::Ended) => return Ok(Heard::Ended),
                Err(error) => return Err(silent(error)),
            }
        }
    }
}

fn silent(error: ReceiveError) -> Error {
    Error::from(error).within("wait for davit's init")
}

/// Init said what it may not say here.
pub(crate) fn misunderstood() -> Error {
    Error::new("davit's init does not keep to the conversation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> (Conversation, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        let plan = InitPlan { sections: vec![], channel: -1, slots: vec![], preserved: 0 };
        (Conversation::new(ours, Walked::Here(Rc::new(plan)), 0).unwrap(), theirs)
    }

    #[test]
    fn an_end_is_success_once_the_program_was_next() {
        let (mut ours, theirs) = conversation();
        theirs.send(&Message::Created).unwrap();
        theirs.send(&Message::Executing).unwrap();
        drop(theirs);
        assert!(matches!(ours.listen().unwrap(), Heard::Said(Message::Created, None)));
        assert!(matches!(ours.listen().unwrap(), Heard::Executed));
        let (mut ours, theirs) = conversation();
        drop(theirs);
        assert!(matches!(ours.listen().unwrap(), Heard::Ended));
    }

    #[test]
    fn a_failure_counts_though_the_program_was_next() {
        let (mut ours, theirs) = conversation();
        let (call, detail) = ("execve".to_owned(), String::new());
        theirs.send(&Message::Executing).unwrap();
        theirs
            .send(&Message::Failed(Report { section: 0, op: 0, errno: 2, call, detail }))
            .unwrap();
        drop(theirs);
        assert!(ours.listen().unwrap_err().to_string().starts_with("execve"));
    }
}
