//! The plan of init as data. Init performs it from the first section to the last.

use std::ffi::CString;
use std::fmt;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hook::{Hook, HookPoint, OutputSlots};
use crate::trace;

/// The operations of one process on its way into a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InitPlan {
    /// The operations, in order. Those of the first section are performed before init is executed.
    pub sections: Vec<Section>,
    /// The system call filter, for [`Section::Filter`]; empty where there is none.
    pub filter: Vec<davit_seccomp::Op>,
    /// The caller's descriptors that the user's program gets; all others are closed.
    pub preserved: Vec<RawFd>,
}

/// The input of init: its plan, and the numbers of the descriptors that are open for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitInput<P = InitPlan> {
    /// The plan.
    pub plan: P,
    /// Init's end of the channel to the runtime.
    pub channel: RawFd,
    /// The descriptors that were opened for the plan, by slot.
    pub slots: Vec<(u16, RawFd)>,
    /// Where and how init traces its operations (`--debug`, `--timings`).
    pub trace: Option<trace::InitTrace>,
}

impl<P: Serialize> InitInput<P> {
    /// The bytes for [`InitInput::decode`].
    ///
    /// # Errors
    /// None that is known; the encoding has no limits.
    pub fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|error| Error::new(format!("encode the plan: {error}")))
    }
}

impl InitInput {
    /// Decodes what [`InitInput::encode`] returned.
    ///
    /// # Errors
    /// Bytes of another version of davit.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|error| Error::new(format!("decode the plan: {error}")))
    }
}

/// How the runtime accompanies init until the user's program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// The number of hooks that init runs. Each has a timeout of its own.
    pub hooks: usize,
    /// Whether init sends messages, before it is created or executes, on which the runtime must
    /// act.
    pub acts_on_messages: bool,
    /// Whether init stops at "created" until the runtime lets it go on.
    pub stops_at_created: bool,
    /// Whether the runtime pins itself, and init with it, to one CPU until init reports. Init
    /// resets its affinity itself.
    pub pins_cpu: bool,
}

/// Operations of one crate that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Section {
    /// Into the namespaces.
    Namespaces(Vec<davit_namespaces::Op>),
    /// The root file system.
    Rootfs(Vec<davit_rootfs::Op>),
    /// Operations on the process itself.
    Process(Vec<Op>),
    /// Confinement.
    Privileges(Vec<davit_privileges::Op>),
    /// The system call filter of the plan.
    Filter,
}

/// An operation of init that belongs to no leaf crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Sets the process name, which shows the stage in `ps`.
    Stage(CString),
    /// Dies with the runtime, until other commands can find it.
    SetParentDeathSignal,
    /// Resets the signals that the caller of the runtime ignored or blocked.
    ResetSignals {
        /// The signals that are ignored, as a mask.
        ignored: u64,
    },
    /// Sends the pty master to the runtime.
    SendConsole {
        /// Its slot.
        slot: u16,
        /// The caller's terminal adds the carriage returns, so this one does not (`ONLCR`).
        plain_newlines: bool,
    },
    /// Lets the runtime run its hooks.
    RuntimeHooks,
    /// Runs a hook here.
    Hook {
        /// The hook.
        hook: Hook,
        /// Where in the lifecycle it runs.
        point: HookPoint,
        /// Its environment is that of the user's program, to which a `HOME` may be added.
        inherits_env: bool,
        /// The state that it reads, up to the pid.
        state_before_pid: String,
        /// The state that it reads, after the pid.
        state_after_pid: String,
        /// Its output.
        output: OutputSlots,
    },
    /// Refuses a program that no user can execute, before the container counts as created.
    FindProgram {
        /// `args[0]`, for messages.
        name: String,
        /// The paths to try, absolute.
        candidates: Vec<CString>,
    },
    /// Waits until the runtime has written the identity of init, by which other commands find it.
    /// Usually that was long ago.
    AwaitIdentity,
    /// Reports that the container is created, and waits until the runtime has written it down.
    Created,
    /// Waits for `start`; the rest is reported to `start`.
    AwaitStart {
        /// The FIFO on which it waits.
        command: u16,
        /// The FIFO on which it reports.
        answer: u16,
    },
    /// Clears the parent death signal: init outlives the runtime.
    ClearParentDeathSignal,
    /// Marks all descriptors close-on-exec, before a filter may refuse it.
    CloseAtExec,
    /// Opens the caller's descriptors to the user's program, and reports that it is next.
    ReportExecuting,
    /// setsid(2)
    NewSession,
    /// The terminal in the slot becomes the controlling terminal and the standard streams.
    Terminal {
        /// Its slot.
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
        /// Retried as the user: a directory that the container's root may not enter, its user may.
        as_user: bool,
    },
    /// Looks up the home directory of this user in /etc/passwd, if `HOME` is not set.
    LookUpHome {
        /// The user.
        uid: u32,
    },
    /// Becomes the user's program: the first of the candidates that can be executed.
    Execute {
        /// `args[0]`, for messages.
        name: String,
        /// The paths to try: one, or those from `PATH`.
        candidates: Vec<CString>,
        /// Its arguments.
        args: Vec<CString>,
        /// Its environment.
        env: Vec<CString>,
    },
}

