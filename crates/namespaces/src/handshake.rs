//! The whole conversation between the runtime and the process it makes.
//!
//! Over one `SOCK_SEQPACKET` socketpair, so that a packet is a message and an end is an end:
//!
//! | who sends | message | when | who waits |
//! |---|---|---|---|
//! | launched child | nothing | it is to be put into its cgroup by another | child, for `Go` |
//! | launched child | [`Message::IdMapsWanted`] | its new user namespace is there | child, for `Go` |
//! | joining process | [`Message::Forked`] | it has made the second process and exits | second process, for `Go` |
//! | second process of `exec` | [`Message::Vforked`] | the first sleeps until it has executed, and exits | nobody |
//! | init | [`Message::DeviceWanted`] | it is in its network namespace | init, for `Go` |
//! | init | [`Message::Console`] + descriptor | the container's pty is made | nobody |
//! | init | [`Message::Built`] | mounts are made, hooks of the runtime are due | init, for `Go` |
//! | init | [`Message::Created`] | everything is made but the user's program | init, for `Go` |
//! | init | [`Message::Executing`] | only the filter and the user's program are next | nobody |
//! | init | [`Message::Listener`] + descriptor | the filter is there, and notifies an agent | nobody |
//! | anyone inside | [`Message::Failed`] | something failed; the sender exits | nobody |
//! | runtime | [`Message::Go`] | what was waited for is done | nobody |
//!
//! An end of the conversation where a message is due means that the other side is dead; init
//! then exits, so that nothing outlives a runtime that was killed. The same messages go over the
//! start socket of a created container: `start` sends `Go`; the answer is `Executing`, perhaps
//! `Listener`, and the end (the program was executed) or `Failed`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockFlag, SockType,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};
use sys::{During, Error};

/// The largest message: a failure with the end of a hook's output.
const MAX: usize = 2048;

/// The longest detail of a failure that crosses.
pub const MAX_DETAIL: usize = 1024;

/// One step of the conversation; see the table of this module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "Write the id maps of my user namespace."
    IdMapsWanted,
    /// "My child goes on; this is its pid in your pid namespace."
    Forked(i32),
    /// "I go on as this process, a child of yours; the one that you know ends once I have executed."
    Vforked(i32),
    /// "Move this network device to me": its place in the plan.
    DeviceWanted(u32),
    /// "This is the master of the container's terminal."
    Console,
    /// "Run the hooks that come before the root changes."
    Built,
    /// "The container is created; the user's program is next."
    Created,
    /// "If nothing follows this, the user's program was executed."
    Executing,
    /// "This is the listener of my filter; I go on."
    Listener,
    /// "Go on."
    Go,
    /// "This failed."
    Failed(Report),
}

/// Where the inside failed: the runtime holds the same plan and knows what stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Index of the section of the plan.
    pub section: u32,
    /// Index of the operation in the section.
    pub op: u32,
    /// The errno.
    pub errno: i32,
    /// The system call.
    pub call: String,
    /// What a hook printed; at most [`MAX_DETAIL`] bytes.
    pub detail: String,
}

/// Why a message did not come.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// The other side is gone.
    #[error("the other side ended")]
    Ended,
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// A packet that is no message.
    #[error("not a message")]
    Garbage,
    /// A system call failed.
    #[error(transparent)]
    System(#[from] Error),
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    patience: Option<Duration>,
}

