//! Init: walks the plan inside the new process. No choices are made here, and nothing is parsed
//! but the plan's own bytes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use namespaces::handshake::{Channel, MAX_DETAIL, Message, ReceiveError, Report};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::socket::{SockFlag, accept4};
use nix::sys::stat::{Mode, mkdirat, stat};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{chdir, fchdir, setsid};
use rootfs::Context;
use seccomp::Carrier;
use sys::path::{Links, open_in_root};
use sys::{During, Failure, process};

use crate::step::{InitPlan, Op, Section};

/// What goes wrong in one operation: a system call, and sometimes a few words.
struct Trouble {
    error: sys::Error,
    detail: String,
}

impl From<sys::Error> for Trouble {
    fn from(error: sys::Error) -> Self {
        Self { error, detail: String::new() }
    }
}

/// Walks the plan, which is the first `length` bytes of the file `plan_fd`; ends with the user's program
/// or a report.
///
/// The exit code is for whoever waits for this process where the report could not be sent.
pub fn run(plan_fd: RawFd, length: usize) -> i32 {
    // Before anything of the container can see this process (CVE-2016-9962).
    if process::set_dumpable(false).is_err() {
        return 1;
    }
    // What came open over the exec is for nobody that this process executes, hooks included.
    if process::close_on_exec_from(3).is_err() {
        return 1;
    }
    let Some(plan) = receive(plan_fd, length) else { return 1 };
    let mut init = match Init::new(&plan) {
        Ok(init) => init,
        Err(_) => return 1,
    };
    // Section 0 was done before this program was executed.
    for (section, steps) in plan.sections.iter().enumerate().skip(1) {
        if let Err((op, trouble)) = init.walk(steps) {
            init.report(section, op, &trouble);
            return 1;
        }
    }
    0
}

fn receive(plan_fd: RawFd, length: usize) -> Option<InitPlan> {
    let file = process::take_over(plan_fd).ok()?;
    let bytes = sys::file::read_rest(&file, length, length).ok()?;
    InitPlan::decode(&bytes).ok()
}

struct Init {
    channel: Channel,
    context: Context,
    root: Option<OwnedFd>,
    preserved: u32,
    home: Option<CString>,
    in_working_directory: bool,
}

impl Init {
    fn new(plan: &InitPlan) -> Result<Self, sys::Error> {
        let mut context = Context::default();
        for (slot, fd) in &plan.slots {
            context.slots.put(*slot, process::take_over(*fd)?);
        }
        let channel = Channel::new(process::take_over(plan.channel)?);
        let preserved = plan.preserved;
        let (root, home) = (None, None);
        Ok(Self { channel, context, root, preserved, home, in_working_directory: false })
    }

