//! Init: performs the plan in the new process. No choices are made here, and nothing but the plan
//! is parsed.

#![allow(
    unsafe_code,
    reason = "it adopts the descriptors that its plan names (docs/decisions/0016)"
)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use davit_protocol::{Channel, MAX_DETAIL, Message, ReceiveError, Report, StartFailure};
use davit_rootfs::Context;
use davit_seccomp::SendVia;
use davit_sys::path::{Links, open_in_root};
use davit_sys::{Failure, OsContext, process};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{FileStat, Mode, mkdirat, stat};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{chdir, fchdir, setsid};

use crate::hook::HookPoint;
use crate::passwd;
use crate::plan::hint::NOT_EXECUTABLE;
use crate::plan::{InitInput, InitPlan, Op, Section};
use crate::trace;

/// The failure of one operation: a system call, its errno, and optional detail.
struct OpFailure {
    error: davit_sys::Error,
    detail: String,
}

impl fmt::Display for OpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => self.error.fmt(f),
            detail => write!(f, "{} ({detail})", self.error),
        }
    }
}

impl From<davit_sys::Error> for OpFailure {
    fn from(error: davit_sys::Error) -> Self {
        Self { error, detail: String::new() }
    }
}

/// Performs the plan in the first `length` bytes of the file `plan_fd`; ends with the user's
/// program or a report.
///
/// The exit code is for the parent process, in case the report cannot be sent.
pub fn run(plan_fd: RawFd, length: usize) -> ! {
    process::exit(walk(plan_fd, length))
}

fn walk(plan_fd: RawFd, length: usize) -> i32 {
    // Before anything of the container can see this process (CVE-2016-9962).
    if process::set_dumpable(false).is_err() {
        return 1;
    }
    // Descriptors that were inherited over the exec are not for programs that this process
    // executes, hooks included.
    if process::close_on_exec_from(3).is_err() {
        return 1;
    }
    let Some(input) = receive(plan_fd, length) else { return 1 };
    let plan = &input.plan;
    let mut init = match Init::new(&input) {
        Ok(init) => init,
        Err(_) => return 1,
    };
    // Section 0 was done before this program was executed.
    for (section, steps) in plan.sections.iter().enumerate().skip(1) {
        trace::enter_section(section);
        if let Err((op, failure)) = init.walk(steps, &plan.filter) {
            init.report(plan, (section, op), &failure);
            return 1;
        }
    }
    0
}

fn receive(plan_fd: RawFd, length: usize) -> Option<InitInput> {
    // SAFETY: the runtime left this descriptor open for init, which has opened nothing yet.
    let file = unsafe { process::adopt_fd(plan_fd) }.ok()?;
    let bytes = davit_sys::file::read_rest(&file, length, length).ok()?;
    InitInput::decode(&bytes).ok()
}

struct Init {
    channel: Channel,
    context: Context,
    root: Option<OwnedFd>,
    preserved: Vec<RawFd>,
    home: Option<CString>,
    in_working_directory: bool,
    /// Whether `start` was called: it listens from then on.
    is_starting: bool,
}

impl Init {
    fn new(input: &InitInput) -> Result<Self, davit_sys::Error> {
        let mut context = Context::default();
        for (slot, fd) in &input.slots {
            // SAFETY: the runtime left it open for this slot; it names each number once.
            context.slots.put(*slot, unsafe { process::adopt_fd(*fd) }?);
        }
        // SAFETY: as above.
        let channel = Channel::new(unsafe { process::adopt_fd(input.channel) }?);
        trace::tell_in_init(input.trace.as_ref(), &mut context.slots)?;
        let preserved = input.plan.preserved.clone();
        let (root, home) = (None, None);
        let (in_working_directory, is_starting) = (false, false);
        Ok(Self { channel, context, root, preserved, home, in_working_directory, is_starting })
    }

