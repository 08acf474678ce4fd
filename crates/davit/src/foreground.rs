//! Waiting for a container's process in the foreground: signals are passed on, the terminal is
//! copied, the exit code is the container's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use runtime::Started;
use runtime::notify::Proxy;

use crate::output::Outcome;

/// Signals that say something about this process, and are not passed on.
const OURS: [i32; 4] = [libc::SIGCHLD, libc::SIGWINCH, libc::SIGPIPE, libc::SIGURG];

/// Milliseconds without output after which an ended process's terminal is taken to be done.
const SILENCE: u8 = 100;

/// The outcome of a command whose process ended with this code.
pub(crate) fn outcome(code: i32) -> Outcome {
    Outcome::Exit(u8::try_from(code).unwrap_or(u8::MAX))
}

/// This process while it stands for the container's.
pub(crate) struct Foreground {
    signals: SignalFd,
}

/// The caller's terminal, made raw; it is restored when this is dropped.
struct Raw(Termios);

impl Raw {
    /// Nothing, where standard input is no terminal.
    fn new() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // What the container prints still gets its carriage returns: from here, and from here only.
        raw.output_flags.insert(OutputFlags::OPOST);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Rows and columns of the caller's terminal, where standard input is one.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = sys::pty::size(std::io::stdin().as_fd()).ok();
    size.filter(|size| *size != (0, 0))
}

impl Foreground {
    /// From here on signals wait until they can be passed on.
    pub(crate) fn prepare() -> Result<Self> {
        let mut all = SigSet::all();
        // Faults of our own are not for the container, and cannot wait.
        for fault in [
            nix::sys::signal::SIGSEGV,
            nix::sys::signal::SIGBUS,
            nix::sys::signal::SIGFPE,
            nix::sys::signal::SIGILL,
            nix::sys::signal::SIGABRT,
        ] {
            all.remove(fault);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&all), None).context("sigprocmask")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags).context("signalfd")?;
        Ok(Self { signals })
    }

    /// Waits for the end of the process; `master` is its terminal, where it has one and nobody
    /// else looks after it; `ready` is how it says that it is ready.
    pub(crate) fn wait(
        &mut self,
        process: &Started,
        master: Option<OwnedFd>,
        mut ready: Option<Proxy>,
    ) -> Result<i32> {
        let raw = master.as_ref().and_then(|_| Raw::new());
        let mut copy = master.map(Copy::new);
        loop {
            // The container is not to suffer from a service manager that has gone.
            ready = ready.filter(|ready| !ready.take(process.pid.as_raw()).unwrap_or(true));
            let mut wake = vec![self.signals.as_fd()];
            wake.extend(ready.as_ref().map(AsFd::as_fd));
            let done = match &mut copy {
                Some(copy) => copy.turn(&wake)?,
                None => {
                    let mut fds: Vec<_> =
                        wake.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                    wait_for(&mut fds)?;
                    false
                }
            };
            if done {
                copy = None;
            }
            if let Some(code) = self.take_signal(process, copy.as_ref())? {
                if let Some(copy) = &mut copy {
                    copy.drain();
                }
                drop(raw);
                return Ok(code);
            }
        }
    }

    /// Passes a signal on, where one is there; the exit code, once the process has ended.
    fn take_signal(&mut self, process: &Started, copy: Option<&Copy>) -> Result<Option<i32>> {
        let Some(info) = self.signals.read_signal().context("signalfd")? else { return Ok(None) };
        let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
        if signal == libc::SIGWINCH
            && let Some(copy) = copy
        {
            copy.resize();
        } else if !OURS.contains(&signal) {
            // A process that has just ended needs no signal.
            let _ = sys::pidfd::send_signal(process.pidfd.as_fd(), signal);
        }
        if signal != libc::SIGCHLD {
            return Ok(None);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == process.pid => return Ok(Some(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == process.pid => {
                    return Ok(Some(128 + signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(anyhow!("waitpid: {}", sys::words(errno))),
            }
        }
    }
}

fn wait_for(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(anyhow!("poll: {}", sys::words(errno))),
    }
}

/// The way between the caller's streams and the container's terminal.
struct Copy {
    master: File,
    input_open: bool,
}

impl Copy {
    fn new(master: OwnedFd) -> Self {
        Self { master: File::from(master), input_open: true }
    }

    /// The container's terminal gets the size of the caller's, where that has one.
    fn resize(&self) {
        if let Some((rows, columns)) = terminal_size() {
            // A terminal whose other side is closed has no size any more.
            let _ = sys::pty::resize(self.master.as_fd(), rows, columns);
        }
    }

    /// Waits for something to copy or for one of `wake`, and copies. True at the end of the output.
    fn turn(&mut self, wake: &[BorrowedFd<'_>]) -> Result<bool> {
        let stdin = std::io::stdin();
        // An input that is closed would wake us for ever.
        let input = self.input_open.then(|| stdin.as_fd());
        let mut wanted = vec![self.master.as_fd()];
        wanted.extend(input);
        wanted.extend(wake);
        let mut fds: Vec<_> =
            wanted.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        wait_for(&mut fds)?;
        let ready = |index: usize| {
            fds.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
        };
        let (output, input) = (ready(0), self.input_open && ready(1));
        drop(fds);
        if input {
            self.input_open = self.pass_input(stdin.as_fd())?;
        }
        Ok(output && !self.pass_output()?)
    }

    fn pass_input(&mut self, stdin: BorrowedFd<'_>) -> Result<bool> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(stdin, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => Ok(false),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(errno) => Err(anyhow!("standard input: {}", sys::words(errno))),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                Ok(self.master.write_all(bytes).is_ok())
            }
        }
    }

    /// False at the end: every process has closed the terminal.
    fn pass_output(&mut self) -> Result<bool> {
        let mut buffer = [0; 8192];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => Ok(false),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush()).context("standard output")?;
                Ok(true)
            }
        }
    }

    /// Copies what is left after the process has ended. The end comes once every process has closed
    /// the terminal; children of this one may hold it for ever, so silence is an end too.
    fn drain(&mut self) {
        let silence = PollTimeout::from(SILENCE);
        loop {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let left = poll(&mut fds, silence).is_ok_and(|count| count > 0);
            if !left || !self.pass_output().unwrap_or(false) {
                return;
            }
        }
    }
}
