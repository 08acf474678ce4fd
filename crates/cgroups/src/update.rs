//! New limits for an existing cgroup: the limits they depend on, and the rollback if one is
//! refused.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davit_sys::Failure;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::resources::{self, Controllers, Plan};
use crate::systemd::{self, Property};
use crate::{Cgroup, Context, Error, Fault, Layout, Op, Unit, apply, devices, file};

/// The present limits that new ones depend on; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together: cgroup v1 limits their sum.
    pub memory_and_swap: Option<i64>,
    /// Microseconds in each period.
    pub quota: Option<i64>,
    /// That period, on cgroup v2, which has both in one file.
    pub period: Option<u64>,
}

impl Current {
    /// Reads them.
    ///
    /// # Errors
    /// A failed system call; a missing file is not an error.
    pub fn read(cgroup: &Cgroup) -> Result<Self, Fault> {
        let max = cgroup.read("", "cpu.max")?;
        let period = max.as_deref().and_then(|text| text.split_whitespace().nth(1));
        let number = |controller: &str, file: &str| -> Result<Option<i64>, Fault> {
            Ok(cgroup.read(controller, file)?.as_deref().and_then(limit))
        };
        Ok(Self {
            memory: match number("memory", "memory.limit_in_bytes")? {
                None => number("", "memory.max")?,
                limit => limit,
            },
            memory_and_swap: number("memory", "memory.memsw.limit_in_bytes")?,
            quota: max.as_deref().and_then(limit),
            period: period.and_then(|period| period.parse().ok()),
        })
    }
}

/// The first word of a limit's file. cgroup v1 shows the greatest number of whole pages for "no
/// limit".
fn limit(text: &str) -> Option<i64> {
    const NONE: i64 = i64::MAX - 0xffff;
    match text.split_whitespace().next()? {
        "max" => Some(-1),
        word => word.parse().ok().map(|bytes| if bytes >= NONE { -1 } else { bytes }),
    }
}

/// Plans the operations that change the limits of a container's cgroup, and of its unit if it has
/// one, to those of `resources`, without devices: see [`plan_device_update`].
///
/// # Errors
/// The field that cannot be applied on this host, or not with the limits that stay.
pub fn plan_update(
    resources: &LinuxResources,
    path: &Path,
    unit: Option<&Unit>,
    layout: &Layout,
    current: Current,
) -> Result<Vec<Op>, Error> {
    let mut plan = Plan::for_update(layout, path, current);
    resources::plan(&mut plan, resources)?;
    let ops = plan.into_ops(Controllers::Needed);
    match unit {
        Some(unit) => Ok(systemd::update(ops, unit, current)),
        None => Ok(ops),
    }
}

/// Plans the operations that append device rules to those of config.json, of every container, and
/// of earlier updates (`before`).
///
/// # Errors
/// An invalid rule, or one that the `devices` controller of cgroup v1 cannot express.
pub fn plan_device_update(
    config: &[LinuxDeviceCgroup],
    before: &[LinuxDeviceCgroup],
    more: &[LinuxDeviceCgroup],
    path: &Path,
    layout: &Layout,
) -> Result<Vec<Op>, Error> {
    devices::plan_update([config, before, more], path, layout)
}

/// An update that failed.
#[derive(Debug)]
pub struct UpdateError {
    /// The operation that failed.
    pub failure: Failure,
    /// The error text of systemd, if it failed there.
    pub detail: String,
    /// The files and systemd units that were changed before and could not be restored.
    pub changed: Vec<String>,
}

/// Performs the operations in order. If one fails, the changes before it are undone.
///
/// # Errors
/// The operation that failed.
pub fn update(ops: &[Op]) -> Result<(), UpdateError> {
    let before: Vec<Option<SavedState>> = ops.iter().map(SavedState::of).collect();
    let mut context = Context::default();
    let Err(failure) = apply(ops, &mut context).map(drop) else { return Ok(()) };
    let done: Vec<SavedState> =
        before.into_iter().take(failure.op.saturating_add(1)).flatten().collect();
    Err(UpdateError { failure, detail: context.detail, changed: restore(&done) })
}

/// Undoes the changes, the last one first; returns what could not be restored.
fn restore(done: &[SavedState]) -> Vec<String> {
    // Twice: the kernel refuses some values while others are set (no weight while a cgroup is
    // idle).
    for saved in done.iter().rev().chain(done.iter().rev()) {
        if !saved.is_restored() {
            saved.restore();
        }
    }
    let mut changed: Vec<String> =
        done.iter().filter(|saved| !saved.is_restored()).map(SavedState::name).collect();
    changed.sort();
    changed.dedup();
    changed
}