    fn walk(
        &mut self,
        section: &Section,
        filter: &[davit_seccomp::Op],
    ) -> Result<(), (usize, OpFailure)> {
        let leaf = |failure: Failure| (failure.op, failure.error.into());
        match section {
            Section::Namespaces(ops) => {
                davit_namespaces::apply(ops, &self.context.slots, &self.channel).map_err(leaf)
            }
            Section::Rootfs(ops) => {
                davit_rootfs::apply(ops, &mut self.context).map_err(|failure| {
                    let detail = self.context.log();
                    (failure.op, OpFailure { error: failure.error, detail })
                })
            }
            Section::Privileges(ops) => davit_privileges::apply(ops).map_err(leaf),
            Section::Filter => {
                let handover = davit_seccomp::apply(filter).map_err(leaf)?;
                self.hand_over(handover).map_err(|error| (0, error.into()))
            }
            Section::Process(ops) => {
                for (index, op) in ops.iter().enumerate() {
                    davit_sys::trace::operation("init", op, || self.step(op))
                        .map_err(|failure| (index, failure))?;
                }
                Ok(())
            }
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), OpFailure> {
        match op {
            Op::Stage(name) => Ok(process::set_name(name)?),
            Op::SetParentDeathSignal => {
                Ok(process::set_parent_death_signal(Some(Signal::SIGKILL))?)
            }
            Op::ResetSignals { ignored } => Ok(process::reset_signals(*ignored)?),
            Op::SendConsole { slot, plain_newlines } => {
                let master = self.context.slots.take(*slot)?;
                if *plain_newlines {
                    add_no_returns(&master)?;
                }
                Ok(self.channel.send_with(&Message::Console, Some(master.as_fd()))?)
            }
            Op::RuntimeHooks => self.ask(&Message::RunHooks),
            Op::Hook { hook, point, inherits_env, state_before_pid, state_after_pid, output } => {
                let pid = std::process::id();
                let state = format!("{state_before_pid}{pid}{state_after_pid}");
                let output = output.take(&self.context.slots)?;
                let mut hook = hook.clone();
                hook.env.extend(self.home.clone().filter(|_| *inherits_env));
                let run = || hook.run(&state, None, &output);
                let done = match point {
                    HookPoint::CreateContainer => self.in_container_root(run)?,
                    _ => run(),
                };
                done.map_err(|error| OpFailure {
                    // It could not be executed, or it failed.
                    error: davit_sys::Error::new("hook", error.errno().unwrap_or(Errno::ECANCELED)),
                    detail: error.to_string(),
                })
            }
            Op::FindProgram { candidates, .. } => Ok(find_program(candidates)?),
            Op::AwaitIdentity => await_go(&self.channel),
            Op::Created => {
                // From here the end of the channel replaces the death signal: an exit of the
                // runtime after its `Go` must not count as its death.
                process::set_parent_death_signal(None)?;
                self.ask(&Message::Created)
            }
            Op::AwaitStart { command, answer } => self.await_start(*command, *answer),
            Op::ClearParentDeathSignal => Ok(process::set_parent_death_signal(None)?),
            Op::CloseAtExec => Ok(process::close_on_exec_from(3)?),
            Op::ReportExecuting => Ok(self.announce()?),
            Op::NewSession => match setsid() {
                // It leads a session already: a process that joined an empty cgroup alone.
                Ok(_) | Err(Errno::EPERM) => Ok(()),
                Err(errno) => Err(davit_sys::Error::new("setsid", errno).into()),
            },
            Op::Terminal { slot } => self.terminal(*slot),
            Op::MakeWorkingDirectory { path } => Ok(make_missing_directory(self.root()?, path)?),
            Op::WorkingDirectory { path, as_user } => self.enter_directory(path, *as_user),
            Op::LookUpHome { uid } => {
                self.home = Some(home(self.root()?, *uid));
                Ok(())
            }
            Op::Execute { candidates, args, env, .. } => Err(self.execute(candidates, args, env)),
        }
    }

    /// The container's root: that of a new container is open already, that of a running one after
    /// the join.
    fn root(&mut self) -> Result<BorrowedFd<'_>, davit_sys::Error> {
        if self.root.is_none() && self.context.root().is_err() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.root = Some(openat(AT_FDCWD, c"/", flags, Mode::empty()).syscall("open /")?);
        }
        match &self.root {
            Some(root) => Ok(root.as_fd()),
            None => self.context.root(),
        }
    }

    fn ask(&self, message: &Message) -> Result<(), OpFailure> {
        self.channel.send_with_write(message)?;
        await_go(&self.channel)
    }

    fn await_start(&mut self, command: u16, answer: u16) -> Result<(), OpFailure> {
        let commands = Channel::fifo(self.context.slots.take(command)?);
        self.channel = Channel::fifo(self.context.slots.take(answer)?);
        self.is_starting = true;
        await_go(&commands)
    }

    /// Runs `body` in the container's root directory, before that has become this process's root.
    fn in_container_root<T>(&mut self, body: impl FnOnce() -> T) -> Result<T, davit_sys::Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let before = openat(AT_FDCWD, c".", flags, Mode::empty()).syscall("open .")?;
        fchdir(self.root()?).syscall("fchdir")?;
        let result = body();
        fchdir(before).syscall("fchdir")?;
        Ok(result)
    }

    fn terminal(&mut self, slot: u16) -> Result<(), OpFailure> {
        let terminal = self.context.slots.take(slot)?;
        process::set_controlling_terminal(terminal.as_fd())?;
        Ok(process::set_standard_streams(&terminal)?)
    }

    /// Enters `path` without following links of /proc, so that a descriptor that leaks cannot be
    /// a working directory outside (CVE-2024-21626).
    fn enter_directory(&mut self, path: &CStr, as_user: bool) -> Result<(), OpFailure> {
        if self.in_working_directory {
            return Ok(());
        }
        match self.change_directory(path) {
            // A directory that the container's root may not enter, its user may: it is tried again
            // later.
            Err(davit_sys::Error { errno: Errno::EACCES, .. }) if !as_user => return Ok(()),
            changed => changed?,
        }
        self.in_working_directory = true;
        Ok(())
    }

    fn change_directory(&mut self, path: &CStr) -> Result<(), davit_sys::Error> {
        if path == c"/" {
            // This path has no symbolic link.
            return chdir(path).syscall("chdir");
        }
        fchdir(open_directory(self.root()?, path)?).syscall("chdir")
    }

    fn execute(&self, candidates: &[CString], args: &[CString], env: &[CString]) -> OpFailure {
        let home = self.home.iter();
        let args = process::CArray::new(args);
        let env = process::CArray::new(env.iter().chain(home));
        let mut worst = davit_sys::Error::new("execve", Errno::ENOENT);
        let mut detail = String::new();
        let searching = candidates.len() > 1;
        for path in candidates {
            let error = process::exec_path(path, &args, &env);
            match error.errno {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => {
                    if stat(path.as_c_str()).is_ok() {
                        detail = format!(
                            "{path:?} exists, but its interpreter (#! line or ELF loader) was not found"
                        );
                    }
                    if !searching {
                        worst = error;
                    }
                }
                Errno::EACCES => match stat(path.as_c_str()) {
                    Ok(file) if is_directory(&file) && searching => {}
                    Ok(file) if is_directory(&file) => {
                        worst = davit_sys::Error::new("execve", Errno::EISDIR);
                    }
                    file => {
                        worst = error;
                        detail = not_permitted(path, file);
                    }
                },
                _ => return OpFailure { error, detail },
            }
        }
        OpFailure { error: worst, detail }
    }

    /// The first system call under the filter: one that the filter allows, chosen by the plan.
    fn hand_over(
        &self,
        handover: Option<davit_seccomp::ListenerHandoff>,
    ) -> Result<(), davit_sys::Error> {
        let Some((listener, carrier)) = handover else { return Ok(()) };
        match carrier {
            SendVia::SendMsg => self.channel.send_with(&Message::Listener, Some(listener.as_fd())),
            SendVia::SendMmsg => {
                self.channel.send_with_sendmmsg(&Message::Listener, listener.as_fd())
            }
        }
    }

    /// Only the caller's own descriptors stay open over the exec.
    fn announce(&self) -> Result<(), davit_sys::Error> {
        self.channel.send_with_write(&Message::Executing)?;
        // SAFETY: the caller of the runtime gave these to the user's program.
        self.preserved.iter().try_for_each(|fd| unsafe { process::set_close_on_exec(*fd, false) })
    }

    fn report(&self, plan: &InitPlan, (section, op): (usize, usize), failure: &OpFailure) {
        let number = |index| u32::try_from(index).unwrap_or(u32::MAX);
        let report = Report {
            section: number(section),
            op: number(op),
            errno: failure.error.errno as i32,
            call: failure.error.call.to_owned(),
            detail: shortened(&failure.detail),
        };
        let message = match self.is_starting {
            true => Message::StartFailed(start_failure(plan, plan.sections.get(section), report)),
            false => Message::Failed(report),
        };
        // If the runtime has ended, the report has no receiver.
        let _ = self.channel.send_with_write(&message);
    }
}

