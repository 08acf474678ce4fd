//! `NOTIFY_SOCKET`: the container's word that it is ready, passed on to the service manager that
//! waits for it (sd_notify(3)).
//!
//! `create` binds a directory of the container's own over `/run/notify` and tells the program of a
//! socket in there. The socket is made when the program is started, by the command that then
//! listens. Nothing but `READY=1` gets through: what else the service manager takes from a sender
//! is not the container's to say.

use std::ffi::OsStr;
use std::io::{IoSlice, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recv,
    sendmsg, socket,
};
use oci_spec::runtime::{Mount, Spec};
use sys::During;

use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::record::{Entry, NOTIFY_DIRECTORY, NOTIFY_SOCKET, Root};

/// The variable, outside and inside.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Where the container has the directory with its socket.
const INSIDE: &str = "/run/notify";

/// The longest message that is read: as long as systemd's own buffer.
const LONGEST: usize = 4096;

/// How long the service manager may take to have read what it was sent.
const BARRIER: Duration = Duration::from_secs(30);

/// Where a service manager listens.
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
        Ok(Some(Self(address.during("address").within(|| format!("{VARIABLE} {value:?}"))?)))
    }
}

/// Gives the container its directory and its variable; tells whether it did.
///
/// A process that has the variable already was given a socket by its engine, and one without a mount
/// namespace of its own can be given none.
pub(crate) fn prepare(spec: &mut Spec, root: &Root, id: &Id) -> Result<bool> {
    let own_mounts = crate::plan::kinds(spec).contains(&namespaces::Kind::Mount);
    let Some(process) = spec.process_mut() else { return Ok(false) };
    let mut env = process.env().clone().unwrap_or_default();
    let given = env.iter().any(|entry| entry.starts_with(&format!("{VARIABLE}=")));
    if given || !own_mounts {
        return Ok(false);
    }
    env.push(format!("{VARIABLE}={INSIDE}/{NOTIFY_SOCKET}"));
    process.set_env(Some(env));
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(INSIDE));
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(root.path().join(id.as_str()).join(NOTIFY_DIRECTORY)));
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    mount.set_options(Some(options.to_vec()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    Ok(true)
}

/// The container's socket, and the way to the service manager.
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
    /// Listens for the container; `None` where `create` has prepared nothing for that.
    ///
    /// # Errors
    /// The service manager does not listen; the socket cannot be made.
    pub(crate) fn open(entry: &Entry, manager: &Manager) -> Result<Option<Self>> {
        if !entry.path_of(NOTIFY_DIRECTORY).exists() {
            return Ok(None);
        }
        let ours = datagram().within(|| VARIABLE)?;
        connect(ours.as_raw_fd(), &manager.0)
            .during("connect")
            .within(|| format!("{VARIABLE} {}", manager.0))?;
        let inside = listen(entry).within(|| NOTIFY_DIRECTORY)?;
        Ok(Some(Self { inside, manager: ours }))
    }

    /// Takes one message from the container, where there is one, and passes it on if it is the
    /// word; tells whether it was.
    ///
    /// # Errors
    /// The service manager is gone.
    pub fn take(&self, pid: i32) -> Result<bool> {
        let mut message = [0; LONGEST];
        // Descriptors that come with it are closed by the kernel, as there is no room for them: that
        // is also how the barrier of a sender inside opens.
        let length = match recv(self.inside.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            received => received.during("recv").within(|| NOTIFY_DIRECTORY)?,
        };
        if !says_ready(message.get(..length).unwrap_or_default()) {
            return Ok(false);
        }
        // In one message: a unit that is ready has the right main process from its first moment.
        self.tell(format!("MAINPID={pid}\nREADY=1\n").as_bytes(), None)?;
        Ok(true)
    }

    /// Waits until the container is ready, or has ended; and, as this command ends next, until the
    /// service manager has read who sent the word.
    ///
    /// # Errors
    /// The service manager is gone.
    pub(crate) fn wait(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.inside.as_fd(), PollFlags::POLLIN),
                PollFd::new(pidfd, PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => polled.during("poll").within(|| VARIABLE)?,
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

    /// systemd asks who the sender is when it reads the message, which may be after its end. It closes
    /// the descriptor that comes with `BARRIER=1` once it has read all before (sd_notify(3)).
    fn barrier(&self) -> Result<()> {
        let (ours, theirs): (PipeReader, _) = std::io::pipe().during("pipe").within(|| VARIABLE)?;
        self.tell(b"BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(BARRIER).unwrap_or(PollTimeout::MAX);
        // One that does not know of barriers may never close it: then the message is old enough.
        poll(&mut fds, patience).map(drop).during("poll").within(|| VARIABLE)
    }

    fn tell(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let message = [IoSlice::new(message)];
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights: &[_] = if fds.is_empty() { &[] } else { &rights };
        sendmsg::<()>(self.manager.as_raw_fd(), &message, rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .during("sendmsg")
            .within(|| VARIABLE)
    }
}

fn datagram() -> std::result::Result<OwnedFd, sys::Error> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None).during("socket")
}

/// The container's socket, that any of its users may write to. One from a `start` that was killed
/// is in the way.
fn listen(entry: &Entry) -> std::result::Result<OwnedFd, sys::Error> {
    let path = entry.path_of(NOTIFY_DIRECTORY).join(NOTIFY_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.during("unlink")?,
    }
    let socket = datagram()?;
    let address = UnixAddr::new(&path).during("bind")?;
    bind(socket.as_raw_fd(), &address).during("bind")?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .during("chmod")?;
    Ok(socket)
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn a_process_that_has_a_socket_keeps_it() {
        let spec = |env: &[&str], namespaces: serde_json::Value| -> Spec {
            let process = json!({ "cwd": "/", "args": ["x"], "env": env,
                "user": { "uid": 0, "gid": 0 } });
            let linux = json!({ "namespaces": namespaces });
            serde_json::from_value(json!({ "ociVersion": "1.3.0", "process": process,
                "linux": linux }))
            .unwrap()
        };
        let root = Root::new(Some("/r".into())).unwrap();
        let id = Id::try_from("x".to_owned()).unwrap();
        let mut fresh = spec(&["A=1"], json!([{ "type": "mount" }]));
        assert!(prepare(&mut fresh, &root, &id).unwrap());
        let env = fresh.process().as_ref().unwrap().env().clone().unwrap();
        assert_eq!(env, ["A=1", "NOTIFY_SOCKET=/run/notify/notify.sock"]);
        let source = fresh.mounts().as_ref().unwrap().last().unwrap().source().clone();
        assert_eq!(source, Some("/r/x/notify".into()));
        let mut engine = spec(&["NOTIFY_SOCKET=/x"], json!([{ "type": "mount" }]));
        assert!(!prepare(&mut engine, &root, &id).unwrap());
        assert!(!prepare(&mut spec(&[], json!([])), &root, &id).unwrap());
    }
}
