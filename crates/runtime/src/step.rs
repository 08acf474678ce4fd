//! What crosses to init: the plan as data. Init walks it from the first section to the last.

use std::ffi::CString;
use std::fmt;
use std::os::fd::RawFd;

use namespaces::handshake::Report;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hook::{Hook, OutputSlots};

/// The first argument of the init program: it says what it is in `ps`, and to `main`.
pub const INIT_NAME: &str = "davit:init";

/// The whole way of one process into a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InitPlan {
    /// What is done, in order. The first section is done before init executes.
    pub sections: Vec<Section>,
    /// Init's end of the conversation with the runtime.
    pub channel: RawFd,
    /// The descriptors that were opened for it, by slot.
    pub slots: Vec<(u16, RawFd)>,
    /// How many descriptors from 3 up belong to the user's program.
    pub preserved: u32,
}

/// Operations of one crate that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Section {
    /// Into the namespaces.
    Namespaces(Vec<namespaces::Op>),
    /// The root file system.
    Rootfs(Vec<rootfs::Op>),
    /// The life of the process itself.
    Process(Vec<Op>),
    /// Confinement.
    Privileges(Vec<privileges::Op>),
    /// System call filter.
    Seccomp(Vec<seccomp::Op>),
}

/// An operation of init that belongs to no leaf crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Says in `ps` how far it has come.
    Stage(CString),
    /// Ends with the runtime, as long as nobody else knows of it.
    DieWithRuntime,
    /// What the caller of the runtime ignored or blocked is not the container's.
    DefaultSignals,
    /// Hands the terminal's other side to the runtime.
    SendConsole {
        /// Where it is.
        slot: u16,
        /// Whoever copies its output adds the carriage returns: here none are (`ONLCR`).
        plain_newlines: bool,
    },
    /// Lets the runtime run its hooks.
    RuntimeHooks,
    /// Runs a hook here.
    Hook {
        /// The hook.
        hook: Hook,
        /// The state that it reads, up to the pid.
        state_before_pid: String,
        /// The state that it reads, after the pid.
        state_after_pid: String,
        /// Where it prints to.
        output: OutputSlots,
    },
    /// Refuses a program that nobody could execute, before the container counts as created.
    FindProgram {
        /// `args[0]`, for messages.
        name: String,
        /// Where it may be, as absolute paths.
        candidates: Vec<CString>,
    },
    /// Reports that the container is created, and waits until the runtime has written it down.
    Created,
    /// Waits for `start` on the socket in this slot; the rest is reported to `start`.
    AwaitStart {
        /// The listening socket.
        slot: u16,
    },
    /// Outlives the runtime and whoever started it.
    Outlive,
    /// Reports that the user's program is next, and leaves open for it what is its own only.
    Announce,
    /// setsid(2)
    NewSession,
    /// Terminal in the slot becomes controlling terminal and standard streams.
    Terminal {
        /// Where it is.
        slot: u16,
    },
    /// Makes the working directory where it is missing: for a new container, never for `exec`.
    MakeWorkingDirectory {
        /// The path inside the container.
        path: CString,
    },
    /// Changes to the working directory.
    WorkingDirectory {
        /// The path inside the container.
        path: CString,
        /// Made with the rights of the container's root; what that may not enter, its user may.
        as_user: bool,
    },
    /// Looks the home directory of this user up in /etc/passwd, for a `HOME` that is not set.
    Home {
        /// The user.
        uid: u32,
    },
    /// Becomes the user's program: the first of the candidates that can be executed.
    Execute {
        /// `args[0]`, for messages.
        name: String,
        /// Where it may be: one path, or a row of them from `PATH`.
        candidates: Vec<CString>,
        /// Its arguments.
        args: Vec<CString>,
        /// Its environment.
        env: Vec<CString>,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(name) => write!(f, "now called {}", name.to_string_lossy()),
            Self::DieWithRuntime => f.write_str("end when the runtime ends"),
            Self::DefaultSignals => f.write_str("ignore and block no signal"),
            Self::SendConsole { .. } => f.write_str("hand the terminal's master to the runtime"),
            Self::RuntimeHooks => f.write_str("wait for the runtime's hooks"),
            Self::Hook { hook, .. } => write!(f, "{} {:?}", hook.field, hook.path),
            Self::FindProgram { name, .. } => write!(f, "find {name:?}"),
            Self::Created => f.write_str("report: created"),
            Self::AwaitStart { .. } => f.write_str("wait for start"),
            Self::Outlive => f.write_str("outlive the runtime"),
            Self::Announce => f.write_str("report: executing; close all descriptors but its own"),
            Self::NewSession => f.write_str("new session"),
            Self::Terminal { .. } => f.write_str("terminal on standard input, output and error"),
            Self::MakeWorkingDirectory { path } => {
                write!(f, "process.cwd {path:?}, made where it is missing")
            }
            Self::WorkingDirectory { path, as_user: false } => write!(f, "process.cwd {path:?}"),
            Self::WorkingDirectory { path, as_user: true } => {
                write!(f, "process.cwd {path:?}, unless entered already")
            }
            Self::Home { uid } => write!(f, "HOME of uid {uid} from /etc/passwd"),
            Self::Execute { name, candidates, args, env } => {
                write!(f, "exec {name:?}, {} arguments, {} variables", args.len(), env.len())?;
                if candidates.len() > 1 {
                    write!(f, ", first of {} places", candidates.len())?;
                }
                Ok(())
            }
        }
    }
}