fn await_go(channel: &Channel) -> Result<(), OpFailure> {
    channel.await_go().map_err(|error| match error {
        ReceiveError::System(error) => error.into(),
        ReceiveError::Ended => davit_sys::Error::new("read", Errno::EPIPE).into(),
        // `start` of another davit.
        ReceiveError::Garbage | ReceiveError::Version(_) => {
            davit_sys::Error::new("read", Errno::EPROTO).into()
        }
    })
}

/// The failure in full: `start` has no plan to explain it from.
fn start_failure(plan: &InitPlan, section: Option<&Section>, report: Report) -> StartFailure {
    let op = usize::try_from(report.op).unwrap_or(usize::MAX);
    let hook = match section {
        Some(Section::Process(ops)) => ops.get(op).and_then(Op::hook),
        _ => None,
    };
    match hook {
        Some(hook) => StartFailure {
            message: report.detail,
            hint: String::new(),
            hook: hook.path.to_string_lossy().into_owned(),
            errno: report.errno,
        },
        None => {
            let error = plan.explain(&report, &davit_rootfs::Ids::default());
            StartFailure {
                message: shortened(error.message()),
                hint: shortened(error.advice().unwrap_or_default()),
                hook: String::new(),
                errno: report.errno,
            }
        }
    }
}

