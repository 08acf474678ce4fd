//! A process that was started: the runtime's part of the handshake with it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use davit_namespaces::IdMaps;
use davit_namespaces::net_devices::Move;
use davit_protocol::Message;
use davit_sys::trace::operation;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel::{InitChannel, InitEvent, protocol_error};
use super::cpu_pin::CpuPin;
use super::send_fd;
use crate::agent::Agent;
use crate::error::{Error, ErrorKind, Result, Within};
use crate::state::ended_within;

/// Timeout for the end of a process that was killed, or has nothing left to do.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that was started: a child of the runtime, and the channel to it.
#[derive(Debug)]
pub struct Started {
    /// Its pid in the runtime's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The pty master of its terminal.
    pub master: Option<OwnedFd>,
    /// Console socket that receives the pty master as soon as it exists.
    pub(crate) console: Option<PathBuf>,
    /// The seccomp agent that gets the listener of its filter.
    pub(crate) agent: Option<Agent>,
    pub(super) id_maps: Option<IdMaps>,
    pub(super) late_cgroup: Option<davit_cgroups::JoinFds>,
    pub(super) moves: Vec<Move>,
    pub(super) channel: InitChannel,
    /// Whether it may still send a message on which the runtime must act.
    pub(super) receives_messages: bool,
    /// Whether it is a process of a running container, and not its init.
    pub(super) is_further: bool,
    /// Whether it has become the user's program.
    pub(super) executed: bool,
    /// The first process of two, which sleeps in vfork(2) until the second has executed or ended.
    pub(super) sleeper: Option<Pid>,
    /// Until its first message or its end.
    pub(super) cpu_pin: Option<CpuPin>,
    /// The mount of davit's own program. Closing it waits for all CPUs (the kernel's
    /// `synchronize_rcu`), and at the end of the command they have nothing else to do.
    pub(super) _program: OwnedFd,
}

/// The work of a command on the way to where init waits, or has become the user's program.
pub(crate) trait Events {
    /// Init goes on as this process.
    ///
    /// # Errors
    /// Init is then killed.
    fn forked(&self, _pidfd: &OwnedFd, _pid: Pid) -> Result<()> {
        Ok(())
    }

    /// The hooks of the runtime are due.
    ///
    /// # Errors
    /// Init is then killed.
    fn run_hooks(&self, _pid: Pid) -> Result<()> {
        Ok(())
    }
}

/// A command without such work.
pub(crate) struct NoEvents;

impl Events for NoEvents {}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is created, and waits for [`Started::go`].
    Created,
    /// It has become the user's program.
    Executed,
}

/// The operation that writes the id maps of the user namespace.
pub(crate) struct WriteIdMaps<'a>(pub(crate) &'a IdMaps);

impl fmt::Display for WriteIdMaps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |maps: &[davit_namespaces::IdMapping]| {
            let one = |map: &davit_namespaces::IdMapping| {
                format!("{}+{} = {}", map.container, map.size, map.host)
            };
            maps.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let (uids, gids) = (list(&self.0.uids), list(&self.0.gids));
        write!(f, "write the id maps, inside = outside: user ids {uids}; group ids {gids}")
    }
}

impl Started {
    /// Listens until it is created or has become the user's program.
    ///
    /// # Errors
    /// The failure that it reported, or that of the runtime on its behalf.
    pub(crate) fn listen(&mut self, events: &dyn Events) -> Result<Progress> {
        operation("wait", &"wait for init", || self.listen_until_ready(events))
    }

    fn listen_until_ready(&mut self, events: &dyn Events) -> Result<Progress> {
        if !self.receives_messages && self.agent.is_none() {
            self.channel.await_end(self.pid.as_raw())?;
        }
        loop {
            let event = self.channel.listen(self.pid.as_raw());
            // From here on both have work of their own, and other programs may be executed.
            self.cpu_pin = None;
            match event? {
                InitEvent::Message(Message::Created, _) => {
                    self.receives_messages = false;
                    return Ok(Progress::Created);
                }
                InitEvent::Message(message, descriptor) => {
                    let waits = self.act_on(&message, descriptor, events)?;
                    if waits {
                        self.go()?;
                    }
                }
                InitEvent::Executed => {
                    self.executed = true;
                    self.reap_sleeper()?;
                    return Ok(Progress::Executed);
                }
                InitEvent::Ended => return Err(self.explain_end()),
            }
        }
    }