impl InitPlan {
    /// How many hooks run inside, each with a deadline of its own.
    #[must_use]
    pub fn hooks(&self) -> usize {
        let hooks = |section: &Section| match section {
            Section::Process(ops) => ops.iter().filter(|op| matches!(op, Op::Hook { .. })).count(),
            _ => 0,
        };
        self.sections.iter().map(hooks).sum()
    }

    /// Whether the runtime has to act on what it says on its way to where it is created: to answer, or to pass a terminal
    /// on, whose size is set by who gets it, while the program begins.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.sections.iter().any(|section| match section {
            Section::Namespaces(ops) => ops.iter().any(namespaces::Op::asks),
            Section::Process(ops) => {
                ops.iter().any(|op| matches!(op, Op::RuntimeHooks | Op::SendConsole { .. }))
            }
            _ => false,
        })
    }

    /// Whether it waits where it is created.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.sections.iter().any(|section| match section {
            Section::Process(ops) => ops.contains(&Op::Created),
            _ => false,
        })
    }

    /// Whether it says where the process runs in the end, wherever it runs until then.
    #[must_use]
    pub fn says_where_to_run(&self) -> bool {
        self.sections.iter().any(|section| match section {
            Section::Privileges(ops) => ops.iter().any(privileges::Op::says_where_to_run),
            _ => false,
        })
    }

    /// Takes out the place where it waits when it is created. Until [`Op::Outlive`] it still dies with the runtime, and
    /// after that it is noticed by [`Op::Announce`].
    pub fn go_ahead(&mut self) {
        for section in &mut self.sections {
            if let Section::Process(ops) = section {
                ops.retain(|op| *op != Op::Created);
            }
        }
    }

    /// Its system call filter.
    #[must_use]
    pub fn filter(&self) -> Option<&[seccomp::Op]> {
        self.sections.iter().find_map(|section| match section {
            Section::Seccomp(ops) => Some(ops.as_slice()),
            _ => None,
        })
    }

    /// The bytes that cross.
    ///
    /// # Errors
    /// None that is known; the encoding has no limits.
    pub fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|error| Error::new(format!("encode the plan: {error}")))
    }

    /// The plan of these bytes.
    ///
    /// # Errors
    /// Bytes of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|error| Error::new(format!("decode the plan: {error}")))
    }

    /// Says what a report means, as one line from the outside in.
    #[must_use]
    pub fn explain(&self, report: &Report) -> Error {
        let cause = format!("{}: {}", report.call, sys::words(Errno::from_raw(report.errno)));
        let op = usize::try_from(report.op).unwrap_or(usize::MAX);
        let section = usize::try_from(report.section).ok().and_then(|at| self.sections.get(at));
        let named = |step: Option<String>| match step {
            Some(step) => Error::new(format!("{step}: {cause}")),
            None => Error::new(format!("execute davit's init: {cause}")),
        };
        match section {
            Some(Section::Process(ops)) => match ops.get(op) {
                Some(
                    Op::FindProgram { name, candidates } | Op::Execute { name, candidates, .. },
                ) => execution(name, candidates.len() > 1 || !name.contains('/'), report),
                // A hook's failure is its own; no system call stands behind it.
                Some(Op::Hook { .. }) => Error::new(report.detail.clone()),
                step => named(step.map(ToString::to_string)),
            },
            Some(Section::Namespaces(ops)) => named(ops.get(op).map(ToString::to_string)),
            Some(Section::Rootfs(ops)) => match ops.get(op) {
                Some(failed) => rootfs_failure(failed, &cause, &report.detail),
                None => named(None),
            },
            Some(Section::Privileges(ops)) => {
                let op = ops.get(op);
                let error = named(op.map(ToString::to_string));
                match op.and_then(|op| op.hint(Errno::from_raw(report.errno))) {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            Some(Section::Seccomp(ops)) => named(ops.get(op).map(ToString::to_string)),
            None => Error::new(cause),
        }
    }
}

fn rootfs_failure(op: &rootfs::Op, cause: &str, said: &str) -> Error {
    let origin = op.origin.to_string();
    let step = if origin.is_empty() { op.to_string() } else { origin };
    match said {
        "" => Error::new(format!("{step}: {cause}")),
        said => Error::new(format!("{step}: {cause} ({said})")),
    }
}

/// The words that engines turn into exit codes: podman, docker and containerd look for Go's.
fn execution(name: &str, searched: bool, report: &Report) -> Error {
    let errno = Errno::from_raw(report.errno);
    let error = match errno {
        Errno::ENOENT | Errno::ENOTDIR if searched => {
            Error::new(format!("exec: {name:?}: executable file not found in $PATH"))
        }
        errno => Error::new(format!("exec: {name:?}: {}", sys::words(errno))),
    };
    match report.detail.as_str() {
        "" => error,
        detail => error.hint(detail),
    }
}