/// The beginning of a text, as far as it fits into a message.
fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    while text.len() > MAX_DETAIL {
        text.pop();
    }
    text
}

/// Finds the errors that are certain before the user's permissions are known: there is no program,
/// or no user may execute it. execve(2) decides the rest.
fn find_program(candidates: &[CString]) -> Result<(), davit_sys::Error> {
    let searching = candidates.len() > 1;
    let mut worst = Errno::ENOENT;
    for path in candidates {
        let file = match stat(path.as_c_str()) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => continue,
            Err(_) => return Ok(()),
        };
        match (file.st_mode & libc::S_IFMT, file.st_mode & 0o111) {
            (libc::S_IFDIR, _) if searching => {}
            (libc::S_IFDIR, _) => worst = Errno::EISDIR,
            (_, 0) => worst = Errno::EACCES,
            _ => return Ok(()),
        }
    }
    Err(davit_sys::Error::new("stat", worst))
}

/// The settings of a pty master are those of its terminal (pty(7)).
fn add_no_returns(master: &OwnedFd) -> Result<(), davit_sys::Error> {
    let mut settings = tcgetattr(master).syscall("tcgetattr")?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &settings).syscall("tcsetattr")
}

const fn is_directory(file: &FileStat) -> bool {
    file.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// The reason why a file cannot be executed, as far as stat(2) shows it to the user of this
/// process.
fn not_permitted(path: &CStr, file: nix::Result<FileStat>) -> String {
    match file {
        Ok(FileStat { st_mode: mode, .. }) if mode & 0o111 == 0 => NOT_EXECUTABLE.to_owned(),
        Ok(FileStat { st_mode: mode, .. }) if mode & 0o111 == 0o111 => format!(
            "{path:?} is executable for all users: it is on a mount with noexec, or its interpreter cannot be executed"
        ),
        Ok(FileStat { st_mode: mode, st_uid: uid, st_gid: gid, .. }) => {
            format!(
                "{path:?} is mode {:04o} of {uid}:{gid} in the container, and process.user another",
                mode & 0o7777
            )
        }
        Err(Errno::EACCES) => {
            format!("process.user has no search permission on a directory above {path:?}")
        }
        Err(_) => String::new(),
    }
}

fn open_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, davit_sys::Error> {
    open_in_root(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::Follow)
}

/// Makes `path` if it is missing; other errors appear when it is entered.
fn make_missing_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<(), davit_sys::Error> {
    match open_directory(root, path) {
        Err(davit_sys::Error { errno: Errno::ENOENT, .. }) => make_directories(root, path),
        _ => Ok(()),
    }
}

/// Makes the missing directories of `path`, each below the one before.
fn make_directories(root: BorrowedFd<'_>, path: &CStr) -> Result<(), davit_sys::Error> {
    let mut made = String::from("/");
    let text = path.to_string_lossy();
    for part in text.split('/').filter(|part| !part.is_empty()) {
        let above = CString::new(made.as_str())
            .map_err(|_| davit_sys::Error::new("mkdirat", Errno::EINVAL))?;
        let above = open_directory(root, &above)?;
        match mkdirat(&above, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(davit_sys::Error::new("mkdirat", errno)),
        }
        made.push_str(part);
        made.push('/');
    }
    Ok(())
}

/// `HOME=` and the directory of `uid` in the container's /etc/passwd (passwd(5)), or `/`.
fn home(root: BorrowedFd<'_>, uid: u32) -> CString {
    let found = passwd_home(root, uid).unwrap_or_else(|| "/".to_owned());
    CString::new(format!("HOME={found}")).unwrap_or_else(|_| c"HOME=/".to_owned())
}

fn passwd_home(root: BorrowedFd<'_>, uid: u32) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let file = open_in_root(root, c"/etc/passwd", flags, Links::Follow).ok()?;
    let mut text = Vec::new();
    // The file belongs to the container: it may be of any type and size.
    File::from(file).take(1 << 20).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let home = passwd::users(&text, uid).map(|user| user.home).find(|home| !home.is_empty());
    home.map(str::to_owned)
}