impl Channel {
    /// Both ends, close-on-exec.
    ///
    /// # Errors
    /// EMFILE and the like.
    pub fn pair() -> Result<(Self, Self), Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .during("socketpair")?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// The end behind a descriptor of a seqpacket socket.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self { socket, patience: None }
    }

    /// From here on a message is waited for this long, and no longer for as long as the other side
    /// lives (socket(7), `SO_RCVTIMEO`).
    ///
    /// # Errors
    /// setsockopt(2)'s.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), Error> {
        let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        let value = TimeVal::new(seconds, patience.subsec_micros().into());
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &value).during("setsockopt")?;
        self.patience = Some(patience);
        Ok(())
    }

    /// Sends one message.
    ///
    /// # Errors
    /// EPIPE where the other side is gone.
    pub fn send(&self, message: &Message) -> Result<(), Error> {
        self.send_with(message, None)
    }

    /// Sends one message by write(2), which hardly any system call filter refuses.
    ///
    /// # Errors
    /// As [`Channel::send`]; where SIGPIPE is not ignored, that is the end of the process.
    pub fn send_plainly(&self, message: &Message) -> Result<(), Error> {
        let mut buffer = [0u8; MAX];
        let bytes = postcard::to_slice(message, &mut buffer)
            .map_err(|_| Error::new("write", Errno::EMSGSIZE))?;
        nix::unistd::write(&self.socket, bytes).map(drop).during("write")
    }

    /// Sends one message and a descriptor with it.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut buffer = [0u8; MAX];
        let bytes = postcard::to_slice(message, &mut buffer)
            .map_err(|_| Error::new("sendmsg", Errno::EMSGSIZE))?;
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights: Vec<_> = fds.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
        let data = [IoSlice::new(bytes)];
        sendmsg::<()>(self.socket.as_raw_fd(), &data, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .during("sendmsg")
    }

    /// Sends one message and a descriptor with it, under a filter that stops sendmsg(2).
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with_sendmmsg(&self, message: &Message, fd: BorrowedFd<'_>) -> Result<(), Error> {
        let mut buffer = [0u8; MAX];
        let bytes = postcard::to_slice(message, &mut buffer)
            .map_err(|_| Error::new("sendmmsg", Errno::EMSGSIZE))?;
        sys::socket::sendmmsg(self.socket.as_fd(), bytes, fd)
    }

    /// Receives one message, and the descriptor that came with it.
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive(&self) -> Result<(Message, Option<OwnedFd>), ReceiveError> {
        let mut buffer = [0u8; MAX];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let (length, fd) = loop {
            let mut data = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut data, Some(&mut control), flags) {
                // A reset: it has ended without reading all that we said. What it said is still there.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => {
                    return Err(ReceiveError::Deadline(self.patience.unwrap_or_default()));
                }
                Err(errno) => return Err(Error::new("recvmsg", errno).into()),
                Ok(received) => break (received.bytes, first_fd(&received)?),
            }
        };
        if length == 0 {
            return Err(ReceiveError::Ended);
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        let message = postcard::from_bytes(bytes).map_err(|_| ReceiveError::Garbage)?;
        Ok((message, fd))
    }

    /// Waits until the other side is gone; what it says meanwhile can be received afterwards. For who is not
    /// asked anything: to be woken by each message is dear, also for the one who sends it.
    ///
    /// # Errors
    /// [`ReceiveError::Deadline`], [`ReceiveError::System`].
    pub fn await_end(&self) -> Result<(), ReceiveError> {
        let patience = self.patience.map(PollTimeout::try_from);
        let patience = patience.transpose().map_err(|_| Error::new("poll", Errno::EINVAL))?;
        let mut ends = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut ends, patience.unwrap_or(PollTimeout::NONE)) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::new("poll", errno).into()),
                Ok(0) => return Err(ReceiveError::Deadline(self.patience.unwrap_or_default())),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Waits for `Go`.
    ///
    /// # Errors
    /// [`ReceiveError`]; any other message is garbage here.
    pub fn await_go(&self) -> Result<(), ReceiveError> {
        match self.receive()? {
            (Message::Go, _) => Ok(()),
            _ => Err(ReceiveError::Garbage),
        }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn first_fd(received: &RecvMsg<'_, '_, ()>) -> Result<Option<OwnedFd>, Error> {
    for control in received.cmsgs().during("recvmsg")? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return sys::process::take_over(*fd).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_heard_though_ours_were_not() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Go).unwrap();
        other.send(&Message::Executing).unwrap();
        drop(other);
        one.await_end().unwrap();
        assert!(matches!(one.receive(), Ok((Message::Executing, None))));
        assert_eq!(one.receive().unwrap_err(), ReceiveError::Ended);
    }

    #[test]
    fn an_end_is_waited_for_through_messages_and_not_for_ever() {
        let (mut one, other) = Channel::pair().unwrap();
        other.send(&Message::Created).unwrap();
        one.set_patience(Duration::from_millis(20)).unwrap();
        assert!(matches!(one.await_end(), Err(ReceiveError::Deadline(_))));
        assert!(matches!(one.receive(), Ok((Message::Created, None))));
    }

    #[test]
    fn messages_cross_whole_and_with_their_descriptor() {
        let (one, other) = Channel::pair().unwrap();
        let failed = Message::Failed(Report {
            section: 3,
            op: 6,
            errno: 13,
            call: "open_tree".to_owned(),
            detail: "x".repeat(MAX_DETAIL),
        });
        one.send(&failed).unwrap();
        one.send_with(&Message::Console, Some(one.as_fd())).unwrap();
        assert_eq!(other.receive().unwrap().0, failed);
        one.send_with_sendmmsg(&Message::Listener, one.as_fd()).unwrap();
        for expected in [Message::Console, Message::Listener] {
            let (message, fd) = other.receive().unwrap();
            assert_eq!(message, expected);
            assert!(fd.is_some());
        }
    }

    #[test]
    fn the_end_a_deadline_and_garbage_are_told_apart() {
        let (one, mut other) = Channel::pair().unwrap();
        let patience = Duration::from_millis(1);
        other.set_patience(patience).unwrap();
        assert_eq!(other.receive().unwrap_err(), ReceiveError::Deadline(patience));
        nix::unistd::write(&one, b"\xff\xff").unwrap();
        assert_eq!(other.receive().unwrap_err(), ReceiveError::Garbage);
        one.send(&Message::Created).unwrap();
        assert_eq!(other.await_go(), Err(ReceiveError::Garbage));
        drop(one);
        assert_eq!(other.await_go(), Err(ReceiveError::Ended));
        assert_eq!(other.send(&Message::Go).unwrap_err().errno, Errno::EPIPE);
    }
}
