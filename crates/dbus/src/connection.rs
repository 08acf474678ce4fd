//! A connection to a service: method calls, their answers, and one signal, until a deadline.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use davit_sys::OsContext;
use davit_sys::poll::wait_until;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Address, Kind, Message, Value};

/// A call that failed: the method or system call, the nearest errno, and the text of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Name of the method or system call, and an errno.
    pub error: davit_sys::Error,
    /// The text that the service gave, or what is known beyond the errno; may be empty.
    pub detail: String,
}

impl Error {
    /// An error of `call` with a detail.
    pub fn new(call: &'static str, errno: Errno, detail: impl Into<String>) -> Self {
        Self { error: davit_sys::Error::new(call, errno), detail: detail.into() }
    }

    /// Whether the connection broke or was refused: a service that restarts answers later.
    #[must_use]
    pub const fn is_disconnect(&self) -> bool {
        matches!(self.error.errno, Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNREFUSED)
    }
}

impl From<davit_sys::Error> for Error {
    fn from(error: davit_sys::Error) -> Self {
        Self { error, detail: String::new() }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail.as_str() {
            "" => self.error.fmt(f),
            detail => write!(f, "{} ({detail})", self.error),
        }
    }
}

impl std::error::Error for Error {}

/// The object and interface that a method is called on.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Name of the service on the bus.
    pub destination: &'a str,
    /// Path of the object.
    pub path: &'a str,
    /// Interface of the object.
    pub interface: &'a str,
}

/// What a connection knows of the service at its other end.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name in error messages.
    pub name: &'static str,
    /// The signal for which [`Connection::signal`] waits; all others are dropped.
    pub signal: &'static str,
    /// The match rule for which a bus delivers that signal.
    pub match_rule: &'static str,
    /// The errno for errors of its own, by the last part of their names.
    pub errno: fn(&str) -> Option<Errno>,
}

const DBUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// Maximum number of signals that are stored until [`Connection::signal`] is called.
pub const MAX_SIGNALS: usize = 1000;

/// Maximum length of a signal that is stored, in bytes.
const MAX_SIGNAL: usize = 4096;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    service: Service,
    /// Whether a bus passes messages on to the service.
    through_bus: bool,
    deadline: Instant,
    /// The time between opening and deadline, for messages.
    timeout: Duration,
    serial: u32,
    received: Vec<u8>,
    /// Signals that arrived before the answer to a call, the newest last.
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects and authenticates. Everything on this connection must be done before the deadline.
    ///
    /// # Errors
    /// The socket refuses, or is not one of D-Bus.
    pub fn open(
        address: &Address,
        through_bus: bool,
        service: Service,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let socket = connect_until(address, deadline).map_err(|error| match error.errno {
            // Engines take the text of ENOENT for a program that was not found.
            Errno::ENOENT => davit_sys::Error::new(error.call, Errno::ENOTCONN),
            _ => error,
        })?;
        let mut connection = Self {
            socket,
            service,
            through_bus,
            deadline,
            timeout: deadline.saturating_duration_since(Instant::now()),
            serial: 0,
            received: Vec::new(),
            signals: VecDeque::new(),
        };
        connection.authenticate()?;
        if through_bus {
            connection.call(DBUS, "Hello", Vec::new())?;
        }
        Ok(connection)
    }

    /// Asks a bus for the signal of the service. Without a bus the service sends it anyway.
    ///
    /// # Errors
    /// The bus refuses, or the connection broke.
    pub fn subscribe(&mut self) -> Result<(), Error> {
        if !self.through_bus {
            return Ok(());
        }
        let rule = Value::string(self.service.match_rule);
        self.call(DBUS, "AddMatch", vec![rule]).map(drop)
    }

    /// EXTERNAL without an identity: the server takes that of the socket (SO_PEERCRED), with the
    /// uid outside of any user namespace.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send("connect", b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => return Err(Error::new("connect", Errno::EACCES, line)),
            }
        }
    }

    fn line(&mut self) -> Result<String, Error> {
        const MAX_LINE: usize = 1024;
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                let line = line.get(..end).unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.received.len() > MAX_LINE {
                return Err(Error::new("connect", Errno::EPROTO, "not a D-Bus server"));
            }
            self.receive("connect")?;
        }
    }

    /// Calls a method and returns the body of its answer.
    ///
    /// # Errors
    /// The error that is the answer; the deadline; a broken connection.
    pub fn call(
        &mut self,
        target: Target<'_>,
        method: &'static str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
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
                Kind::Signal => self.store(answer),
                Kind::Return if answer.reply_to == call.serial => return Ok(answer.body),
                Kind::Error if answer.reply_to == call.serial => {
                    return Err(self.refusal(method, &answer));
                }
                _ => {}
            }
        }
    }

    /// Waits for the signal of the service whose body is `wanted`, on behalf of `method`.
    ///
    /// # Errors
    /// The deadline; a broken connection.
    pub fn signal(
        &mut self,
        method: &'static str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, Error> {
        loop {
            for signal in std::mem::take(&mut self.signals) {
                if wanted(&signal.body) {
                    return Ok(signal.body);
                }
            }
            let next = self.message(method)?;
            if next.kind == Kind::Signal {
                self.store(next);
            }
        }
    }

    fn store(&mut self, signal: Message) {
        if signal.member != self.service.signal {
            return;
        }
        if self.signals.len() == MAX_SIGNALS {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    fn message(&mut self, method: &'static str) -> Result<Message, Error> {
        let garbage = || Error::new(method, Errno::EPROTO, "the answer is not D-Bus");
        loop {
            match Message::length(&self.received).ok_or_else(garbage)? {
                Some(length) if length <= self.received.len() => {
                    let bytes: Vec<u8> = self.received.drain(..length).collect();
                    if length > MAX_SIGNAL && Message::kind(&bytes) == Some(Kind::Signal) {
                        continue;
                    }
                    return Message::decode(&bytes).ok_or_else(garbage);
                }
                _ => self.receive(method)?,
            }
        }
    }

    fn receive(&mut self, method: &'static str) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        loop {
            if !wait_until(self.socket.as_fd(), PollFlags::POLLIN, self.deadline)? {
                return Err(self.timed_out(method));
            }
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Error::new(method, errno, "the connection broke")),
                Ok(0) => {
                    let detail = format!("{} closed the connection", self.service.name);
                    return Err(Error::new(method, Errno::ECONNRESET, detail));
                }
                Ok(count) => {
                    self.received.extend(buffer.iter().take(count));
                    return Ok(());
                }
            }
        }
    }

    fn send(&mut self, method: &'static str, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if !wait_until(self.socket.as_fd(), PollFlags::POLLOUT, self.deadline)? {
                return Err(self.timed_out(method));
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), rest, flags) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Error::new(method, errno, "the connection broke")),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    fn timed_out(&self, method: &'static str) -> Error {
        let (name, seconds) = (self.service.name, self.timeout.as_secs_f32());
        let detail = format!("{name} did not answer within {seconds:.1} s");
        Error::new(method, Errno::ETIMEDOUT, detail)
    }

    /// The error of an answer, with the nearest errno.
    fn refusal(&self, method: &'static str, answer: &Message) -> Error {
        let name = answer.error.rsplit('.').next().unwrap_or_default();
        let errno = (self.service.errno)(name).unwrap_or_else(|| errno(name));
        let detail = answer.body.first().and_then(Value::text).unwrap_or(&answer.error);
        Error::new(method, errno, detail.trim_end_matches('.'))
    }
}

