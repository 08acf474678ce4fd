//! Errors: of the configuration ([`Error`]), and of an existing cgroup ([`Fault`]).

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// A field of config.json that cannot be planned on this host. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value is invalid on any host.
    #[error("{field}: {reason}")]
    Value {
        /// The field's path in config.json.
        field: Cow<'static, str>,
        /// What is wrong with it.
        reason: String,
    },
    /// The host lacks the controller for the field.
    #[error("{field}: this host has no {controller} controller")]
    NoController {
        /// The field's path in config.json.
        field: Cow<'static, str>,
        /// The controller's name on this host's kind of hierarchy.
        controller: Cow<'static, str>,
    },
    /// The host has the controller, but cgroup v2 has no equivalent of the field.
    #[error("{field}: cgroup v2 has no equivalent of it")]
    NotOnV2 {
        /// The field's path in config.json.
        field: Cow<'static, str>,
    },
    /// A field that needs a cgroup, for an unprivileged user who cannot create one.
    #[error("{field}: this user cannot create cgroups here")]
    NotPermitted {
        /// The field's path in config.json.
        field: Cow<'static, str>,
    },
}

impl Error {
    pub(crate) fn value(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self::Value { field: field.into(), reason: reason.into() }
    }
}

/// A failure of an existing cgroup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A system call failed.
    #[error("cgroup {}: {error}", path.display())]
    Kernel {
        /// The directory or file.
        path: PathBuf,
        /// The system call and its errno.
        error: davit_sys::Error,
    },
    /// The cgroup is in use.
    #[error("cgroup {}: {reason}", path.display())]
    Occupied {
        /// The directory in the first tree.
        path: PathBuf,
        /// How that was found.
        reason: &'static str,
    },
    /// Its directory has been removed while the container runs.
    #[error("cgroup {}: was removed by another program", path.display())]
    Gone {
        /// The directory.
        path: PathBuf,
    },
    /// Processes were left at the deadline.
    #[error("cgroup {}: {}", path.display(), Pids(pids))]
    Busy {
        /// The directory that cannot be removed.
        path: PathBuf,
        /// The processes in it and below.
        pids: Vec<i32>,
    },
    /// The kernel had not frozen all processes at the deadline; all are thawed again.
    #[error("cgroup {}: not every process could be frozen in time", path.display())]
    NotFrozen {
        /// The directory.
        path: PathBuf,
    },
    /// No systemd manager was found, or it does not answer.
    #[error("systemd: {0}")]
    Systemd(String),
    /// A stored path that cannot be that of a container's cgroup.
    #[error("cgroup {path:?}: {reason}")]
    Stored {
        /// The stored path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The container has no cgroup, or one without a freezer.
    #[error("this container has no cgroup that can be frozen")]
    NoFreezer,
    /// The sub-cgroup of an exec is refused.
    #[error("cgroup {name:?}: {reason}")]
    SubCgroup {
        /// As given by the user.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Fault {
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(davit_sys::Error) -> Self {
        move |error| Self::Kernel { path: path.into(), error }
    }
}

/// "process is still running: 12", "processes are still running: 12, 13 and 5 more", ...
struct Pids<'a>(&'a [i32]);

impl fmt::Display for Pids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        match self.0 {
            [] => return f.write_str("has no process, but the kernel has not released it"),
            [pid] => return write!(f, "process is still running: {pid}"),
            _ => f.write_str("processes are still running: ")?,
        }
        for (index, pid) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{pid}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_processes_are_listed() {
        let busy = |pids: Vec<i32>| Fault::Busy { path: "/c".into(), pids }.to_string();
        assert_eq!(busy(vec![]), "cgroup /c: has no process, but the kernel has not released it");
        assert_eq!(busy(vec![7]), "cgroup /c: process is still running: 7");
        assert_eq!(busy(vec![7, 8]), "cgroup /c: processes are still running: 7, 8");
        assert_eq!(
            busy((1..=10).collect()),
            "cgroup /c: processes are still running: 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"
        );
    }
}
