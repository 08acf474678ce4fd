//! Foreground mode: forwards signals, copies the terminal, returns the exit code.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use davit_runtime::notify::Proxy;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::output::Outcome;

/// Signals that concern davit itself and are not forwarded.
const NOT_FORWARDED: [i32; 4] = [libc::SIGCHLD, libc::SIGWINCH, libc::SIGPIPE, libc::SIGURG];

/// Milliseconds without output after which the terminal of an exited process is no longer read.
const DRAIN_TIMEOUT_MS: u8 = 100;

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its exit code; 128 + N if signal N ended it.
    pub(crate) code: i32,
    /// The signal that ended it, unless davit forwarded that signal.
    pub(crate) signal: Option<Signal>,
}

impl End {
    /// The outcome of a command whose process ended so.
    pub(crate) fn outcome(self) -> Outcome {
        Outcome::Exit(u8::try_from(self.code).unwrap_or(u8::MAX))
    }

    /// A message for the user about an end by a signal, with a hint.
    pub(crate) fn reason(self) -> Option<(String, Option<&'static str>)> {
        match self.signal? {
            Signal::SIGSYS => Some((
                "the program was ended by SIGSYS: it made a system call that the filter of linux.seccomp \
                 does not allow"
                    .to_owned(),
                Some(
                    "the kernel's log names the call: `journalctl -k` or `dmesg`, type=1326, syscall=NUMBER \
                     (`ausyscall NUMBER` has its name)",
                ),
            )),
            signal => Some((format!("the program was ended by {signal}"), None)),
        }
    }
}

/// The state of davit while it waits for the container's process.
pub(crate) struct Foreground {
    signals: SignalFd,
    /// The last signal that was forwarded.
    forwarded: Option<i32>,
}

/// The raw mode of the caller's terminal; dropping it restores the terminal.
struct RawMode(Termios);

impl RawMode {
    /// `None` if standard input is not a terminal.
    fn new() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // Carriage returns are added to the container's output here, and only here.
        raw.output_flags.insert(OutputFlags::OPOST);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that was closed cannot be restored.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Rows and columns of the caller's terminal, if standard input is one.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = davit_sys::pty::size(std::io::stdin().as_fd()).ok();
    size.filter(|size| *size != (0, 0))
}

impl Foreground {
    /// Blocks signals, so that they wait until they can be forwarded.
    pub(crate) fn prepare() -> Result<Self> {
        let mut all = SigSet::all();
        // Faults of davit itself are not for the container, and cannot be blocked.
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
        Ok(Self { signals, forwarded: None })
    }

    /// Waits for the end of the process. `master` is the pty master of its terminal, if davit
    /// copies it; `ready` forwards its readiness notification.
    pub(crate) fn wait(
        &mut self,
        pid: Pid,
        pidfd: &OwnedFd,
        master: Option<OwnedFd>,
        mut ready: Option<Proxy>,
    ) -> Result<End> {
        let raw = master.as_ref().and_then(|_| RawMode::new());
        let mut copy = master.map(TtyCopy::new);
        loop {
            // A service manager that went away must not affect the container.
            ready = ready.filter(|ready| !ready.take(pid.as_raw()).unwrap_or(true));
            // The pidfd becomes readable at the end of the process, even if SIGCHLD is lost.
            let mut wake = vec![self.signals.as_fd(), pidfd.as_fd()];
            wake.extend(ready.as_ref().map(AsFd::as_fd));
            let done = match &mut copy {
                Some(copy) => copy.poll_once(&wake)?,
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
            self.forward_signal(pidfd, copy.as_ref())?;
            if let Some(end) = self.reap(pid)? {
                if let Some(copy) = &mut copy {
                    copy.drain();
                }
                drop(raw);
                return Ok(end);
            }
        }
    }

    /// Forwards a pending signal.
    fn forward_signal(&mut self, process: &OwnedFd, copy: Option<&TtyCopy>) -> Result<()> {
        let Some(info) = self.signals.read_signal().context("signalfd")? else { return Ok(()) };
        let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
        if signal == libc::SIGWINCH
            && let Some(copy) = copy
        {
            copy.resize();
        } else if !NOT_FORWARDED.contains(&signal) {
            // The process may have ended meanwhile.
            let _ = davit_sys::pidfd::send_signal(process.as_fd(), signal);
            self.forwarded = Some(signal);
        }
        Ok(())
    }

    /// The end of the process, if it has ended. Other children are reaped too: davit may be the
    /// subreaper of processes that a hook left behind.
    fn reap(&self, pid: Pid) -> Result<Option<End>> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(child, code)) if child == pid => {
                    return Ok(Some(End { code, signal: None }));
                }
                Ok(WaitStatus::Signaled(child, signal, _)) if child == pid => {
                    let was_forwarded = self.forwarded == Some(signal as i32);
                    let unexpected = (!was_forwarded).then_some(signal);
                    return Ok(Some(End { code: 128 + signal as i32, signal: unexpected }));
                }
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(anyhow!("waitpid: {}", davit_sys::errno_text(errno))),
            }
        }
    }
}

fn wait_for(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(anyhow!("poll: {}", davit_sys::errno_text(errno))),
    }
}

/// Copies between the caller's streams and the container's terminal.
struct TtyCopy {
    master: File,
    input_open: bool,
}

impl TtyCopy {
    fn new(master: OwnedFd) -> Self {
        Self { master: File::from(master), input_open: true }
    }

    /// Sets the size of the container's terminal to that of the caller's.
    fn resize(&self) {
        if let Some((rows, columns)) = terminal_size() {
            // A terminal that no process has open any more has no size.
            let _ = davit_sys::pty::resize(self.master.as_fd(), rows, columns);
        }
    }

    /// Waits for data to copy or for one of `wake`, and copies. Returns true at the end of the
    /// output.
    fn poll_once(&mut self, wake: &[BorrowedFd<'_>]) -> Result<bool> {
        let stdin = std::io::stdin();
        // A closed input would be readable forever.
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
            Ok(0) | Err(Errno::EIO) => {
                self.end_input();
                Ok(false)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(errno) => Err(anyhow!("standard input: {}", davit_sys::errno_text(errno))),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                Ok(self.master.write_all(bytes).is_ok())
            }
        }
    }

    /// Sends an end of file to a terminal, which is a character (termios(3), VEOF).
    fn end_input(&mut self) {
        let settings = tcgetattr(&self.master).ok();
        let end = settings.and_then(|settings| {
            settings.control_chars.get(SpecialCharacterIndices::VEOF as usize).copied()
        });
        // A terminal that no process has open any more needs no end of file.
        let _ = end.map(|end| self.master.write_all(&[end]));
    }

    /// Returns false at the end: every process has closed the terminal.
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

    /// Copies the remaining output after the process has ended. The end of file comes once every
    /// process has closed the terminal; children of the process may keep it open, so there is also
    /// a timeout.
    fn drain(&mut self) {
        let timeout = PollTimeout::from(DRAIN_TIMEOUT_MS);
        loop {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let left = poll(&mut fds, timeout).is_ok_and(|count| count > 0);
            if !left || !self.pass_output().unwrap_or(false) {
                return;
            }
        }
    }
}
