//! A conversation with systemd: calls and their answers, each with a deadline.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use sys::During;

use super::address::{Bus, Socket};
use super::message::{Kind, Message};
use super::value::Value;
use crate::freeze::wait;

/// A call that failed: which, an errno for it, and what systemd said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) error: sys::Error,
    pub(crate) said: String,
}

impl Trouble {
    pub(crate) fn new(call: &'static str, errno: Errno, said: impl Into<String>) -> Self {
        Self { error: sys::Error::new(call, errno), said: said.into() }
    }

    /// Whether the conversation broke, or could not begin because nobody listened just then.
    pub(crate) fn is_break(&self) -> bool {
        matches!(self.error.errno, Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNREFUSED)
    }
}

impl From<sys::Error> for Trouble {
    fn from(error: sys::Error) -> Self {
        Self { error, said: String::new() }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.said.as_str() {
            "" => self.error.fmt(f),
            said => write!(f, "{} ({said})", self.error),
        }
    }
}

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
}

const DBUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// The order for signals of systemd's manager, and no others.
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// An open conversation.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    /// What the deadline was when all began, for messages.
    patience: std::time::Duration,
    serial: u32,
    received: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects and introduces itself. All that follows must be done before the deadline.
    pub(crate) fn open(bus: &Bus, deadline: Instant) -> Result<Self, Trouble> {
        let socket = dial(&bus.socket, deadline).map_err(|error| Trouble {
            // Engines take the words "no such file" for a program that was not found.
            error: match error.errno {
                Errno::ENOENT => sys::Error::new(error.call, Errno::ENOTCONN),
                _ => error,
            },
            said: bus.to_string(),
        })?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let (received, signals) = (Vec::new(), Vec::new());
        let mut connection = Self { socket, deadline, patience, serial: 0, received, signals };
        connection.authenticate()?;
        if !bus.direct {
            connection.call(DBUS, "Hello", Vec::new())?;
        }
        Ok(connection)
    }

    /// Orders the signals that [`Connection::signal`] waits for. systemd itself sends them unasked;
    /// what it answers to the order, if anything, does not matter.
    pub(crate) fn subscribe(&mut self, bus: &Bus) -> Result<(), Trouble> {
        match bus.direct {
            true => Ok(()),
            false => self.call(DBUS, "AddMatch", vec![Value::string(MATCH)]).map(drop),
        }
    }

    /// No name is claimed: the other side sees who we are (SO_PEERCRED), with the uid that we have
    /// outside of any user namespace.
    fn authenticate(&mut self) -> Result<(), Trouble> {
        self.send("connect", b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => return Err(Trouble::new("connect", Errno::EACCES, line)),
            }
        }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        const LONGEST: usize = 1024;
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                let line = line.get(..end).unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.received.len() > LONGEST {
                return Err(Trouble::new("connect", Errno::EPROTO, "this is not D-Bus"));
            }
            self.receive("connect")?;
        }
    }

    /// Calls a method and gives the body of its answer.
    pub(crate) fn call(
        &mut self,
        target: Target<'_>,
        method: &'static str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, Trouble> {
        self.serial += 1;
        let call = Message {
            serial: self.serial,
            path: target.path.to_owned(),
            interface: target.interface.to_owned(),
            member: method.to_owned(),
            destination: target.destination.to_owned(),
            body,
            ..Message::default()
        };
        self.send(method, &call.encode())?;
        loop {
            let answer = self.message(method)?;
            match answer.kind {
                Kind::Signal => self.signals.push(answer),
                Kind::Return if answer.reply_to == call.serial => return Ok(answer.body),
                Kind::Error if answer.reply_to == call.serial => {
                    return Err(refusal(method, &answer));
                }
                _ => {}
            }
        }
    }

    /// Waits for a signal of that name that is `wanted`, on behalf of `method`.
    pub(crate) fn signal(
        &mut self,
        method: &'static str,
        name: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, Trouble> {
        loop {
            for signal in std::mem::take(&mut self.signals) {
                if signal.member == name && wanted(&signal.body) {
                    return Ok(signal.body);
                }
            }
            let next = self.message(method)?;
            if next.kind == Kind::Signal {
                self.signals.push(next);
            }
        }
    }

    fn message(&mut self, method: &'static str) -> Result<Message, Trouble> {
        let garbage = || Trouble::new(method, Errno::EPROTO, "the answer is not D-Bus");
        loop {
            match Message::length(&self.received).ok_or_else(garbage)? {
                Some(length) if length <= self.received.len() => {
                    let bytes: Vec<u8> = self.received.drain(..length).collect();
                    return Message::decode(&bytes).ok_or_else(garbage);
                }
                _ => self.receive(method)?,
            }
        }
    }

    fn receive(&mut self, method: &'static str) -> Result<(), Trouble> {
        let mut buffer = [0; 4096];
        loop {
            if !wait(self.socket.as_fd(), PollFlags::POLLIN, self.deadline)? {
                return Err(self.late(method));
            }
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Trouble::new(method, errno, "the connection broke")),
                Ok(0) => {
                    let said = "systemd closed the connection";
                    return Err(Trouble::new(method, Errno::ECONNRESET, said));
                }
                Ok(count) => {
                    self.received.extend(buffer.iter().take(count));
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, method: &'static str, bytes: &[u8]) -> Result<(), Trouble> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if !wait(self.socket.as_fd(), PollFlags::POLLOUT, self.deadline)? {
                return Err(self.late(method));
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), rest, flags) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Trouble::new(method, errno, "the connection broke")),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    fn late(&self, method: &'static str) -> Trouble {
        let said = format!("systemd did not answer within {:.1} s", self.patience.as_secs_f32());
        Trouble::new(method, Errno::ETIMEDOUT, said)
    }
}

/// connect(2) waits where nobody accepts: for as long as `SO_SNDTIMEO` says.
fn dial(address: &Socket, deadline: Instant) -> Result<OwnedFd, sys::Error> {
    let kind = (AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket(kind.0, kind.1, kind.2, None).during("socket")?;
    let left = deadline.saturating_duration_since(Instant::now());
    let left = TimeVal::milliseconds(i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&socket, sockopt::SendTimeout, &left).during("setsockopt")?;
    let address = match address {
        Socket::Path(path) => UnixAddr::new(path),
        Socket::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
    };
    match connect(socket.as_raw_fd(), &address.during("connect")?) {
        Err(Errno::EAGAIN) => Err(sys::Error::new("connect", Errno::ETIMEDOUT)),
        connected => connected.during("connect").map(|()| socket),
    }
}

/// An answer that says no, with the errno that comes closest.
fn refusal(method: &'static str, answer: &Message) -> Trouble {
    let errno = match answer.error.rsplit('.').next().unwrap_or_default() {
        "UnitExists" => Errno::EEXIST,
        // Not ENOENT: its words are those of a program that was not found.
        "NoSuchUnit" | "UnknownObject" => Errno::ESRCH,
        "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => Errno::EACCES,
        "InvalidArgs" | "PropertyReadOnly" | "UnknownProperty" => Errno::EINVAL,
        // "Recipient disconnected without replying": it executes itself anew.
        "NoReply" => Errno::ECONNRESET,
        "Timeout" | "TimedOut" => Errno::ETIMEDOUT,
        "ServiceUnknown" | "NameHasNoOwner" | "Disconnected" => Errno::ENOTCONN,
        _ => Errno::EPROTO,
    };
    let said = answer.body.first().and_then(Value::text).unwrap_or(&answer.error);
    Trouble::new(method, errno, said.trim_end_matches('.'))
}
