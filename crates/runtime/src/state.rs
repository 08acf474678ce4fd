//! The state of a container as the specification defines it (runtime.md, "State").

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::process::Process;
use crate::record::{Record, Stage, VERSION};

/// The version of the specification that state and configuration follow.
pub const OCI_VERSION: &str = "1.3.0";

/// What a container does.
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
pub const WAITING_NAME: &str = "davit:created";

impl Status {
    /// The status of a container that has processes, or may have.
    ///
    /// # Errors
    /// It is still being created, or stopped: engines know the words.
    pub(crate) fn of_living(record: &Record) -> Result<Self> {
        Self::look(record)?.0.living()
    }

    /// Refuses what has no processes.
    ///
    /// # Errors
    /// As [`Status::of_living`].
    pub(crate) fn living(self) -> Result<Self> {
        match self {
            Self::Creating => Err(Error::new("container is still being created")),
            Self::Stopped => Err(Error::new("container not running")),
            status => Ok(status),
        }
    }

    /// The status of a container with this record, as of now.
    ///
    /// # Errors
    /// The kernel does not tell whether its init runs.
    pub fn of(record: &Record) -> Result<Self> {
        Ok(Self::look(record)?.0)
    }

    /// The same, and a handle of init while that runs.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub(crate) fn look(record: &Record) -> Result<(Self, Option<OwnedFd>)> {
        Self::seen(record.stage, record.init, || is_frozen(record.cgroup.as_ref()))
    }

    /// As [`Status::look`], but that a `start` which was killed after its word of command, and has not written it
    /// down, is not seen.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub(crate) fn recorded(record: &Record) -> Result<(Self, Option<OwnedFd>)> {
        Self::written(record.stage, record.init, || is_frozen(record.cgroup.as_ref()))
    }

    fn seen(
        stage: Stage,
        init: Option<Process>,
        is_frozen: impl FnOnce() -> bool,
    ) -> Result<(Self, Option<OwnedFd>)> {
        match (Self::written(stage, init, is_frozen)?, init) {
            ((Self::Created, handle), Some(init))
                if init.name().as_deref() != Some(WAITING_NAME) =>
            {
                // Whose name it was this tells, afterwards.
                Ok(if init.runs() { (Self::Running, handle) } else { (Self::Stopped, None) })
            }
            (looked, _) => Ok(looked),
        }
    }

    fn written(
        stage: Stage,
        init: Option<Process>,
        is_frozen: impl FnOnce() -> bool,
    ) -> Result<(Self, Option<OwnedFd>)> {
        let Some(handle) = init.map_or(Ok(None), |init| init.handle())? else {
            let status = match (stage, init) {
                (Stage::Creating, None) => Self::Creating,
                _ => Self::Stopped,
            };
            return Ok((status, None));
        };
        let status = match stage {
            Stage::Creating => Self::Creating,
            _ if is_frozen() => Self::Paused,
            Stage::Created => Self::Created,
            Stage::Running => Self::Running,
        };
        Ok((status, Some(handle)))
    }

    /// Its word in the specification.
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

fn is_frozen(cgroup: Option<&cgroups::Cgroup>) -> bool {
    cgroup.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false))
}

/// What `davit state` prints and `davit list` lists.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: &'static str,
    /// The container's id.
    pub id: String,
    /// What it does.
    pub status: Status,
    /// Its init, as the runtime sees it; 0 once it has ended.
    pub pid: i32,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// Annotations of config.json.
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created it.
    pub owner: String,
}

/// The part of a [`Record`] that a state tells: `list` reads many, and the rest of them is skipped.
#[derive(Deserialize)]
struct Told<'a> {
    version: u32,
    id: String,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    owner: u32,
    stage: Stage,
    init: Option<Process>,
    // Only for what runs.
    #[serde(borrow)]
    cgroup: Option<&'a RawValue>,
    annotations: BTreeMap<String, String>,
}

impl State {
    /// The state of a container with this record, as of now.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub fn of(record: &Record) -> Result<Self> {
        let status = Status::of(record)?;
        let told = Told {
            version: record.version,
            id: record.id.to_string(),
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            owner: record.owner,
            stage: record.stage,
            init: record.init,
            cgroup: None,
            annotations: record.annotations.clone(),
        };
        Ok(told.with(status))
    }

    /// The state of a container whose record is this text, as of now; `None` where it cannot be told.
    pub(crate) fn of_text(record: &[u8]) -> Option<Self> {
        let told: Told<'_> = serde_json::from_str(std::str::from_utf8(record).ok()?).ok()?;
        let cgroup = || serde_json::from_str(told.cgroup?.get()).ok();
        let is_frozen = || is_frozen(cgroup().as_ref());
        let (status, _) = Status::seen(told.stage, told.init, is_frozen).ok()?;
        (told.version == VERSION).then(|| told.with(status))
    }
}

impl Told<'_> {
    fn with(self, status: Status) -> State {
        let pid = match status {
            Status::Stopped => 0,
            _ => self.init.map_or(0, |init| init.pid),
        };
        State {
            oci_version: OCI_VERSION,
            id: self.id,
            status,
            pid,
            bundle: self.bundle,
            rootfs: self.rootfs,
            created: self.created,
            annotations: self.annotations,
            owner: user_name(self.owner),
        }
    }
}

/// The host's name of a user, or its number.
fn user_name(uid: u32) -> String {
    // Hardly ever have the containers below one root several owners.
    static FIRST: OnceLock<(u32, String)> = OnceLock::new();
    match FIRST.get_or_init(|| (uid, look_up(uid))) {
        (first, name) if *first == uid => name.clone(),
        _ => look_up(uid),
    }
}

fn look_up(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// The state that a hook reads, as the text before and after the pid: a hook inside the container
/// is told the pid that is seen there, which nobody knows before.
#[must_use]
pub fn for_hook(
    id: &str,
    status: &str,
    bundle: &Path,
    annotations: &BTreeMap<String, String>,
) -> (String, String) {
    let before = format!(
        "{{\"ociVersion\":\"{OCI_VERSION}\",\"id\":{},\"status\":\"{status}\",\"pid\":",
        json(&id)
    );
    let after = format!(
        ",\"bundle\":{},\"annotations\":{}}}",
        json(&bundle.to_string_lossy()),
        json(annotations)
    );
    (before, after)
}

/// JSON text of a string or a map of strings, which always has one.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Seconds since the epoch as RFC 3339, in UTC, with nanoseconds as engines write them.
#[must_use]
pub fn rfc3339(since_epoch: std::time::Duration) -> String {
    let (days, second) = (since_epoch.as_secs() / 86400, since_epoch.as_secs() % 86400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanoseconds = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// The date of a day after 1970-01-01 in the Gregorian calendar: years are counted from March, so
/// that the leap day is the last one.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_795_404_027, "2026-11-23T03:20:27.000000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_hook_reads_json_around_its_pid() {
        let annotations = BTreeMap::from([("a\"".to_owned(), "b".to_owned())]);
        let (before, after) = for_hook("web", "creating", Path::new("/b"), &annotations);
        let state: serde_json::Value = serde_json::from_str(&format!("{before}7{after}")).unwrap();
        assert_eq!(state["pid"], 7);
        assert_eq!(state["status"], "creating");
        assert_eq!(state["annotations"]["a\""], "b");
    }
}