    fn walk(&mut self, section: &Section) -> Result<(), (usize, Trouble)> {
        let leaf = |failure: Failure| (failure.op, failure.error.into());
        match section {
            Section::Namespaces(ops) => {
                namespaces::apply(ops, &self.context.slots, &self.channel).map_err(leaf)
            }
            Section::Rootfs(ops) => rootfs::apply(ops, &mut self.context).map_err(|failure| {
                let detail = self.context.log();
                (failure.op, Trouble { error: failure.error, detail })
            }),
            Section::Privileges(ops) => privileges::apply(ops).map_err(leaf),
            Section::Seccomp(ops) => {
                let handover = seccomp::apply(ops).map_err(leaf)?;
                self.hand_over(handover).map_err(|error| (0, error.into()))
            }
            Section::Process(ops) => {
                for (index, op) in ops.iter().enumerate() {
                    self.step(op).map_err(|trouble| (index, trouble))?;
                }
                Ok(())
            }
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), Trouble> {
        match op {
            Op::Stage(name) => Ok(process::set_name(name)?),
            Op::DieWithRuntime => Ok(process::set_parent_death_signal(Some(Signal::SIGKILL))?),
            Op::DefaultSignals => Ok(process::default_signals()?),
            Op::SendConsole { slot, plain_newlines } => {
                let master = self.context.slots.take(*slot)?;
                if *plain_newlines {
                    add_no_returns(&master)?;
                }
                Ok(self.channel.send_with(&Message::Console, Some(master.as_fd()))?)
            }
            Op::RuntimeHooks => self.ask(&Message::Built),
            Op::Hook { hook, state_before_pid, state_after_pid, output } => {
                let pid = std::process::id();
                let state = format!("{state_before_pid}{pid}{state_after_pid}");
                let output = output.take(&self.context.slots)?;
                hook.run(&state, None, &output).map_err(|error| Trouble {
                    error: sys::Error::new("hook", Errno::ECANCELED),
                    detail: error.to_string(),
                })
            }
            Op::FindProgram { candidates, .. } => Ok(find_program(candidates)?),
            Op::Created => {
                // From here the end of the conversation says what the death signal said before:
                // an exit of the runtime after its `Go` must not be taken for its death.
                process::set_parent_death_signal(None)?;
                self.ask(&Message::Created)
            }
            Op::AwaitStart { slot } => self.await_start(*slot),
            Op::Outlive => Ok(process::set_parent_death_signal(None)?),
            Op::Announce => Ok(self.announce()?),
            Op::NewSession => match setsid() {
                // The leader of a session already: a process that joined an empty cgroup alone.
                Ok(_) | Err(Errno::EPERM) => Ok(()),
                Err(errno) => Err(sys::Error::new("setsid", errno).into()),
            },
            Op::Terminal { slot } => self.terminal(*slot),
            Op::MakeWorkingDirectory { path } => Ok(make_missing_directory(self.root()?, path)?),
            Op::WorkingDirectory { path, as_user } => self.enter_directory(path, *as_user),
            Op::Home { uid } => {
                self.home = Some(home(self.root()?, *uid));
                Ok(())
            }
            Op::Execute { candidates, args, env, .. } => Err(self.execute(candidates, args, env)),
        }
    }

    /// The container's root: of a new one it is open already, of a running one after the join.
    fn root(&mut self) -> Result<BorrowedFd<'_>, sys::Error> {
        if self.root.is_none() && self.context.root().is_err() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.root = Some(openat(AT_FDCWD, c"/", flags, Mode::empty()).during("open /")?);
        }
        match &self.root {
            Some(root) => Ok(root.as_fd()),
            None => self.context.root(),
        }
    }

    fn ask(&self, message: &Message) -> Result<(), Trouble> {
        self.channel.send(message)?;
        self.await_go()
    }

    fn await_go(&self) -> Result<(), Trouble> {
        self.channel.await_go().map_err(|error| match error {
            ReceiveError::System(error) => error.into(),
            _ => sys::Error::new("recvmsg", Errno::EPIPE).into(),
        })
    }

    /// A connection that says nothing was a `start` that was killed: the next one is waited for.
    fn await_start(&mut self, slot: u16) -> Result<(), Trouble> {
        let listener = self.context.slots.take(slot)?;
        loop {
            let connection = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC);
            let connection = match connection {
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                accepted => process::take_over(accepted.during("accept4")?)?,
            };
            let channel = Channel::new(connection);
            if channel.await_go().is_ok() {
                self.channel = channel;
                return Ok(());
            }
        }
    }

    fn terminal(&mut self, slot: u16) -> Result<(), Trouble> {
        let terminal = self.context.slots.take(slot)?;
        process::set_controlling_terminal(terminal.as_fd())?;
        for stream in 0..3 {
            process::duplicate_onto(&terminal, stream)?;
        }
        Ok(())
    }

    /// Enters `path` without following links of /proc, so that a descriptor that leaks cannot be
    /// a working directory outside (CVE-2024-21626).
    fn enter_directory(&mut self, path: &CStr, as_user: bool) -> Result<(), Trouble> {
        if self.in_working_directory {
            return Ok(());
        }
        match self.change_directory(path) {
            // What the container's root may not enter, its user may: it tries later.
            Err(sys::Error { errno: Errno::EACCES, .. }) if !as_user => return Ok(()),
            changed => changed?,
        }
        self.in_working_directory = true;
        Ok(())
    }

    fn change_directory(&mut self, path: &CStr) -> Result<(), sys::Error> {
        if path == c"/" {
            // No link can be on the way there.
            return chdir(path).during("chdir");
        }
        fchdir(open_directory(self.root()?, path)?).during("chdir")
    }

    fn execute(&self, candidates: &[CString], args: &[CString], env: &[CString]) -> Trouble {
        let home = self.home.iter();
        let args = process::CArray::new(args);
        let env = process::CArray::new(env.iter().chain(home));
        let mut worst = sys::Error::new("execve", Errno::ENOENT);
        let mut detail = String::new();
        let searching = candidates.len() > 1;
        for path in candidates {
            let error = process::exec_path(path, &args, &env);
            match error.errno {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => {
                    if stat(path.as_c_str()).is_ok() {
                        detail = format!("{path:?} exists: its interpreter or loader does not");
                    }
                    if !searching {
                        worst = error;
                    }
                }
                Errno::EACCES => match is_directory(path) {
                    true if searching => {}
                    true => worst = sys::Error::new("execve", Errno::EISDIR),
                    false => worst = error,
                },
                _ => return Trouble { error, detail },
            }
        }
        Trouble { error: worst, detail }
    }

    /// The first system call under the filter: whichever the plan found to be let through.
    fn hand_over(&self, handover: Option<seccomp::Handover>) -> Result<(), sys::Error> {
        let Some((listener, carrier)) = handover else { return Ok(()) };
        match carrier {
            Carrier::SendMsg => self.channel.send_with(&Message::Listener, Some(listener.as_fd())),
            Carrier::SendMmsg => {
                self.channel.send_with_sendmmsg(&Message::Listener, listener.as_fd())
            }
        }
    }

    /// Nothing but the user's own descriptors outlives the exec.
    fn announce(&self) -> Result<(), sys::Error> {
        self.channel.send(&Message::Executing)?;
        process::close_on_exec_from(3)?;
        preserved(self.preserved).try_for_each(|fd| process::set_close_on_exec(fd, false))
    }

    fn report(&self, section: usize, op: usize, trouble: &Trouble) {
        let mut detail = trouble.detail.clone();
        while detail.len() > MAX_DETAIL {
            detail.pop();
        }
        let number = |index| u32::try_from(index).unwrap_or(u32::MAX);
        // Where nobody listens any more, nobody is told.
        let _ = self.channel.send_plainly(&Message::Failed(Report {
            section: number(section),
            op: number(op),
            errno: trouble.error.errno as i32,
            call: trouble.error.call.to_owned(),
            detail,
        }));
    }
}

