//! The id maps of a user namespace: checking and writing them.

use std::ffi::CString;
use std::process::Command;

use davit_sys::{IdMapping, OsContext};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getgid, getuid, write};
use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How the maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapWriter {
    /// By the runtime, which has CAP_SETUID and CAP_SETGID.
    Direct,
    /// By the runtime, for its own single id: the kernel allows that if setgroups(2) is denied.
    SingleId,
    /// By newuidmap(1) and newgidmap(1), for the ranges of /etc/subuid and /etc/subgid.
    Helpers,
}

/// The maps of a new user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// `linux.uidMappings`
    pub uids: Vec<IdMapping>,
    /// `linux.gidMappings`
    pub gids: Vec<IdMapping>,
    /// How they are written.
    pub writer: MapWriter,
}

/// Why maps could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing a file of /proc/PID failed.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// The system call and its errno.
        error: davit_sys::Error,
    },
    /// A helper failed.
    #[error("{}: {refusal}", helper.name())]
    Helper {
        /// The helper.
        helper: Helper,
        /// Its error.
        refusal: HelperError,
        /// The mappings.
        mappings: Vec<IdMapping>,
    },
}

impl WriteError {
    /// The field whose map it is.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Helper { helper: Helper::NewGidMap, .. } => "linux.gidMappings",
            _ => "linux.uidMappings",
        }
    }
}

/// A program that writes a map for unprivileged users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// newuidmap(1)
    NewUidMap,
    /// newgidmap(1)
    NewGidMap,
}

impl Helper {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NewUidMap => "newuidmap",
            Self::NewGidMap => "newgidmap",
        }
    }

    /// The file with the ids of each user.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::NewUidMap => "/etc/subuid",
            Self::NewGidMap => "/etc/subgid",
        }
    }

    /// The caller's own id, which needs no entry there.
    pub(crate) fn own_id(self) -> u32 {
        match self {
            Self::NewUidMap => getuid().as_raw(),
            Self::NewGidMap => getgid().as_raw(),
        }
    }
}

/// The error of a helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It could not be executed.
    #[error("{}", davit_sys::errno_text(*.0))]
    NotExecuted(Errno),
    /// It failed with this output.
    #[error("{0}")]
    Output(String),
}

/// Checks one list of mappings (user_namespaces(7): no overlaps, at most 340 lines, no empty
/// ranges).
pub(crate) fn check(
    field: &'static str,
    mappings: Option<&Vec<LinuxIdMapping>>,
) -> Result<Vec<IdMapping>, Error> {
    let wrong = |index, reason| Error::Mapping { field, index, reason };
    let mut checked: Vec<IdMapping> = Vec::new();
    for (index, mapping) in mappings.into_iter().flatten().enumerate() {
        let (container, host, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let ends = [container.checked_add(size), host.checked_add(size)];
        if size == 0 {
            return Err(wrong(index, "size is 0"));
        }
        if ends.contains(&None) {
            return Err(wrong(index, "exceeds the last id, 4294967294"));
        }
        let overlap = |first: u32, other: u32, other_size: u32| {
            first < other.saturating_add(other_size) && other < first.saturating_add(size)
        };
        if checked.iter().any(|other| overlap(container, other.container, other.size)) {
            return Err(wrong(index, "overlaps an earlier mapping of container ids"));
        }
        if checked.iter().any(|other| overlap(host, other.host, other.size)) {
            return Err(wrong(index, "overlaps an earlier mapping of host ids"));
        }
        if index == 340 {
            return Err(wrong(index, "the kernel takes at most 340 mappings"));
        }
        checked.push(IdMapping { container, host, size });
    }
    Ok(checked)
}

/// Whether container id 0 is mapped.
pub(crate) fn maps_root(mappings: &[IdMapping]) -> bool {
    mappings.iter().any(|mapping| mapping.container == 0)
}

impl IdMaps {
    /// Whether setgroups(2) is denied in the user namespace.
    #[must_use]
    pub fn denies_groups(&self) -> bool {
        self.writer == MapWriter::SingleId
    }

    /// Writes the maps of the new user namespace of process `pid`.
    ///
    /// # Errors
    /// The file or the helper that failed.
    pub fn write(&self, pid: Pid) -> Result<(), WriteError> {
        match self.writer {
            MapWriter::Helpers => {
                run_helper(Helper::NewUidMap, pid, &self.uids)?;
                return run_helper(Helper::NewGidMap, pid, &self.gids);
            }
            MapWriter::SingleId => write_file(pid, "setgroups", "deny")?,
            MapWriter::Direct => {}
        }
        write_file(pid, "gid_map", &IdMapping::lines(&self.gids))?;
        write_file(pid, "uid_map", &IdMapping::lines(&self.uids))
    }
}

/// The map must be written with one write(2) (user_namespaces(7)).
fn write_file(pid: Pid, name: &str, text: &str) -> Result<(), WriteError> {
    let path = format!("/proc/{pid}/{name}");
    let written = || {
        let file = CString::new(path.as_str())
            .map_err(|_| davit_sys::Error::new("open", Errno::EINVAL))?;
        let file = open(file.as_c_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .syscall("open")?;
        write(&file, text.as_bytes()).syscall("write")
    };
    written().map(drop).map_err(|error| WriteError::File { path: path.clone(), error })
}

fn run_helper(helper: Helper, pid: Pid, mappings: &[IdMapping]) -> Result<(), WriteError> {
    let refused = |refusal| WriteError::Helper { helper, refusal, mappings: mappings.to_owned() };
    let numbers = mappings.iter().flat_map(|m| [m.container, m.host, m.size]);
    let output = Command::new(helper.name())
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .syscall("execve")
        .map_err(|error| refused(HelperError::NotExecuted(error.errno)))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(output.stderr.trim_ascii());
    // It begins with the name of the helper.
    let name = format!("{}: ", helper.name());
    let output = text.strip_prefix(&name).unwrap_or(&text).to_owned();
    Err(refused(HelperError::Output(output)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(list: serde_json::Value) -> Result<Vec<IdMapping>, Error> {
        let list: Vec<LinuxIdMapping> = serde_json::from_value(list).unwrap();
        check("linux.uidMappings", Some(&list))
    }

    fn entry(container: u32, host: u32, size: u32) -> serde_json::Value {
        json!({ "containerID": container, "hostID": host, "size": size })
    }

    #[test]
    fn valid_mappings_become_lines() {
        let maps = checked(json!([entry(0, 1000, 1), entry(1, 100_000, 65536)])).unwrap();
        assert_eq!(IdMapping::lines(&maps), "0 1000 1\n1 100000 65536\n");
        assert!(maps_root(&maps));
    }

    #[test]
    fn invalid_mappings_are_named_by_index() {
        for (list, reason) in [
            (json!([entry(0, 0, 0)]), "size is 0"),
            (json!([entry(1, 0, u32::MAX)]), "exceeds the last id"),
            (
                json!([entry(0, 0, 10), entry(9, 100, 1)]),
                "overlaps an earlier mapping of container",
            ),
            (json!([entry(0, 0, 10), entry(20, 5, 1)]), "overlaps an earlier mapping of host"),
        ] {
            let error = checked(list).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.starts_with("linux.uidMappings["), "{error}");
        }
    }
}