/// Timeout for systemd when properties are restored: perhaps the update failed because it does not
/// answer.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The state that an operation changes, read before it.
enum SavedState {
    /// `content` is `None` if the file cannot be read.
    File { path: PathBuf, content: Option<String> },
    /// `properties` is `None` if systemd did not return them.
    Unit { unit: Unit, asked: Vec<Property>, properties: Option<Vec<Property>> },
}

impl SavedState {
    fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Write { directory, file, if_missing, .. } => {
                let other = match if_missing {
                    crate::IfMissing::WriteInstead { file, .. } => Some(file),
                    _ => None,
                };
                let names = [Some(file), other].into_iter().flatten();
                let path = names.map(|name| directory.join(name)).find(|path| path.exists())?;
                let content = file::read_path(&path).ok();
                Some(Self::File { path, content })
            }
            Op::SetProperties { unit, properties } => Some(Self::Unit {
                unit: unit.clone(),
                asked: properties.clone(),
                properties: unit.get(properties, systemd::REQUEST_TIMEOUT).ok(),
            }),
            _ => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Unit { unit, .. } => format!("systemd unit {:?}", unit.name),
        }
    }

    fn is_restored(&self) -> bool {
        match self {
            Self::File { path, content } => {
                content.is_some() && file::read_path(path).ok() == *content
            }
            Self::Unit { unit, asked, properties } => {
                properties.is_some() && unit.get(asked, RESTORE_TIMEOUT).ok() == *properties
            }
        }
    }

    /// Writes back a file of one line; a list cannot be.
    fn restore(&self) {
        match self {
            Self::File { path, content: Some(content) } if content.lines().count() <= 1 => {
                if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
                    let _ = file::directory(directory).and_then(|open| {
                        file::write(open.as_fd(), &name.to_string_lossy(), content)
                    });
                }
            }
            Self::Unit { unit, properties: Some(properties), .. } => {
                let _ = unit.restore(properties);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IfMissing, Member};
    use std::fs;

    fn write(directory: &Path, file: &str, values: &[&str]) -> Op {
        Op::Write {
            directory: directory.to_path_buf(),
            file: file.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            if_missing: IfMissing::Fail,
            field: "linux.resources.x".into(),
        }
    }

    #[test]
    fn current_limits_are_read_from_v1_and_v2() {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("v2/cpu.max", "max 100000\n"),
            ("v2/memory.max", "1\n"),
            ("memory/memory.limit_in_bytes", "4096\n"),
            ("memory/memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let member = |name: &str, controllers: &[&str]| Member {
            directory: root.path().join(name),
            path: name.into(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let of =
            |members: Vec<Member>| Current::read(&Cgroup { members, ..Cgroup::default() }).unwrap();
        let both = of(vec![member("v2", &[]), member("memory", &["memory"])]);
        let expected = Current {
            memory: Some(4096),
            memory_and_swap: Some(-1),
            quota: Some(-1),
            period: Some(100_000),
        };
        assert_eq!(both, expected);
        let v2 = of(vec![member("v2", &[])]);
        assert_eq!(
            v2,
            Current {
                memory: Some(1),
                memory_and_swap: None,
                quota: Some(-1),
                period: Some(100_000)
            }
        );
        assert_eq!(of(vec![member("gone", &[])]), Current::default());
    }

    #[test]
    fn changes_before_a_failure_are_undone() {
        let root = tempfile::tempdir().unwrap();
        let (one, list) = (root.path().join("one"), root.path().join("list"));
        fs::write(&one, "1\n").unwrap();
        fs::write(&list, "8:0 1\n8:16 2\n").unwrap();
        let ops = [
            write(root.path(), "one", &["2\n"]),
            write(root.path(), "list", &["8:0 3\n\n\n"]),
            write(root.path(), "nosuch", &["1"]),
        ];
        let error = update(&ops).unwrap_err();
        assert_eq!(error.failure.op, 2);
        assert_eq!(error.changed, [list.display().to_string()]);
        assert_eq!(fs::read_to_string(&one).unwrap(), "1\n");
        // The same file twice is named once.
        let other = write(root.path(), "list", &["8:0 9\n"]);
        let twice = [other.clone(), other, ops[2].clone()];
        assert_eq!(update(&twice).unwrap_err().changed.len(), 1);
        update(&ops[..1]).unwrap();
        assert_eq!(fs::read_to_string(&one).unwrap(), "2\n");
    }
}
