//! The program criu: found, started as a worker, asked, listened to.
//!
//! `criu swrk FD` carries out the requests that come over one socket, a message in each packet, and
//! tells its stages by notifications, which are answered.

use std::ffi::{CString, OsStr};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use davit_sys::{OsContext, child, poll, process, socket};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::error::OLDEST;
use crate::protocol::{self, Kind, Response};
use crate::{Error, Features, log};

/// Where criu is looked for without PATH: some engines call davit without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Timeout for an answer about criu itself.
const ANSWER: Duration = Duration::from_secs(30);

/// Interval at which a wait for criu looks whether it is still alive.
const LOOK: Duration = Duration::from_secs(3600);

/// Timeout for its end, once it has nothing left to do.
const END: Duration = Duration::from_secs(10);

/// The longest message.
const LONGEST: usize = 64 << 10;

/// The program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criu(PathBuf);

impl Criu {
    /// Finds the program: `named`, or `criu` in the directories of `path`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(named: Option<&Path>, path: Option<&OsStr>) -> Result<Self, Error> {
        if let Some(named) = named {
            return match named.is_file() {
                true => Ok(Self(named.to_owned())),
                false => Err(Error::Missing { named: Some(named.to_owned()) }),
            };
        }
        let path = path.filter(|path| !path.is_empty()).unwrap_or(OsStr::new(DEFAULT_PATH));
        let found = std::env::split_paths(path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join("criu"))
            .find(|program| program.is_file());
        found.map(Self).ok_or(Error::Missing { named: None })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// How a worker is started.
#[derive(Debug, Default)]
pub struct Launch {
    /// Descriptors that it gets, under the numbers that [`Session::number`] returns.
    pub files: Vec<OwnedFd>,
    /// The name of its session keyring, which restored processes inherit.
    pub keyring: Option<CString>,
}

/// A worker that waits for requests.
#[derive(Debug)]
pub struct Session {
    child: Child,
    socket: OwnedFd,
    numbers: Vec<RawFd>,
    log: Option<(OwnedFd, String, PathBuf)>,
    program: PathBuf,
    ended: bool,
}

/// What criu tells about its work.
#[derive(Debug)]
pub struct Notification<'a> {
    /// The stage, such as `post-dump`.
    pub stage: &'a str,
    /// The process that it is about.
    pub pid: Option<i32>,
    /// A descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
}

