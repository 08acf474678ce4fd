//! New limits for a cgroup that lives: what they depend on, and the way back when one is refused.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use sys::Failure;

use crate::resources::{self, Plan};
use crate::{Cgroup, Context, Error, Fault, Layout, Op, Unit, apply, devices, file, systemd};

/// The limits that new ones depend on, as they are now; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together: cgroup v1 keeps that number.
    pub memory_and_swap: Option<i64>,
    /// Microseconds in each period: cgroup v2 keeps both in one file.
    pub quota: Option<i64>,
    /// That period, of cgroup v2.
    pub period: Option<u64>,
}

impl Current {
    /// Reads them.
    ///
    /// # Errors
    /// A failed system call; a file that is not there is not one.
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

/// The first word of a limit's file. What cgroup v1 shows for "none" is the greatest number of whole
/// pages.
fn limit(text: &str) -> Option<i64> {
    const NONE: i64 = i64::MAX - 0xffff;
    match text.split_whitespace().next()? {
        "max" => Some(-1),
        word => word.parse().ok().map(|bytes| if bytes >= NONE { -1 } else { bytes }),
    }
}

/// The steps that change the limits of a container's cgroup, and of its unit where it has one, to those of `resources`. Devices are not
/// among them: see [`plan_device_update`].
///
/// # Errors
/// The field that cannot be applied on this host, or together with the limits that stay.
pub fn plan_update(
    resources: &LinuxResources,
    path: &Path,
    unit: Option<&Unit>,
    layout: &Layout,
    current: Current,
) -> Result<Vec<Op>, Error> {
    let mut plan = Plan::for_update(layout, path, current);
    resources::plan(&mut plan, resources)?;
    let ops = plan.into_ops(&[]);
    match unit {
        Some(unit) => Ok(systemd::update(ops, unit, current)),
        None => Ok(ops),
    }
}

/// The steps that put device rules after those of config.json and of every container, and after those
/// of earlier updates (`before`).
///
/// # Errors
/// A rule that makes no sense, or that the `devices` controller of this host cannot hold.
pub fn plan_device_update(
    config: &[LinuxDeviceCgroup],
    before: &[LinuxDeviceCgroup],
    more: &[LinuxDeviceCgroup],
    path: &Path,
    layout: &Layout,
) -> Result<Vec<Op>, Error> {
    devices::plan_update([config, before, more], path, layout)
}

/// Steps of an update that were not all done.
#[derive(Debug)]
pub struct Unfinished {
    /// The step that failed.
    pub failure: Failure,
    /// systemd's words about it, if it was systemd's.
    pub said: String,
    /// Files that were written before and could not be put back as they were.
    pub changed: Vec<PathBuf>,
}

/// Does the steps, in order, or none of them: what was written before a failure is put back.
///
/// # Errors
/// The step that failed.
pub fn update(ops: &[Op]) -> Result<(), Unfinished> {
    let before: Vec<Option<Before>> = ops.iter().map(Before::of).collect();
    let mut context = Context::default();
    let Err(failure) = apply(ops, &mut context).map(drop) else { return Ok(()) };
    let done = before.iter().take(failure.op.saturating_add(1)).flatten().rev();
    let changed = done.filter(|before| !before.put_back()).map(|before| before.path.clone());
    Err(Unfinished { failure, said: context.said, changed: changed.collect() })
}

/// A file before it was written.
struct Before {
    path: PathBuf,
    /// `None` where it can be written only.
    content: Option<String>,
}

impl Before {
    /// Of the file that a step writes, where it writes one that is there.
    fn of(op: &Op) -> Option<Self> {
        let Op::Write { directory, file, missing, .. } = op else { return None };
        let other = match missing {
            crate::Missing::Instead { file, .. } => Some(file),
            _ => None,
        };
        let mut paths = [Some(file), other].into_iter().flatten().map(|name| directory.join(name));
        paths.find(|path| path.exists()).map(|path| {
            let content = file::read_path(&path).ok();
            Self { path, content }
        })
    }

    /// Whether the file is as it was. One line can be written back; a list cannot.
    fn put_back(&self) -> bool {
        let Some(content) = &self.content else { return false };
        let is_back = || file::read_path(&self.path).is_ok_and(|now| now == *content);
        if is_back() {
            return true;
        }
        let written = match (content.lines().count(), self.path.parent(), self.path.file_name()) {
            (0 | 1, Some(directory), Some(name)) => file::directory(directory)
                .and_then(|open| file::write(open.as_fd(), &name.to_string_lossy(), content)),
            _ => return false,
        };
        written.is_ok() && is_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Member, Missing};
    use std::fs;

    fn write(directory: &Path, file: &str, values: &[&str]) -> Op {
        Op::Write {
            directory: directory.to_path_buf(),
            file: file.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            missing: Missing::Refused,
            field: "linux.resources.x".into(),
        }
    }

    #[test]
    fn current_limits_are_read_where_they_are() {
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
    fn what_was_written_before_a_failure_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        let (one, list) = (root.path().join("one"), root.path().join("list"));
        fs::write(&one, "1\n").unwrap();
        fs::write(&list, "8:0 1\n8:16 2\n").unwrap();
        let ops = [
            write(root.path(), "one", &["2\n"]),
            write(root.path(), "list", &["8:0 3\n\n\n"]),
            write(root.path(), "nosuch", &["1"]),
        ];
        let unfinished = update(&ops).unwrap_err();
        assert_eq!(unfinished.failure.op, 2);
        assert_eq!(unfinished.changed, [list]);
        assert_eq!(fs::read_to_string(&one).unwrap(), "1\n");
        update(&ops[..1]).unwrap();
        assert_eq!(fs::read_to_string(&one).unwrap(), "2\n");
    }
}
