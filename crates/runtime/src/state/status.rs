//! The status of a container, from its record and its processes.

use std::os::fd::OwnedFd;

use serde::Serialize;

use super::{Process, Record, Stage};
use crate::error::{Error, ErrorKind, Result};

/// The status of a container (runtime.md, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` works on it.
    Creating,
    /// It waits for `start`.
    Created,
    /// The user's program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

/// The name of init while it waits for `start`.
pub(crate) const WAITING_NAME: &str = "davit:created";

impl Status {
    /// The status of a container that has processes, or may have.
    ///
    /// # Errors
    /// It is still being created, or stopped: texts that engines match.
    pub(crate) fn of_living(record: &Record) -> Result<Self> {
        Self::look(record)?.0.living()
    }

    /// Refuses a container without processes.
    ///
    /// # Errors
    /// As [`Status::of_living`].
    pub(crate) fn living(self) -> Result<Self> {
        match self {
            Self::Creating => {
                Err(Error::new("container is still being created").of_kind(ErrorKind::NotRunning))
            }
            Self::Stopped => Err(Error::not_running()),
            status => Ok(status),
        }
    }

    /// The status of a container with this record, as of now.
    ///
    /// # Errors
    /// A system call for its init failed.
    pub fn of(record: &Record) -> Result<Self> {
        Ok(Self::look(record)?.0)
    }

    /// The same, and the pidfd of init while it runs.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub(crate) fn look(record: &Record) -> Result<(Self, Option<OwnedFd>)> {
        // The stage was compared with the FIFOs when the record was read.
        let is_frozen = || is_frozen(record.cgroup.as_ref());
        match Self::seen(record.stage, record.init, || false, is_frozen)? {
            // CRIU still works on its processes.
            (Self::Running | Self::Paused, handle) if record.restoring => {
                Ok((Self::Creating, handle))
            }
            looked => Ok(looked),
        }
    }

    /// As [`Status::look`], but without the effect of a `start` that was killed after it told init
    /// to go on, and before it wrote the record.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub(crate) fn recorded(record: &Record) -> Result<(Self, Option<OwnedFd>)> {
        Self::written(record.stage, record.init, || is_frozen(record.cgroup.as_ref()))
    }

    /// `is_started`: whether `start` has removed the FIFOs of a created container.
    pub(super) fn seen(
        stage: Stage,
        init: Option<Process>,
        is_started: impl FnOnce() -> bool,
        is_frozen: impl FnOnce() -> bool,
    ) -> Result<(Self, Option<OwnedFd>)> {
        match (Self::written(stage, init, is_frozen)?, init) {
            ((Self::Created, handle), Some(_)) if is_started() => Ok((Self::Running, handle)),
            ((Self::Created, handle), Some(init))
                if init.name().as_deref() != Some(WAITING_NAME) =>
            {
                // This check comes after the read of the name, which could be that of another
                // process.
                Ok(if init.is_alive() { (Self::Running, handle) } else { (Self::Stopped, None) })
            }
            (looked, _) => Ok(looked),
        }
    }

    fn written(
        stage: Stage,
        init: Option<Process>,
        is_frozen: impl FnOnce() -> bool,
    ) -> Result<(Self, Option<OwnedFd>)> {
        let Some(handle) = init.map_or(Ok(None), |init| init.pidfd())? else {
            let status = match (stage, init) {
                (Stage::Creating, None) => Self::Creating,
                _ => Self::Stopped,
            };
            return Ok((status, None));
        };
        let status = match stage {
            // The record of a `run` stays in this stage: the process shows whether init has become
            // the program.
            Stage::Creating if init.is_some_and(|init| init.is_init()) => Self::Creating,
            _ if is_frozen() => Self::Paused,
            Stage::Created => Self::Created,
            Stage::Creating | Stage::Running => Self::Running,
        };
        Ok((status, Some(handle)))
    }

    /// Its name in the specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

pub(super) fn is_frozen(cgroup: Option<&davit_cgroups::Cgroup>) -> bool {
    cgroup.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
}
