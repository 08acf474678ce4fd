//! The record of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Process;
use crate::error::{Error, ErrorKind, Result, Within};
use crate::hook::Hook;
use crate::id::Id;

/// The format of a container's state directory that this version of davit writes and reads
/// (docs/state.md). Members may be added to it without another number: all versions ignore those
/// that they do not know.
pub const STATE_FORMAT: u32 = 1;

/// The version of this davit.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The stage of the container's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `create` or `run` works on it.
    Creating,
    /// It waits for `start`.
    Created,
    /// It was started. Not in the record: `start` removes the FIFOs.
    Running,
}

/// The record. Only the command that makes the container writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`STATE_FORMAT`] of the writer.
    pub format: u32,
    /// The version of davit that wrote it.
    pub davit: String,
    /// The container's id.
    pub id: Id,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// When `create` began (RFC 3339).
    pub created: String,
    /// The uid of the user who created it.
    pub owner: u32,
    /// The stage of its lifecycle.
    pub stage: Stage,
    /// Its init.
    #[serde(default)]
    pub init: Option<Process>,
    /// Its cgroup, if it has one of its own.
    #[serde(default)]
    pub cgroup: Option<davit_cgroups::Cgroup>,
    /// Its resctrl group.
    #[serde(default)]
    pub resctrl: Option<davit_cgroups::resctrl::Group>,
    /// Whether it has a pid namespace of its own: then its processes die with init.
    pub own_pid_namespace: bool,
    /// The mounts below its root from before its creation, if it has no mount namespace of its own,
    /// and may leave mounts.
    #[serde(default)]
    pub mounts_before: Option<Vec<u64>>,
    /// `annotations` of config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The agent that its filter notifies.
    #[serde(default)]
    pub listener: Option<davit_seccomp::Listener>,
    /// How many hooks init runs.
    #[serde(default)]
    pub inner_hooks: usize,
    /// Hooks that are due after the start.
    #[serde(default)]
    pub poststart: Vec<Hook>,
    /// Hooks that are due after the end.
    #[serde(default)]
    pub poststop: Vec<Hook>,
    /// Whether a restore works on it: its processes do not run yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restoring: bool,
}

/// The members of a record that every format has.
#[derive(Deserialize)]
struct Origin {
    #[serde(default)]
    format: u32,
    #[serde(default)]
    davit: Option<String>,
}

impl Origin {
    /// # Errors
    /// The record has another format than this version writes.
    fn check(self) -> Result<()> {
        let ours = format!("this is davit {VERSION}, format {STATE_FORMAT}");
        let error = |text| Err(Error::new(text).of_kind(ErrorKind::StateFormat));
        match (self.format, self.davit) {
            (STATE_FORMAT, _) => Ok(()),
            (0, None) => error(format!("written by a davit before 0.2, without a format; {ours}")),
            (format, None) => error(format!("has format {format}; {ours}")),
            (format, Some(davit)) => {
                error(format!("written by davit {davit}, format {format}; {ours}"))
            }
        }
        .map_err(|error| {
            error.hint(
                "use the davit that wrote it; delete --force of this one ends the container too",
            )
        })
    }
}

impl Record {
    /// The version of this davit, for [`Record::davit`].
    pub(crate) const WRITER: &str = VERSION;

    /// Whether its init ran in an earlier boot: then no process, cgroup or mount of the container
    /// exists any more.
    pub(crate) fn is_of_another_boot(&self) -> bool {
        self.init.is_some_and(|init| init.is_of_another_boot())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged, or of another format ([`ErrorKind::StateFormat`]).
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let parsed = crate::config::json::from_json::<Self>(text);
        let record = match parsed {
            Ok(record) if record.format == STATE_FORMAT => record,
            parsed => {
                if let Ok(origin) = serde_json::from_slice::<Origin>(text) {
                    origin.check()?;
                }
                parsed?
            }
        };
        if let Some(cgroup) = &record.cgroup {
            cgroup.check().within(|| "cgroup")?;
        }
        Ok(record)
    }

    /// What can be read of a record that is damaged or of an unknown format, each member by itself:
    /// enough to end the container.
    pub(crate) fn salvage(text: &[u8], id: &Id) -> Self {
        type Members<'a> = BTreeMap<String, &'a RawValue>;
        fn member<T: DeserializeOwned>(members: &Members<'_>, name: &str) -> Option<T> {
            serde_json::from_str(members.get(name)?.get()).ok()
        }
        let members: Members<'_> = serde_json::from_slice(text).unwrap_or_default();
        let cgroup: Option<davit_cgroups::Cgroup> = member(&members, "cgroup");
        Self {
            format: member(&members, "format").unwrap_or(0),
            davit: member(&members, "davit").unwrap_or_default(),
            id: id.clone(),
            bundle: member(&members, "bundle").unwrap_or_default(),
            rootfs: member(&members, "rootfs").unwrap_or_default(),
            created: String::new(),
            owner: super::our_uid(),
            // It may have FIFOs.
            stage: Stage::Created,
            init: member(&members, "init"),
            cgroup: cgroup.filter(|cgroup| cgroup.check().is_ok()),
            resctrl: member(&members, "resctrl"),
            // Each process is then ended by itself.
            own_pid_namespace: false,
            mounts_before: member(&members, "mounts_before"),
            annotations: member(&members, "annotations").unwrap_or_default(),
            listener: None,
            inner_hooks: 0,
            poststart: Vec::new(),
            poststop: member(&members, "poststop").unwrap_or_default(),
            restoring: member(&members, "restoring").unwrap_or_default(),
        }
    }
}

/// The members of a [`Record`] that `state` and `list` print. The rest is skipped: `list` reads
/// many records.
#[derive(Deserialize)]
pub(crate) struct RecordSummary<'a> {
    pub(super) format: u32,
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) owner: u32,
    pub(super) stage: Stage,
    #[serde(default)]
    pub(super) init: Option<Process>,
    /// Parsed only for a container that runs.
    #[serde(borrow, default)]
    pub(super) cgroup: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}