    /// Does what a message of init asks for; returns whether init waits for an answer.
    fn act_on(
        &mut self,
        message: &Message,
        descriptor: Option<OwnedFd>,
        events: &dyn Events,
    ) -> Result<bool> {
        match message {
            Message::WriteIdMaps => self.write_id_maps()?,
            Message::Forked(pid) => {
                reap(self.follow(Pid::from_raw(*pid))?)?;
                events.forked(&self.pidfd, self.pid)?;
            }
            Message::MoveToCgroup => self.move_into_cgroup()?,
            Message::MoveNetDevice(number) => self.move_device(*number)?,
            Message::RunHooks => events.run_hooks(self.pid)?,
            Message::Vforked(pid) => {
                self.sleeper = Some(self.follow(Pid::from_raw(*pid))?);
                return Ok(false);
            }
            Message::Console => {
                match (&self.console, &descriptor) {
                    (Some(socket), Some(master)) => send_fd::send_console(socket, master)?,
                    _ => self.master = descriptor,
                }
                return Ok(false);
            }
            Message::Listener => {
                let (agent, listener) = (self.agent.take(), descriptor);
                let (agent, listener) = agent.zip(listener).ok_or_else(protocol_error)?;
                let hand_over = || agent.hand_over(&listener, self.pid);
                operation("seccomp", &"send the listener to its agent", hand_over)?;
                return Ok(false);
            }
            _ => return Err(protocol_error()),
        }
        Ok(true)
    }

    fn write_id_maps(&self) -> Result<()> {
        let Some(maps) = &self.id_maps else { return Ok(()) };
        let write = || {
            maps.write(self.pid).map_err(|error| {
                let field = error.field();
                Error::from(error).within(field)
            })
        };
        operation("namespaces", &WriteIdMaps(maps), write)
    }

    fn move_into_cgroup(&mut self) -> Result<()> {
        let cgroup = self.late_cgroup.take().ok_or_else(protocol_error)?;
        let move_in = || cgroup.move_in(self.pid.as_raw()).within(|| "enter the cgroup");
        operation("cgroup", &"move the process into the cgroup", move_in)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn go(&self) -> Result<()> {
        self.channel.go()
    }

    /// Whether it has become the user's program.
    #[must_use]
    pub const fn has_executed(&self) -> bool {
        self.executed
    }

    fn move_device(&self, number: u32) -> Result<()> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let device = self.moves.get(number).ok_or_else(protocol_error)?;
        operation("namespaces", device, || device.apply(self.pid.as_raw())).map_err(|error| {
            let hint = match error.errno {
                Errno::EEXIST => Some("a device of the container has this name already"),
                Errno::EINVAL => Some("devices such as bridges belong to their namespace"),
                _ => None,
            };
            Error::from(error).within(device).hinted(hint)
        })
    }

    /// Follows the second process from here on, also a child of the runtime; returns the first.
    fn follow(&mut self, second: Pid) -> Result<Pid> {
        self.pidfd = davit_sys::pidfd::open(second).within(|| "second process of init")?;
        Ok(std::mem::replace(&mut self.pid, second))
    }

    /// The sleeper ends as soon as it wakes up.
    fn reap_sleeper(&mut self) -> Result<()> {
        self.sleeper.take().map_or(Ok(()), |sleeper| reap(sleeper).map(drop))
    }

    fn explain_end(&self) -> Error {
        let how = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("exited with {code}"),
            _ => "ended".to_owned(),
        };
        let before = if self.is_further { "program was executed" } else { "container was made" };
        Error::new(format!("davit's init {how} before the {before}")).of_kind(ErrorKind::Ended)
    }

    /// Kills it, and waits for its end. A process in uninterruptible sleep is left to the reaper of
    /// this process.
    pub fn kill(&self) {
        // An error means that it has ended already.
        let _ = davit_sys::pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        if ended_within(&self.pidfd, END_TIMEOUT).unwrap_or(false) {
            let _ = reap(self.pid);
            let _ = self.sleeper.map(reap);
        }
    }

    /// Waits for the end of a process that has nothing left to do; one that does not end is killed.
    pub(crate) fn finish(&self) -> Result<()> {
        match ended_within(&self.pidfd, END_TIMEOUT)? {
            true => reap(self.pid).map(drop),
            false => {
                self.kill();
                let seconds = END_TIMEOUT.as_secs();
                Err(Error::new(format!("process {} does not end within {seconds} s", self.pid)))
            }
        }
    }
}

/// Waits for the end of a child.
///
/// # Errors
/// waitpid(2), but for a child that was reaped already.
pub fn reap(pid: Pid) -> Result<Option<WaitStatus>> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(davit_sys::Error::new("waitpid", errno).into()),
            Ok(status) => return Ok(Some(status)),
        }
    }
}
