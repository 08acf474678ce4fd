//! Starts a planned process and speaks with it until it is where it shall be.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use namespaces::handshake::{Channel, Message};
use namespaces::net_devices::Move;
use namespaces::{IdMaps, Kind, Launch, Program};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::process::CArray;
use sys::{Pile, Slots};

use crate::agent::Agent;
use crate::conversation::{Conversation, Heard, Walked, misunderstood};
use crate::error::{Error, Result, Within};
use crate::handover;
use crate::one_processor::OneProcessor;
use crate::program;
use crate::step::{INIT_NAME, InitPlan, Section};

/// What the process is made from.
pub(crate) struct Start<'a> {
    /// Its plan.
    pub plan: InitPlan,
    /// Namespaces that it is born into.
    pub born: &'a [Kind],
    /// Id maps of its new user namespace.
    pub id_maps: Option<IdMaps>,
    /// Network devices that it will ask for.
    pub moves: Vec<Move>,
    /// The cgroup v2 directory that it is born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Descriptors that the plan names.
    pub slots: Slots,
    /// Puts the plan's bytes into a file that can be read from its beginning.
    pub file: &'a dyn Fn(Vec<u8>) -> Result<OwnedFd>,
}

/// A process that was started, and the conversation with it.
#[derive(Debug)]
pub struct Started {
    /// Its pid, as the runtime sees it.
    pub pid: Pid,
    /// A handle of it.
    pub pidfd: OwnedFd,
    /// The other side of its terminal.
    pub master: Option<OwnedFd>,
    /// Who gets the other side of its terminal at once: he sets its size before the program asks for it.
    pub(crate) console: Option<PathBuf>,
    /// Who is told of its system calls, once there is a filter.
    pub(crate) agent: Option<Agent>,
    id_maps: Option<IdMaps>,
    moves: Vec<Move>,
    conversation: Conversation,
    /// Whether it may wait for an answer of ours.
    asks: bool,
    /// Whether it has become the user's program.
    executed: bool,
    /// The process that sleeps until this one has executed, or has ended.
    sleeper: Option<Pid>,
    /// Until it has said something, or has ended.
    one_processor: Option<OneProcessor>,
    /// The mount of our own program: to close it is to wait for all processors (the kernel's `synchronize_rcu`),
    /// and at the end they have nothing else to do.
    _program: OwnedFd,
}

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is created, and waits for [`Started::go`].
    Created,
    /// It has become the user's program.
    Executed,
}

/// Makes the process and lets it execute init.
///
/// # Errors
/// A system call of the way there.
pub(crate) fn start(mut start: Start<'_>) -> Result<Started> {
    let (ours, theirs) = Channel::pair()?;
    start.plan.channel = theirs.as_fd().as_raw_fd();
    start.plan.slots = start.slots.iter().map(|(slot, fd)| (slot, fd.as_raw_fd())).collect();
    let encoded = start.plan.encode()?;
    let length = encoded.len();
    let bytes = (start.file)(encoded)?;
    let file = program::protected().within(|| "protect davit's own program")?;
    let plan = Rc::new(start.plan);
    let conversation = Conversation::new(ours, Walked::Here(Rc::clone(&plan)), plan.hooks())?;
    let asks = plan.asks() || plan.waits();
    let ops = match plan.sections.first() {
        Some(Section::Namespaces(ops)) => ops.as_slice(),
        _ => &[],
    };
    let mut keep: Vec<_> = plan.slots.iter().map(|(_, fd)| *fd).collect();
    keep.extend([plan.channel, bytes.as_raw_fd()]);
    keep.extend((3..).take(usize::try_from(plan.preserved).unwrap_or(0)));
    let name = std::ffi::CString::new(INIT_NAME).map_err(|_| Error::new("name of init"))?;
    let number = |number: String| {
        std::ffi::CString::new(number).map_err(|_| Error::new("place of the plan"))
    };
    let argv = [name, number(bytes.as_raw_fd().to_string())?, number(length.to_string())?];
    let one_processor = plan.says_where_to_run().then(OneProcessor::stay).flatten();
    let child = namespaces::launch(&Launch {
        born: start.born,
        cgroup: start.cgroup,
        ops,
        slots: &start.slots,
        channel: &theirs,
        other_end: conversation.end(),
        program: Program {
            file: file.as_fd(),
            argv: CArray::new(&argv),
            envp: CArray::new::<std::ffi::CString>(&[]),
            keep,
        },
    })
    .map_err(|error| explain_clone(error, start.born))?;
    // One after the other they were opened, and so they are closed in one go.
    let pile = Pile::default();
    [OwnedFd::from(theirs), bytes].into_iter().for_each(|fd| pile.add(fd));
    pile.close();
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        master: None,
        console: None,
        agent: None,
        id_maps: start.id_maps,
        moves: start.moves,
        conversation,
        asks,
        executed: false,
        sleeper: None,
        one_processor,
        _program: file,
    })
}