impl Session {
    /// Starts a worker, and checks its version.
    ///
    /// # Errors
    /// It cannot be executed, or is too old.
    pub fn start(criu: &Criu, launch: Launch) -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .syscall("socketpair")
            .map_err(Error::os("criu"))?;
        let mut command = Command::new(criu.path());
        process::reset_child_signals(&mut command, None);
        if let Some(name) = launch.keyring {
            child::with_session_keyring(&mut command, name);
        }
        let files = launch.files.into_iter();
        let numbers = files.map(|file| child::pass(&mut command, file)).collect();
        let number = child::pass(&mut command, theirs);
        command.args(["swrk", &number.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| Error::Start {
            program: criu.path().to_owned(),
            error: davit_sys::Error::new("execve", errno(&error)),
        })?;
        // Closes this process's copies.
        drop(command);
        let program = criu.path().to_owned();
        let mut session = Self { child, socket: ours, numbers, log: None, program, ended: false };
        session.check_version()?;
        Ok(session)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The number that a descriptor of [`Launch::files`] has in the worker.
    #[must_use]
    pub fn number(&self, index: usize) -> Option<RawFd> {
        self.numbers.get(index).copied()
    }

    /// From here on failures quote the log of this name in the directory, which is at `path`.
    pub fn log_to(&mut self, directory: OwnedFd, name: &str, path: &Path) {
        self.log = Some((directory, name.to_owned(), path.join(name)));
    }

    fn check_version(&mut self) -> Result<(), Error> {
        self.send(&protocol::version_request())?;
        let (response, _) = self.receive(Some(ANSWER))?;
        match response.version {
            Some(version) if version >= OLDEST => Ok(()),
            Some(version) => Err(Error::TooOld { program: self.program.clone(), version }),
            None => Err(Error::Protocol),
        }
    }

    /// Asks what criu and the kernel can do.
    ///
    /// # Errors
    /// It does not answer.
    pub fn features(&mut self) -> Result<Features, Error> {
        self.send(&protocol::feature_request())?;
        let (response, _) = self.receive(Some(ANSWER))?;
        Ok(response.features)
    }

    /// Carries out a request. `notified` acts on what criu tells; if that fails, criu undoes its
    /// work. A request may take as long as the container has memory: there is no timeout.
    ///
    /// # Errors
    /// Those of criu and of `notified`.
    pub fn perform<E: From<Error>>(
        &mut self,
        request: &[u8],
        mut notified: impl FnMut(Notification<'_>) -> Result<(), E>,
    ) -> Result<Response, E> {
        self.send(request)?;
        let mut refused: Option<E> = None;
        loop {
            let (response, descriptor) = match self.receive(None) {
                Ok(received) => received,
                Err(error) => return Err(refused.unwrap_or_else(|| error.into())),
            };
            if response.kind != u64::from(Kind::Notify as u32) {
                return match refused {
                    Some(error) => Err(error),
                    None if response.success => Ok(response),
                    None => Err(self.failure(&response).into()),
                };
            }
            let stage = response.script.as_deref().unwrap_or_default();
            let notification = Notification { stage, pid: response.pid, descriptor };
            let told = match refused {
                None => notified(notification),
                Some(_) => Ok(()),
            };
            if let Err(error) = told {
                refused = Some(error);
            }
            let answer = protocol::notify_answer(refused.is_none());
            if let Err(error) = self.send(&answer) {
                return Err(refused.unwrap_or_else(|| error.into()));
            }
        }
    }

    /// Lets it end, and waits for that.
    ///
    /// # Errors
    /// It does not end, and is killed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.close();
        Ok(())
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        match send(self.socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(self.gone()),
            Err(errno) => Err(Error::os("criu")(davit_sys::Error::new("send", errno))),
        }
    }

    fn receive(&mut self, timeout: Option<Duration>) -> Result<(Response, Option<OwnedFd>), Error> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let deadline = Instant::now() + timeout.unwrap_or(LOOK);
            let ready = poll::wait_until(self.socket.as_fd(), PollFlags::POLLIN, deadline)
                .map_err(Error::os("criu"))?;
            if !ready && timeout.is_some() {
                let _ = self.child.kill();
                let how = format!("does not answer within {} s", ANSWER.as_secs());
                return Err(Error::Gone { how, lines: Vec::new(), log: None });
            }
            match socket::try_receive(self.socket.as_fd(), &mut buffer) {
                Ok((0, _)) => return Err(self.gone()),
                Ok((length, descriptor)) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    let response = Response::parse(message).map_err(|_| Error::Protocol)?;
                    return Ok((response, descriptor));
                }
                Err(error) if matches!(error.errno, Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) if error.errno == Errno::ECONNRESET => return Err(self.gone()),
                Err(error) => return Err(Error::os("criu")(error)),
            }
        }
    }

    fn failure(&self, response: &Response) -> Error {
        let (lines, log) = self.quoted();
        let errno = response.errno.filter(|errno| *errno != 0);
        let words = errno.map(|errno| davit_sys::errno_text(Errno::from_raw(errno)).to_string());
        Error::Failed { message: response.message.clone().or(words), lines, log }
    }

    fn gone(&mut self) -> Error {
        self.ended = true;
        let how = match self.child.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            Err(_) => "ended".to_owned(),
        };
        let (lines, log) = self.quoted();
        Error::Gone { how, lines, log }
    }

    fn quoted(&self) -> (Vec<log::LogLine>, Option<PathBuf>) {
        let Some((directory, name, path)) = &self.log else { return (Vec::new(), None) };
        let flags = nix::fcntl::OFlag::O_RDONLY
            | nix::fcntl::OFlag::O_NOFOLLOW
            | nix::fcntl::OFlag::O_NONBLOCK
            | nix::fcntl::OFlag::O_CLOEXEC;
        let opened =
            nix::fcntl::openat(directory, name.as_str(), flags, nix::sys::stat::Mode::empty());
        match opened {
            Ok(file) => (log::errors(file.into()), Some(path.clone())),
            Err(_) => (Vec::new(), None),
        }
    }

    /// Ends it: without its socket it undoes what is not complete.
    fn close(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let pid = nix::unistd::Pid::from_raw(self.pid());
        let ended = davit_sys::pidfd::open(pid).and_then(|pidfd| {
            poll::wait_until(pidfd.as_fd(), PollFlags::POLLIN, Instant::now() + END)
        });
        if !ended.unwrap_or(false) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// The errno of a failed execve(2), or of an operation before it.
fn errno(error: &std::io::Error) -> Errno {
    match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        _ => error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn criu_is_found_where_it_is_named_or_in_path() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("criu");
        let path = directory.path().as_os_str();
        let missing = Criu::find(None, Some(path)).unwrap_err();
        assert_eq!(missing.to_string(), "criu: no such program in PATH");
        assert!(missing.hint().unwrap().contains("CRIU 3.16 or newer"));
        assert!(Criu::find(Some(&program), None).is_err());
        std::fs::write(&program, "").unwrap();
        assert_eq!(Criu::find(None, Some(path)).unwrap().path(), program);
        assert_eq!(Criu::find(Some(&program), None).unwrap().path(), program);
    }

    #[test]
    fn a_program_that_is_no_criu_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("criu");
        std::fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let criu = Criu::find(Some(&program), None).unwrap();
        let error = Session::start(&criu, Launch::default()).unwrap_err();
        assert_eq!(error.to_string(), "criu ended with exit status 3");
    }
}
