//! `NOTIFY_SOCKET`: forwards the readiness notification of the container to the service manager
//! that waits for it (sd_notify(3)).
//!
//! `create` bind mounts a directory of the container's own at `/run/notify`, and sets the variable
//! for the program to a socket in it. The command that starts the program makes the socket and
//! listens. Only `READY=1` is forwarded: a container must not send other messages to the service
//! manager.

use std::ffi::OsStr;
use std::io::{IoSlice, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use davit_sys::OsContext;
use davit_sys::trace::operation;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recv,
    sendmsg, socket,
};

use crate::error::{Error, Result, Within};
use crate::log::warn;
use crate::state::{ContainerDir, NOTIFY_DIRECTORY, NOTIFY_SOCKET};

/// The variable, on the host and in the container.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// The directory of the socket in the container.
pub(crate) const INSIDE: &str = "/run/notify";

/// The longest message that is read: as long as systemd's own buffer.
const LONGEST: usize = 4096;

/// Timeout for the service manager to read the messages.
const BARRIER: Duration = Duration::from_secs(30);

/// The address on which a service manager listens.
#[derive(Clone, Debug)]
pub struct Manager(UnixAddr);

impl Manager {
    /// Reads the variable's value: an absolute path, or `@` and a name in the abstract namespace of
    /// unix(7). Nothing where it is empty.
    ///
    /// # Errors
    /// Anything else, such as the `vsock:` of a virtual machine; too long a path.
    pub fn parse(value: &OsStr) -> Result<Option<Self>> {
        let bytes = value.as_bytes();
        let address = match bytes.first() {
            None => return Ok(None),
            Some(b'@') => UnixAddr::new_abstract(bytes.get(1..).unwrap_or_default()),
            Some(b'/') => UnixAddr::new(Path::new(value)),
            Some(_) => {
                let reason = "is neither an absolute path nor @NAME";
                return Err(Error::new(format!("{VARIABLE}: {value:?} {reason}")));
            }
        };
        Ok(Some(Self(address.syscall("address").within(|| format!("{VARIABLE} {value:?}"))?)))
    }
}

/// The container's socket, and the connection to the service manager.
#[derive(Debug)]
pub struct Proxy {
    inside: OwnedFd,
    manager: OwnedFd,
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }
}

impl Proxy {
    /// Listens for the container; `None` if `create` has prepared nothing for it, or if the service
    /// manager does not listen: that is a warning, because a container is worth more than its
    /// notification.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn open(dir: &ContainerDir, manager: &Manager) -> Result<Option<Self>> {
        if !dir.path_of(NOTIFY_DIRECTORY).exists() {
            return Ok(None);
        }
        let ours = datagram().within(|| VARIABLE)?;
        let connected = connect(ours.as_raw_fd(), &manager.0).syscall("connect");
        if let Err(error) = connected.within(|| format!("{VARIABLE} {}", manager.0)) {
            warn_of(&error);
            return Ok(None);
        }
        let inside = listen(dir).within(|| NOTIFY_DIRECTORY)?;
        Ok(Some(Self { inside, manager: ours }))
    }

    /// Receives one message from the container, if there is one, and forwards it if it is
    /// `READY=1`; returns whether it was.
    ///
    /// # Errors
    /// The service manager is gone.
    pub fn take(&self, pid: i32) -> Result<bool> {
        let mut message = [0; LONGEST];
        // The kernel closes descriptors that come with it, as there is no buffer for them: this
        // also opens the barrier of a sender in the container.
        let length = match recv(self.inside.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            received => received.syscall("recv").within(|| NOTIFY_DIRECTORY)?,
        };
        if !says_ready(message.get(..length).unwrap_or_default()) {
            return Ok(false);
        }
        // In one message: a unit that is ready has the right main process from its first moment.
        self.tell(format!("MAINPID={pid}\nREADY=1\n").as_bytes(), None)?;
        Ok(true)
    }

    /// Waits until the container is ready, or has ended; then, as this command ends next, until the
    /// service manager has read the sender of the message.
    ///
    /// A service manager that has gone in the meantime is a warning: the container is running.
    pub(crate) fn wait(&self, pidfd: BorrowedFd<'_>, pid: i32) {
        let wait = || self.wait_for_it(pidfd, pid);
        if let Err(error) = operation("wait", &"wait until the container is ready", wait) {
            warn_of(&error);
        }
    }

    fn wait_for_it(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.inside.as_fd(), PollFlags::POLLIN),
                PollFd::new(pidfd, PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => polled.syscall("poll").within(|| VARIABLE)?,
            };
            let [word, end] = fds.map(|fd| fd.any().unwrap_or(false));
            if word {
                if self.take(pid)? {
                    return self.barrier();
                }
            } else if end {
                return Ok(());
            }
        }
    }

    /// systemd looks up the sender when it reads the message, which may be after the sender has
    /// ended. It closes the descriptor that comes with `BARRIER=1` once it has read all messages
    /// before (sd_notify(3)).
    fn barrier(&self) -> Result<()> {
        let (ours, theirs): (PipeReader, _) =
            std::io::pipe().syscall("pipe").within(|| VARIABLE)?;
        self.tell(b"BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(BARRIER).unwrap_or(PollTimeout::MAX);
        // A service manager without barriers may never close it: the message is old enough then.
        poll(&mut fds, timeout).map(drop).syscall("poll").within(|| VARIABLE)
    }

    fn tell(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let message = [IoSlice::new(message)];
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights: &[_] = if fds.is_empty() { &[] } else { &rights };
        sendmsg::<()>(self.manager.as_raw_fd(), &message, rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .syscall("sendmsg")
            .within(|| VARIABLE)
    }
}

/// The warning about a service manager that cannot be reached.
fn warn_of(error: &Error) {
    warn(format!("{error}; the container cannot report that it is ready"));
}

fn datagram() -> std::result::Result<OwnedFd, davit_sys::Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None).syscall("socket")
}

/// The container's socket, to which any of its users may write. The socket of a `start` that was
/// killed is removed first.
fn listen(dir: &ContainerDir) -> std::result::Result<OwnedFd, davit_sys::Error> {
    let path = dir.path_of(NOTIFY_DIRECTORY).join(NOTIFY_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.syscall("unlink")?,
    }
    let socket = datagram()?;
    let address = UnixAddr::new(&path).syscall("bind")?;
    bind(socket.as_raw_fd(), &address).syscall("bind")?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .syscall("chmod")?;
    Ok(socket)
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// A message of a container.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = says_ready(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        let parse = |text: &str| Manager::parse(OsStr::new(text));
        assert!(parse("").unwrap().is_none());
        assert_eq!(
            parse("/run/systemd/notify").unwrap().unwrap().0.path(),
            Some(Path::new("/run/systemd/notify"))
        );
        assert_eq!(parse("@a/b").unwrap().unwrap().0.as_abstract(), Some(&b"a/b"[..]));
        for bad in ["vsock:2:1234", "relative", &format!("/{}", "x".repeat(200))] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(VARIABLE), "{error}");
        }
    }

    #[test]
    fn only_a_whole_line_is_the_word() {
        for (message, ready) in [
            (&b"READY=1"[..], true),
            (b"STATUS=up\nREADY=1\n", true),
            (b"READY=11", false),
            (b"STATUS=READY=1", false),
            (b"RELOADING=1", false),
            (b"", false),
        ] {
            assert_eq!(says_ready(message), ready, "{message:?}");
        }
    }
}
