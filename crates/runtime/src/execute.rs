//! Starts a planned process and speaks with it until it is where it shall be.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use namespaces::handshake::{Channel, Message, ReceiveError};
use namespaces::{IdMaps, Kind, Launch, Program};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::Slots;
use sys::process::CArray;

use crate::error::{Error, Result, Within};
use crate::program;
use crate::step::{INIT_NAME, InitPlan, Section};

/// How long the process inside may be silent. It waits for nobody but the kernel; hooks, which
/// have deadlines of their own, come on top.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the process is made from.
pub(crate) struct Start<'a> {
    /// Its plan.
    pub plan: InitPlan,
    /// Namespaces that it is born into.
    pub born: &'a [Kind],
    /// Id maps of its new user namespace.
    pub id_maps: Option<IdMaps>,
    /// The cgroup v2 directory that it is born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Descriptors that the plan names.
    pub slots: Slots,
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
    /// Its plan, as it crossed.
    pub(crate) encoded: Vec<u8>,
    plan: InitPlan,
    id_maps: Option<IdMaps>,
    channel: Channel,
    patience: Duration,
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
    let bytes = program::sealed(c"davit:plan", &encoded)?;
    let file = program::protected().within(|| "protect davit's own program")?;
    let ops = match start.plan.sections.first() {
        Some(Section::Namespaces(ops)) => ops.as_slice(),
        _ => &[],
    };
    let mut keep: Vec<_> = start.plan.slots.iter().map(|(_, fd)| *fd).collect();
    keep.extend([start.plan.channel, bytes.as_raw_fd()]);
    keep.extend((3..).take(usize::try_from(start.plan.preserved).unwrap_or(0)));
    let name = std::ffi::CString::new(INIT_NAME).map_err(|_| Error::new("name of init"))?;
    let number = std::ffi::CString::new(bytes.as_raw_fd().to_string())
        .map_err(|_| Error::new("number of the plan"))?;
    let argv = [name, number];
    let child = namespaces::launch(&Launch {
        born: start.born,
        cgroup: start.cgroup,
        ops,
        slots: &start.slots,
        channel: &theirs,
        program: Program {
            file: file.as_fd(),
            argv: CArray::new(&argv),
            envp: CArray::new::<std::ffi::CString>(&[]),
            keep,
        },
    })
    .map_err(|error| explain_clone(error, start.born))?;
    let patience = PATIENCE;
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        master: None,
        encoded,
        plan: start.plan,
        id_maps: start.id_maps,
        channel: ours,
        patience,
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
    /// Adds the time that hooks inside may take.
    #[must_use]
    pub fn with_hooks(mut self, count: usize) -> Self {
        let hooks = u32::try_from(count).unwrap_or(u32::MAX);
        self.patience = self.patience.saturating_add(crate::hook::PATIENCE.saturating_mul(hooks));
        self
    }

    /// Listens until it is created or has become the user's program. `hooks` runs the runtime's
    /// hooks, given the pid.
    ///
    /// # Errors
    /// What failed inside, or here on its behalf.
    pub fn listen(&mut self, hooks: &dyn Fn(Pid) -> Result<()>) -> Result<Progress> {
        let mut executing = false;
        loop {
            match self.channel.receive(Some(self.patience)) {
                Ok((Message::IdMapsWanted, _)) => {
                    if let Some(maps) = &self.id_maps {
                        maps.write(self.pid).within(|| "linux.uidMappings")?;
                    }
                    self.go()?;
                }
                Ok((Message::Forked(pid), _)) => {
                    self.follow(Pid::from_raw(pid))?;
                    self.go()?;
                }
                Ok((Message::Console, master)) => self.master = master,
                Ok((Message::Built, _)) => {
                    hooks(self.pid)?;
                    self.go()?;
                }
                Ok((Message::Created, _)) => return Ok(Progress::Created),
                Ok((Message::Executing, _)) => executing = true,
                Ok((Message::Failed(report), _)) => return Err(self.plan.explain(&report)),
                Err(ReceiveError::Ended) if executing => return Ok(Progress::Executed),
                Err(ReceiveError::Ended) => return Err(self.explain_end()),
                Ok((Message::Go, _)) | Err(ReceiveError::Garbage) => {
                    return Err(Error::new("davit's init does not keep to the conversation"));
                }
                Err(error) => return Err(Error::from(error).within("wait for davit's init")),
            }
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn go(&self) -> Result<()> {
        self.channel.send(&Message::Go).within(|| "davit's init")
    }

    /// The process that made the second one is gone; the second one is ours too.
    fn follow(&mut self, second: Pid) -> Result<()> {
        let pidfd = sys::pidfd::open(second).within(|| "second process of init")?;
        let first = std::mem::replace(&mut self.pid, second);
        self.pidfd = pidfd;
        reap(first)?;
        Ok(())
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