fn preserved(count: u32) -> impl Iterator<Item = RawFd> {
    (3..).take(usize::try_from(count).unwrap_or(0))
}

/// Says what is certain before the user's rights are known: that there is no program, or that
/// nobody may execute it. All else is for execve(2) to decide.
fn find_program(candidates: &[CString]) -> Result<(), sys::Error> {
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
    Err(sys::Error::new("stat", worst))
}

/// Settings of a pty's master are those of its terminal (pty(7)).
fn add_no_returns(master: &OwnedFd) -> Result<(), sys::Error> {
    let mut settings = tcgetattr(master).during("tcgetattr")?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &settings).during("tcsetattr")
}

fn is_directory(path: &CStr) -> bool {
    stat(path).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn open_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, sys::Error> {
    open_in_root(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::Follow)
}

/// Makes `path` if it is missing; what else is wrong with it is said when it is entered.
fn make_missing_directory(root: BorrowedFd<'_>, path: &CStr) -> Result<(), sys::Error> {
    match open_directory(root, path) {
        Err(sys::Error { errno: Errno::ENOENT, .. }) => make_directories(root, path),
        _ => Ok(()),
    }
}

/// Makes the directories of `path` that are missing, each below the one before.
fn make_directories(root: BorrowedFd<'_>, path: &CStr) -> Result<(), sys::Error> {
    let mut made = String::from("/");
    let text = path.to_string_lossy();
    for part in text.split('/').filter(|part| !part.is_empty()) {
        let above =
            CString::new(made.as_str()).map_err(|_| sys::Error::new("mkdirat", Errno::EINVAL))?;
        let above = open_directory(root, &above)?;
        match mkdirat(&above, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(sys::Error::new("mkdirat", errno)),
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
    // The file is the container's: it may be anything, of any size.
    File::from(file).take(1 << 20).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut homes = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.nth(2)?.parse::<u32>().ok()?;
        (owner == uid).then(|| fields.nth(2)).flatten().filter(|home| !home.is_empty())
    });
    homes.next().map(str::to_owned)
}
