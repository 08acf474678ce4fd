//! The record of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Process;
use crate::error::{Error, Result, Within};
use crate::hook::Hook;
use crate::id::Id;

/// The stage of the container's lifecycle that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `create` works on it.
    Creating,
    /// It waits for `start`.
    Created,
    /// The user's program was executed.
    Running,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format.
    pub version: u32,
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
    pub init: Option<Process>,
    /// Its cgroup, if it has one of its own.
    pub cgroup: Option<davit_cgroups::Cgroup>,
    /// Its resctrl group.
    #[serde(default)]
    pub resctrl: Option<davit_cgroups::resctrl::Group>,
    /// Whether it has a pid namespace of its own: then its processes die with init.
    pub own_pid_namespace: bool,
    /// The mounts below its root from before its creation, if it has no mount namespace of its own,
    /// and may leave mounts.
    pub mounts_before: Option<Vec<u64>>,
    /// `annotations` of config.json.
    pub annotations: BTreeMap<String, String>,
    /// The agent that its filter notifies.
    #[serde(default)]
    pub listener: Option<davit_seccomp::Listener>,
    /// How many hooks init runs.
    #[serde(default)]
    pub inner_hooks: usize,
    /// Hooks that are due after the start.
    pub poststart: Vec<Hook>,
    /// Hooks that are due after the end.
    pub poststop: Vec<Hook>,
}

impl Record {
    /// Whether its init ran in an earlier boot: then no process, cgroup or mount of the container
    /// exists any more.
    pub(crate) fn is_of_another_boot(&self) -> bool {
        self.init.is_some_and(|init| init.is_of_another_boot())
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let record: Self = crate::config::json::from_json(text)?;
        if record.version != VERSION {
            return Err(Error::new(format!("version {} is not known", record.version)));
        }
        if let Some(cgroup) = &record.cgroup {
            cgroup.check().within(|| "cgroup")?;
        }
        Ok(record)
    }
}

/// The version of the format of [`Record`] that this version of davit writes and reads.
pub(crate) const VERSION: u32 = 1;

/// The members of a [`Record`] that `state` and `list` print. The rest is skipped: `list` reads
/// many records.
#[derive(Deserialize)]
pub(crate) struct RecordSummary<'a> {
    pub(super) version: u32,
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) owner: u32,
    pub(super) stage: Stage,
    pub(super) init: Option<Process>,
    /// Parsed only for a container that runs.
    #[serde(borrow)]
    pub(super) cgroup: Option<&'a RawValue>,
    pub(super) annotations: BTreeMap<String, String>,
}