/// connect(2) waits while the backlog of the server is full, at most for `SO_SNDTIMEO`.
fn connect_until(address: &Address, deadline: Instant) -> Result<OwnedFd, davit_sys::Error> {
    let kind = (AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket(kind.0, kind.1, kind.2, None).syscall("socket")?;
    let left = deadline.saturating_duration_since(Instant::now());
    let left = TimeVal::milliseconds(i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&socket, sockopt::SendTimeout, &left).syscall("setsockopt")?;
    let address = match address {
        Address::Path(path) => UnixAddr::new(path),
        Address::Abstract(name) => UnixAddr::new_abstract(name.as_bytes()),
    };
    match connect(socket.as_raw_fd(), &address.syscall("connect")?) {
        Err(Errno::EAGAIN) => Err(davit_sys::Error::new("connect", Errno::ETIMEDOUT)),
        connected => connected.syscall("connect").map(|()| socket),
    }
}

/// The nearest errno of an error of D-Bus itself, by the last part of its name.
fn errno(name: &str) -> Errno {
    match name {
        // Not ENOENT, whose text is that of a program that was not found.
        "UnknownObject" => Errno::ESRCH,
        "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => Errno::EACCES,
        "InvalidArgs" | "PropertyReadOnly" | "UnknownProperty" => Errno::EINVAL,
        // "Recipient disconnected without replying": the service restarts.
        "NoReply" => Errno::ECONNRESET,
        "Timeout" | "TimedOut" => Errno::ETIMEDOUT,
        "ServiceUnknown" | "NameHasNoOwner" | "Disconnected" => Errno::ENOTCONN,
        _ => Errno::EPROTO,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    const SERVICE: Service =
        Service { name: "fake", signal: "Done", match_rule: "member='Done'", errno: |_| None };

    fn signal(member: &str, number: u32) -> Message {
        let body = vec![Value::U32(number)];
        Message {
            kind: Kind::Signal,
            serial: 7,
            member: member.to_owned(),
            body,
            ..Message::default()
        }
    }

    /// Answers one call with signals before the answer.
    fn serve(mut stream: UnixStream, signals: &[Message]) {
        let mut hello = [0; 27];
        stream.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN");
        stream.read_exact(&mut hello[..2]).unwrap();
        stream.write_all(b"DATA\r\nOK 12\r\n").unwrap();
        let mut received = Vec::new();
        let call = loop {
            let mut buffer = [0; 512];
            let count = stream.read(&mut buffer).unwrap();
            received.extend(&buffer[..count]);
            if Message::length(&received).unwrap().is_some_and(|length| length <= received.len()) {
                break Message::decode(&received).unwrap();
            }
        };
        let answer =
            Message { kind: Kind::Return, serial: 8, reply_to: call.serial, ..Message::default() };
        for message in signals.iter().chain([&answer]) {
            stream.write_all(&message.encode()).unwrap();
        }
    }

    #[test]
    fn the_number_of_stored_signals_is_limited() {
        let many = MAX_SIGNALS + 10;
        let long = Message { body: vec![Value::string("x".repeat(100_000))], ..signal("Done", 1) };
        let mut signals = vec![long];
        signals.extend(vec![signal("Other", 1); many]);
        signals.extend(vec![signal("Done", 2); many]);
        signals.push(signal("Done", 3));
        let path = std::env::temp_dir().join(format!("davit-dbus-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || serve(listener.accept().unwrap().0, &signals));
        let deadline = Instant::now() + Duration::from_secs(20);
        let address = Address::Path(path.clone());
        let mut connection = Connection::open(&address, false, SERVICE, deadline).unwrap();
        std::fs::remove_file(path).unwrap();
        let target = Target { destination: "a.b", path: "/", interface: "a.b" };
        connection.call(target, "Get", Vec::new()).unwrap();
        assert_eq!(connection.signals.len(), MAX_SIGNALS);
        connection.signal("Get", |body| body == [Value::U32(3)]).unwrap();
        server.join().unwrap();
    }
}
