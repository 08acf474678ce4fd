//! The state of a container as the specification defines it (runtime.md, "State").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::status::is_frozen;
use super::{Record, RecordSummary, STATE_FORMAT, Status};
use crate::error::Result;
use crate::passwd;

/// The version of the specification that state and configuration follow.
pub const OCI_VERSION: &str = "1.3.0";

/// The state that `davit state` prints and `davit list` lists.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: &'static str,
    /// The container's id.
    pub id: String,
    /// Its status.
    pub status: Status,
    /// The pid of its init in the runtime's pid namespace; 0 once it has ended.
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

impl State {
    /// The state of a container with this record, as of now.
    ///
    /// # Errors
    /// As [`Status::of`].
    pub fn of(record: &Record) -> Result<Self> {
        let status = Status::of(record)?;
        let summary = RecordSummary {
            format: record.format,
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
        Ok(summary.with(status))
    }

    /// The present state of a container whose record is this text; `None` if the text alone is not
    /// enough. `is_started`: whether `start` has removed its FIFOs.
    pub(crate) fn of_text(record: &[u8], is_started: impl FnOnce() -> bool) -> Option<Self> {
        let summary: RecordSummary<'_> =
            serde_json::from_str(std::str::from_utf8(record).ok()?).ok()?;
        if summary.format != STATE_FORMAT {
            return None;
        }
        // If the init link has its init, the record is read as a whole.
        summary.init?;
        let cgroup = || serde_json::from_str(summary.cgroup?.get()).ok();
        let is_frozen = || is_frozen(cgroup().as_ref());
        let (stage, init) = (summary.stage, summary.init);
        let (status, _) = Status::seen(stage, init, is_started, is_frozen).ok()?;
        Some(summary.with(status))
    }
}

impl RecordSummary<'_> {
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
            owner: passwd::owner_name(self.owner),
        }
    }
}

/// The state that a hook reads, as the text before and after the pid: a hook in the container reads
/// the pid in the container's pid namespace, which is not known before.
#[must_use]
pub(crate) fn for_hook(
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

#[cfg(test)]
mod tests {
    use super::*;

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