fn explain_clone(error: sys::Error, born: &[Kind]) -> Error {
    let names: Vec<_> = born.iter().map(|kind| kind.name()).collect();
    let step = format!("linux.namespaces ({})", names.join(", "));
    let hint = match error.errno {
        Errno::ENOSPC => Some("a limit in /proc/sys/user/max_*_namespaces is reached"),
        Errno::EPERM => Some("this user may not make these namespaces without a user namespace"),
        Errno::EAGAIN => Some("a limit on processes is reached (RLIMIT_NPROC, pids.max)"),
        _ => None,
    };
    let error = Error::from(error).within(step);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl Started {
    /// Listens until it is created or has become the user's program. `hooks` runs the runtime's
    /// hooks, given the pid.
    ///
    /// # Errors
    /// What failed inside, or here on its behalf.
    pub fn listen(&mut self, hooks: &dyn Fn(Pid) -> Result<()>) -> Result<Progress> {
        if !self.asks && self.agent.is_none() {
            self.conversation.await_end()?;
        }
        loop {
            let heard = self.conversation.listen();
            // From here on each has work of its own, and other programs may be called.
            self.one_processor = None;
            let (message, descriptor) = match heard? {
                Heard::Said(message, descriptor) => (message, descriptor),
                Heard::Executed => {
                    self.executed = true;
                    self.reap_sleeper()?;
                    return Ok(Progress::Executed);
                }
                Heard::Ended => return Err(self.explain_end()),
            };
            match message {
                Message::IdMapsWanted => {
                    if let Some(maps) = &self.id_maps {
                        maps.write(self.pid).within(|| "linux.uidMappings")?;
                    }
                    self.go()?;
                }
                Message::Forked(pid) => {
                    reap(self.follow(Pid::from_raw(pid))?)?;
                    self.go()?;
                }
                Message::Vforked(pid) => self.sleeper = Some(self.follow(Pid::from_raw(pid))?),
                Message::DeviceWanted(number) => {
                    self.move_device(number)?;
                    self.go()?;
                }
                Message::Console => match (&self.console, &descriptor) {
                    (Some(socket), Some(master)) => handover::terminal(socket, master)?,
                    _ => self.master = descriptor,
                },
                Message::Built => {
                    hooks(self.pid)?;
                    self.go()?;
                }
                Message::Listener => {
                    let (agent, listener) = (self.agent.take(), descriptor);
                    let (agent, listener) = agent.zip(listener).ok_or_else(misunderstood)?;
                    agent.hand_over(&listener, self.pid)?;
                }
                Message::Created => {
                    self.asks = false;
                    return Ok(Progress::Created);
                }
                _ => return Err(misunderstood()),
            }
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn go(&self) -> Result<()> {
        self.conversation.go()
    }

    /// Whether it has become the user's program.
    #[must_use]
    pub const fn has_executed(&self) -> bool {
        self.executed
    }

    fn move_device(&self, number: u32) -> Result<()> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let device = self.moves.get(number).ok_or_else(misunderstood)?;
        device.apply(self.pid.as_raw()).map_err(|error| {
            let hint = match error.errno {
                Errno::EEXIST => Some("a device of the container has this name already"),
                Errno::EINVAL => Some("devices such as bridges belong to their namespace"),
                _ => None,
            };
            let error = Error::from(error).within(device);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// From here on it is about the second process, which is ours too; returns the first.
    fn follow(&mut self, second: Pid) -> Result<Pid> {
        self.pidfd = sys::pidfd::open(second).within(|| "second process of init")?;
        Ok(std::mem::replace(&mut self.pid, second))
    }

    /// It ends as soon as it wakes up.
    fn reap_sleeper(&mut self) -> Result<()> {
        self.sleeper.take().map_or(Ok(()), |sleeper| reap(sleeper).map(drop))
    }

    fn explain_end(&self) -> Error {
        let how = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("exited with {code}"),
            _ => "ended".to_owned(),
        };
        Error::new(format!("davit's init {how} before the container was made"))
    }

    /// Ends it, and waits for its end.
    pub fn kill(&self) {
        // It has ended already, or it ends now: there is nothing else to do about it.
        let _ = sys::pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = reap(self.pid);
        let _ = self.sleeper.map(reap);
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
            Err(errno) => return Err(sys::Error::new("waitpid", errno).into()),
            Ok(status) => return Ok(Some(status)),
        }
    }
}
