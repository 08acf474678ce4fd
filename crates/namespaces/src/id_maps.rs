//! The id maps of a user namespace: their check, and how they are written.

use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, write};
use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};
use sys::During;

use crate::Error;

/// One line of a map (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl Mapping {
    /// The id outside that stands for `id` inside.
    #[must_use]
    pub fn outside(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container).filter(|offset| *offset < self.size)?;
        self.host.checked_add(offset)
    }
}

/// Who may write the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writer {
    /// The runtime: it has CAP_SETUID and CAP_SETGID.
    Runtime,
    /// The runtime, for its own single id, which the kernel allows anyone who gives up setgroups.
    OwnId,
    /// newuidmap(1) and newgidmap(1), by the ranges of /etc/subuid and /etc/subgid.
    Helpers,
}

/// The maps of a new user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// `linux.uidMappings`
    pub uids: Vec<Mapping>,
    /// `linux.gidMappings`
    pub gids: Vec<Mapping>,
    /// Who writes them.
    pub writer: Writer,
}

/// Why maps could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of /proc/PID refused.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the kernel answered.
        error: sys::Error,
    },
    /// A helper refused.
    #[error("{helper}: {reason}")]
    Helper {
        /// newuidmap or newgidmap
        helper: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Checks one list of mappings (user_namespaces(7): no overlap, at most 340 lines, no empty one).
pub(crate) fn check(
    field: &'static str,
    mappings: Option<&Vec<LinuxIdMapping>>,
) -> Result<Vec<Mapping>, Error> {
    let wrong = |index, reason| Error::Mapping { field, index, reason };
    let mut checked: Vec<Mapping> = Vec::new();
    for (index, mapping) in mappings.into_iter().flatten().enumerate() {
        let (container, host, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let ends = [container.checked_add(size), host.checked_add(size)];
        if size == 0 {
            return Err(wrong(index, "size is 0"));
        }
        if ends.contains(&None) {
            return Err(wrong(index, "reaches past the last id, 4294967294"));
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
        checked.push(Mapping { container, host, size });
    }
    Ok(checked)
}

/// Whether container id 0 is mapped.
pub(crate) fn maps_root(mappings: &[Mapping]) -> bool {
    mappings.iter().any(|mapping| mapping.container == 0)
}

impl IdMaps {
    /// Whether the price of writing the maps was setgroups(2).
    #[must_use]
    pub fn denies_groups(&self) -> bool {
        self.writer == Writer::OwnId
    }

    /// Writes the maps of the user namespace that process `pid` has just made.
    ///
    /// # Errors
    /// The file or the helper that refused.
    pub fn write(&self, pid: Pid) -> Result<(), WriteError> {
        match self.writer {
            Writer::Helpers => {
                run_helper("newuidmap", pid, &self.uids)?;
                return run_helper("newgidmap", pid, &self.gids);
            }
            Writer::OwnId => write_file(pid, "setgroups", "deny")?,
            Writer::Runtime => {}
        }
        write_file(pid, "gid_map", &lines(&self.gids))?;
        write_file(pid, "uid_map", &lines(&self.uids))
    }
}

fn lines(mappings: &[Mapping]) -> String {
    mappings.iter().fold(String::new(), |mut text, Mapping { container, host, size }| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{container} {host} {size}");
        text
    })
}

/// The whole map must arrive in one write (user_namespaces(7)).
fn write_file(pid: Pid, name: &str, text: &str) -> Result<(), WriteError> {
    let path = format!("/proc/{pid}/{name}");
    let written = || {
        let file =
            CString::new(path.as_str()).map_err(|_| sys::Error::new("open", Errno::EINVAL))?;
        let file = open(file.as_c_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .during("open")?;
        write(&file, text.as_bytes()).during("write")
    };
    written().map(drop).map_err(|error| WriteError::File { path: path.clone(), error })
}

fn run_helper(helper: &'static str, pid: Pid, mappings: &[Mapping]) -> Result<(), WriteError> {
    let numbers = mappings.iter().flat_map(|m| [m.container, m.host, m.size]);
    let output = Command::new(helper)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .map_err(|error| WriteError::Helper { helper, reason: error.to_string().to_lowercase() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = OsStr::from_bytes(output.stderr.trim_ascii()).to_string_lossy().into_owned();
    Err(WriteError::Helper { helper, reason: said })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(list: serde_json::Value) -> Result<Vec<Mapping>, Error> {
        let list: Vec<LinuxIdMapping> = serde_json::from_value(list).unwrap();
        check("linux.uidMappings", Some(&list))
    }

    fn entry(container: u32, host: u32, size: u32) -> serde_json::Value {
        json!({ "containerID": container, "hostID": host, "size": size })
    }

    #[test]
    fn good_mappings_become_the_kernels_lines() {
        let maps = checked(json!([entry(0, 1000, 1), entry(1, 100_000, 65536)])).unwrap();
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n");
        assert!(maps_root(&maps));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_with_its_index() {
        for (list, reason) in [
            (json!([entry(0, 0, 0)]), "size is 0"),
            (json!([entry(1, 0, u32::MAX)]), "reaches past"),
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
