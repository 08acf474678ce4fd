//! What can be wrong: with the configuration ([`Error`]), with a live cgroup ([`Fault`]).

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// A field of config.json that cannot be planned on this host. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value makes no sense, on any host.
    #[error("{field}: {reason}")]
    Value {
        /// The field's path in config.json.
        field: Cow<'static, str>,
        /// What is wrong with it.
        reason: String,
    },
    /// The controller that would enforce the field is not there.
    #[error("{field}: this host has no {controller} controller")]
    NoController {
        /// The field's path in config.json.
        field: Cow<'static, str>,
        /// The controller's name on this host's kind of hierarchy.
        controller: Cow<'static, str>,
    },
    /// The controller is there, but cgroup v2 has nothing that means the same.
    #[error("{field}: cgroup v2 has no equivalent of it")]
    NotOnV2 {
        /// The field's path in config.json.
        field: Cow<'static, str>,
    },
    /// An ordinary user who may not make a cgroup asked for what only a cgroup can do.
    #[error("{field}: this user may not make cgroups here")]
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

/// Something that a live cgroup refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A system call failed.
    #[error("cgroup {}: {error}", path.display())]
    Kernel {
        /// The directory or file.
        path: PathBuf,
        /// The call, and what the kernel answered.
        error: sys::Error,
    },
    /// Somebody else uses the cgroup.
    #[error("cgroup {}: {reason}", path.display())]
    Occupied {
        /// The directory in the first tree.
        path: PathBuf,
        /// How it is seen.
        reason: &'static str,
    },
    /// Processes were left when the time was up.
    #[error("cgroup {}: still holds {}", path.display(), Pids(pids))]
    Busy {
        /// The directory that cannot be removed.
        path: PathBuf,
        /// The processes in it and below.
        pids: Vec<i32>,
    },
    /// The kernel had not frozen every process when the time was up; all are thawed again.
    #[error("cgroup {}: not every process could be frozen in time", path.display())]
    NotFrozen {
        /// The directory.
        path: PathBuf,
    },
    /// systemd, which has to make the cgroup, cannot be asked.
    #[error("systemd: {0}")]
    Systemd(String),
    /// The container has no cgroup, or none that can freeze.
    #[error("this container has no cgroup that can be frozen")]
    NoFreezer,
    /// The sub-cgroup of an exec is not acceptable.
    #[error("cgroup {name:?}: {reason}")]
    SubCgroup {
        /// As typed.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Fault {
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(sys::Error) -> Self {
        move |error| Self::Kernel { path: path.into(), error }
    }
}

/// "process 12", "processes 12, 13 and 5 more", "no process, but cannot be removed yet".
struct Pids<'a>(&'a [i32]);

impl fmt::Display for Pids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        match self.0 {
            [] => return f.write_str("no process, but the kernel does not let it go"),
            [pid] => return write!(f, "process {pid}"),
            _ => f.write_str("processes ")?,
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
    fn faults_say_who_is_left() {
        let busy = |pids: Vec<i32>| Fault::Busy { path: "/c".into(), pids }.to_string();
        assert_eq!(
            busy(vec![]),
            "cgroup /c: still holds no process, but the kernel does not let it go"
        );
        assert_eq!(busy(vec![7]), "cgroup /c: still holds process 7");
        assert_eq!(busy(vec![7, 8]), "cgroup /c: still holds processes 7, 8");
        assert_eq!(
            busy((1..=10).collect()),
            "cgroup /c: still holds processes 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"
        );
    }
}
