//! One end of the connection, and how it waits.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::unistd::{read, write};

use crate::{Message, START_PROTOCOL};

/// Maximum length of an encoded message: a failure with the output of a hook. A packet of a FIFO
/// has at most `PIPE_BUF` bytes (pipe(7)).
const MAX_MESSAGE: usize = 4096;

/// Why no message was received.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// The peer is gone.
    #[error("the other side ended")]
    Ended,
    /// The packet is not a message.
    #[error("not a message")]
    Garbage,
    /// The peer is another version of davit, with other messages.
    #[error(
        "version {0} of the start protocol is not known: this davit speaks version {START_PROTOCOL}"
    )]
    Version(u8),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] Error),
}

/// One end of the connection between runtime and init.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    /// False for a FIFO, which carries no descriptors.
    is_socket: bool,
}

impl Channel {
    /// Creates both ends, close-on-exec.
    ///
    /// # Errors
    /// socketpair(2) failed.
    pub fn pair() -> Result<(Self, Self), Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .syscall("socketpair")?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// An end whose descriptor is a seqpacket socket.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self { fd: socket, is_socket: true }
    }

    /// An end whose descriptor is a FIFO in packet mode; the reading end must be non-blocking.
    #[must_use]
    pub const fn fifo(fd: OwnedFd) -> Self {
        Self { fd, is_socket: false }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// EPIPE if the peer is gone.
    pub fn send(&self, message: &Message) -> Result<(), Error> {
        self.send_with(message, None)
    }

    /// Sends one message by write(2), which hardly any seccomp filter refuses.
    ///
    /// # Errors
    /// As [`Channel::send`], and SIGPIPE unless it is ignored.
    pub fn send_with_write(&self, message: &Message) -> Result<(), Error> {
        let mut buffer = [0u8; MAX_MESSAGE];
        let too_long = |_| Error::new("write", Errno::EMSGSIZE);
        let bytes = match self.is_socket {
            true => postcard::to_slice(message, &mut buffer).map_err(too_long)?,
            false => {
                postcard::to_slice(&(START_PROTOCOL, message), &mut buffer).map_err(too_long)?
            }
        };
        write(&self.fd, bytes).map(drop).syscall("write")
    }

    /// Sends one message and a descriptor with it.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut buffer = [0u8; MAX_MESSAGE];
        let bytes = postcard::to_slice(message, &mut buffer)
            .map_err(|_| Error::new("sendmsg", Errno::EMSGSIZE))?;
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights: Vec<_> = fds.iter().map(|fds| ControlMessage::ScmRights(fds)).collect();
        let data = [IoSlice::new(bytes)];
        sendmsg::<()>(self.fd.as_raw_fd(), &data, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .syscall("sendmsg")
    }

    /// Sends one message and a descriptor with it, under a seccomp filter that stops sendmsg(2).
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with_sendmmsg(&self, message: &Message, fd: BorrowedFd<'_>) -> Result<(), Error> {
        let mut buffer = [0u8; MAX_MESSAGE];
        let bytes = postcard::to_slice(message, &mut buffer)
            .map_err(|_| Error::new("sendmmsg", Errno::EMSGSIZE))?;
        davit_sys::socket::sendmmsg(self.fd.as_fd(), bytes, fd)
    }

    /// Receives one message, and the descriptor that came with it; `None` if there is none yet.
    ///
    /// # Errors
    /// The peer is gone, or sent a packet that is not a message.
    pub fn try_receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>, ReceiveError> {
        let mut buffer = [0u8; MAX_MESSAGE];
        loop {
            let received = match self.is_socket {
                true => davit_sys::socket::try_receive(self.fd.as_fd(), &mut buffer),
                false => read(&self.fd, &mut buffer).map(|length| (length, None)).syscall("read"),
            };
            return match received {
                // A reset: the peer ended before it read all messages to it. Its own messages can
                // still be received.
                Err(Error { errno: Errno::EINTR | Errno::ECONNRESET, .. }) => continue,
                Err(Error { errno: Errno::EAGAIN, .. }) => Ok(None),
                received => {
                    let (length, fd) = received?;
                    self.decode(buffer.get(..length).unwrap_or_default())
                        .map(|message| Some((message, fd)))
                }
            };
        }
    }

    /// Waits until a message can be received or the peer is gone; false if `timeout` passes first.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        self.poll(PollFlags::POLLIN, timeout)
    }

    /// Waits until the peer is gone; its messages can be received afterwards. For a peer whose
    /// messages need no answer: each wake-up costs time, also the sender's. False if `timeout`
    /// passes first.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait_for_end(&self, timeout: Duration) -> Result<bool, Error> {
        self.poll(PollFlags::empty(), timeout)
    }

    fn poll(&self, events: PollFlags, timeout: Duration) -> Result<bool, Error> {
        let timeout =
            PollTimeout::try_from(timeout).map_err(|_| Error::new("poll", Errno::EINVAL))?;
        loop {
            match poll(&mut [PollFd::new(self.fd.as_fd(), events)], timeout) {
                Err(Errno::EINTR) => {}
                ready => return Ok(ready.syscall("poll")? > 0),
            }
        }
    }

    /// Waits for [`Message::Go`] for as long as the peer is alive, by read(2), which hardly any
    /// seccomp filter refuses.
    ///
    /// # Errors
    /// The peer is gone, or sent another message.
    pub fn await_go(&self) -> Result<(), ReceiveError> {
        let mut buffer = [0u8; MAX_MESSAGE];
        let length = loop {
            match read(&self.fd, &mut buffer) {
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                length => break length.syscall("read")?,
            }
        };
        match self.decode(buffer.get(..length).unwrap_or_default())? {
            Message::Go => Ok(()),
            _ => Err(ReceiveError::Garbage),
        }
    }

    /// Decodes a packet; an empty one is an end of file.
    fn decode(&self, packet: &[u8]) -> Result<Message, ReceiveError> {
        let message = match (self.is_socket, packet) {
            (_, []) => return Err(ReceiveError::Ended),
            (true, message) | (false, [START_PROTOCOL, message @ ..]) => message,
            (false, [version, ..]) => return Err(ReceiveError::Version(*version)),
        };
        postcard::from_bytes(message).map_err(|_| ReceiveError::Garbage)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.fd
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_DETAIL, Report, StartFailure};

    const SHORT: Duration = Duration::from_millis(20);

    fn receive(channel: &Channel) -> Result<Message, ReceiveError> {
        assert!(channel.wait(SHORT).unwrap());
        channel.try_receive().map(|received| received.unwrap().0)
    }

    #[test]
    fn messages_of_a_dead_peer_are_received_after_a_reset() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Go).unwrap();
        other.send(&Message::Executing).unwrap();
        drop(other);
        assert!(one.wait_for_end(SHORT).unwrap());
        assert_eq!(receive(&one), Ok(Message::Executing));
        assert_eq!(receive(&one), Err(ReceiveError::Ended));
    }

    #[test]
    fn wait_for_end_ignores_messages_and_times_out() {
        let (one, other) = Channel::pair().unwrap();
        assert!(!one.wait(SHORT).unwrap());
        assert_eq!(one.try_receive().unwrap().map(|(message, _)| message), None);
        other.send(&Message::Created).unwrap();
        assert!(!one.wait_for_end(SHORT).unwrap());
        assert_eq!(receive(&one), Ok(Message::Created));
    }

    #[test]
    fn messages_arrive_with_their_descriptor() {
        let (one, other) = Channel::pair().unwrap();
        let failed = Message::Failed(Report {
            section: 3,
            op: 6,
            errno: 13,
            call: "open_tree".to_owned(),
            detail: "x".repeat(MAX_DETAIL),
        });
        one.send_with_write(&failed).unwrap();
        one.send_with(&Message::Console, Some(one.as_fd())).unwrap();
        assert_eq!(receive(&other), Ok(failed));
        one.send_with_sendmmsg(&Message::Listener, one.as_fd()).unwrap();
        for expected in [Message::Console, Message::Listener] {
            let (message, fd) = other.try_receive().unwrap().unwrap();
            assert_eq!(message, expected);
            assert!(fd.is_some());
        }
    }

    #[test]
    fn a_fifo_in_packet_mode_preserves_message_boundaries() {
        let flags = nix::fcntl::OFlag::O_DIRECT | nix::fcntl::OFlag::O_NONBLOCK;
        let (read, write) = nix::unistd::pipe2(flags).unwrap();
        let (one, other) = (Channel::fifo(read), Channel::fifo(write));
        other.send_with_write(&Message::Executing).unwrap();
        other.send_with_write(&Message::Created).unwrap();
        assert!(!one.wait_for_end(SHORT).unwrap());
        drop(other);
        assert!(one.wait_for_end(SHORT).unwrap());
        assert_eq!(receive(&one), Ok(Message::Executing));
        assert_eq!(receive(&one), Ok(Message::Created));
        assert_eq!(receive(&one), Err(ReceiveError::Ended));
    }

    /// Containers that were created by every released version wait for these bytes, and answer
    /// with them.
    #[test]
    fn the_messages_between_start_and_a_created_container_are_fixed() {
        let failure = StartFailure {
            message: "exec".to_owned(),
            hint: "h".to_owned(),
            hook: String::new(),
            errno: 2,
        };
        for (message, bytes) in [
            (Message::Go, &b"\x01\x0a"[..]),
            (Message::Executing, b"\x01\x08"),
            (Message::StartFailed(failure), b"\x01\x0c\x04exec\x01h\x00\x04"),
        ] {
            let flags = nix::fcntl::OFlag::O_DIRECT | nix::fcntl::OFlag::O_NONBLOCK;
            let (reader, writer) = nix::unistd::pipe2(flags).unwrap();
            let (reader, writer) = (Channel::fifo(reader), Channel::fifo(writer));
            writer.send_with_write(&message).unwrap();
            let mut buffer = [0; 64];
            let length = read(&reader, &mut buffer).unwrap();
            assert_eq!(buffer[..length], *bytes, "{message:?}");
            write(&writer, bytes).unwrap();
            assert_eq!(receive(&reader), Ok(message));
            write(&writer, b"\x02\x0a").unwrap();
            assert_eq!(receive(&reader), Err(ReceiveError::Version(2)));
        }
    }

    #[test]
    fn end_of_file_and_garbage_are_distinct_errors() {
        let (one, other) = Channel::pair().unwrap();
        write(&one, b"\xff\xff").unwrap();
        assert_eq!(receive(&other), Err(ReceiveError::Garbage));
        one.send(&Message::Created).unwrap();
        assert_eq!(other.await_go(), Err(ReceiveError::Garbage));
        one.send(&Message::Go).unwrap();
        assert_eq!(other.await_go(), Ok(()));
        drop(one);
        assert_eq!(other.await_go(), Err(ReceiveError::Ended));
        assert_eq!(other.send(&Message::Go).unwrap_err().errno, Errno::EPIPE);
    }
}