impl Op {
    /// The hook that it runs, if it runs one.
    pub(crate) const fn hook(&self) -> Option<&Hook> {
        match self {
            Self::Hook { hook, .. } => Some(hook),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(name) => write!(f, "now called {}", name.to_string_lossy()),
            Self::SetParentDeathSignal => f.write_str("end when the runtime ends"),
            Self::ResetSignals { .. } => f.write_str("ignore and block no signal"),
            Self::SendConsole { .. } => f.write_str("hand the terminal's master to the runtime"),
            Self::RuntimeHooks => f.write_str("wait for the runtime's hooks"),
            Self::Hook { hook, .. } => hook.fmt(f),
            Self::FindProgram { name, .. } => write!(f, "find {name:?}"),
            Self::AwaitIdentity => f.write_str("wait until other commands find it"),
            Self::Created => f.write_str("report: created"),
            Self::AwaitStart { .. } => f.write_str("wait for start"),
            Self::ClearParentDeathSignal => f.write_str("outlive the runtime"),
            Self::CloseAtExec => f.write_str("close all descriptors at exec"),
            Self::ReportExecuting => {
                f.write_str("report: executing; pass on the caller's descriptors")
            }
            Self::NewSession => f.write_str("new session"),
            Self::Terminal { .. } => f.write_str("terminal on standard input, output and error"),
            Self::MakeWorkingDirectory { path } => {
                write!(f, "process.cwd {path:?}, made where it is missing")
            }
            Self::WorkingDirectory { path, as_user: false } => write!(f, "process.cwd {path:?}"),
            Self::WorkingDirectory { path, as_user: true } => {
                write!(f, "process.cwd {path:?}, unless entered already")
            }
            Self::LookUpHome { uid } => write!(f, "HOME of uid {uid} from /etc/passwd"),
            Self::Execute { candidates, .. } if candidates.is_empty() => {
                f.write_str("fail: there is no process to start")
            }
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
    /// One line for each operation of a section.
    #[must_use]
    pub fn lines_of(&self, section: &Section) -> Vec<String> {
        fn lines<T: ToString>(ops: &[T]) -> Vec<String> {
            ops.iter().map(ToString::to_string).collect()
        }
        match section {
            Section::Namespaces(ops) => lines(ops),
            Section::Rootfs(ops) => lines(ops),
            Section::Process(ops) => lines(ops),
            Section::Privileges(ops) => lines(ops),
            Section::Filter => lines(&self.filter),
        }
    }

    /// One line for each operation of each section.
    #[must_use]
    pub fn lines(&self) -> Vec<Vec<String>> {
        self.sections.iter().map(|section| self.lines_of(section)).collect()
    }
}
