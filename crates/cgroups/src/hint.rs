//! Advice for the user, by operation and errno.
//!
//! A hint may read the valid values from the host: hints are only needed after a failure.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use crate::{Op, file};

type Hint = Cow<'static, str>;

/// The greatest limit of tasks (PID_MAX_LIMIT of a 64-bit kernel, include/linux/threads.h).
const MAX_TASKS: u32 = 4 << 20;

pub(crate) fn of(op: &Op, error: &davit_sys::Error) -> Option<Hint> {
    let errno = error.errno;
    match op {
        Op::Make { .. } => make(&op.directory(), errno).map(Hint::Borrowed),
        Op::StartUnit { .. } if errno == Errno::EEXIST => Some(
            "another container has this unit, or it is not stopped yet by davit delete --force"
                .into(),
        ),
        Op::Enable { .. } if errno == Errno::EBUSY => Some(
            "a cgroup with processes of its own cannot give controllers to its children".into(),
        ),
        Op::Enable { .. } if errno == Errno::ENOENT => {
            Some("the controller is not delegated to this part of the cgroup tree".into())
        }
        Op::Write { directory, .. } | Op::CheckUsage { directory, .. } if !directory.exists() => {
            Some("the container's cgroup was removed by another program".into())
        }
        Op::Write { directory, file, .. } => written(directory, file, errno),
        Op::CheckUsage { directory, .. } => usage(directory),
        _ => None,
    }
}

/// A directory that could not be created, or exists and is in use.
fn make(directory: &Path, errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EBUSY => {
            let opened = file::directory(directory).ok()?;
            Some(match file::has_processes(opened.as_fd()).ok()? {
                true => "the cgroup exists already and has processes in it",
                false => "the cgroup exists already and is frozen",
            })
        }
        Errno::EAGAIN => {
            Some("an ancestor cgroup has reached its cgroup.max.depth or cgroup.max.descendants")
        }
        _ => None,
    }
}

/// A value that the kernel refused, by the file.
fn written(directory: &Path, name: &str, errno: Errno) -> Option<Hint> {
    match (name, errno) {
        ("cpu.weight" | "cpu.weight.nice" | "cpu.shares", Errno::EINVAL) => {
            Some("an idle cgroup (linux.resources.cpu.idle) has no weight".into())
        }
        ("cpu.max" | "cpu.cfs_quota_us" | "cpu.cfs_period_us", Errno::EINVAL) => Some(
            "a period is 1000 to 1000000 microseconds, a quota at least 1000 and, on cgroup v1, no \
             greater part of its period than that of the parent cgroup"
                .into(),
        ),
        ("cpu.rt_runtime_us" | "cpu.rt_period_us", Errno::EINVAL) => real_time(directory),
        ("cpuset.cpus" | "cpuset.mems", _) if errno != Errno::ENOENT => numbers(directory, name),
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Errno::EBUSY) => usage(directory),
        ("pids.max", Errno::EINVAL) => {
            Some(format!("the kernel takes at most {MAX_TASKS}, and -1 is no limit").into())
        }
        (_, Errno::ENODEV | Errno::ENXIO) => {
            Some("limits apply to existing block devices: whole disks, not partitions".into())
        }
        (name, Errno::ENOENT) if name.starts_with("hugetlb.") => page_sizes(directory),
        (_, Errno::ENOENT) => Some("this kernel does not have the file".into()),
        _ => None,
    }
}

/// The usage of a cgroup that is above the new limit.
fn usage(directory: &Path) -> Option<Hint> {
    let now = first(directory, &["memory.current", "memory.usage_in_bytes"])?;
    let most = first(directory, &["memory.peak", "memory.max_usage_in_bytes"]);
    let most = most.map_or_else(String::new, |most| format!(", and has used {most}"));
    Some(format!("the cgroup uses {now} bytes now{most}: the kernel could not reclaim them").into())
}

/// The CPUs or memory nodes that are available: those of the parent cgroup.
fn numbers(directory: &Path, name: &str) -> Option<Hint> {
    let (what, v2, v1, online) = match name {
        "cpuset.cpus" => ("cpus", "cpuset.cpus.effective", "cpuset.effective_cpus", "cpu"),
        _ => ("memory nodes", "cpuset.mems.effective", "cpuset.effective_mems", "node"),
    };
    let above = directory.parent()?;
    let here = first(above, &[v2, v1, name])
        .or_else(|| first(&Path::new("/sys/devices/system").join(online), &["online"]))?;
    Some(format!("the available {what} are {here}, as a list such as 0-3,7").into())
}

fn real_time(directory: &Path) -> Option<Hint> {
    let above = directory.parent()?;
    let runtime = first(above, &["cpu.rt_runtime_us"])?;
    let period = first(above, &["cpu.rt_period_us"])?;
    Some(
        format!(
            "a runtime is no greater part of its period than that of the parent cgroup: {runtime} of \
             {period} microseconds"
        )
        .into(),
    )
}

fn page_sizes(directory: &Path) -> Option<Hint> {
    let names = directory.read_dir().ok()?.flatten().map(|entry| entry.file_name());
    let mut sizes: Vec<String> = names
        .filter_map(|name| {
            Some(name.to_str()?.strip_prefix("hugetlb.")?.split_once('.')?.0.to_owned())
        })
        .collect();
    sizes.sort();
    sizes.dedup();
    match sizes.as_slice() {
        [] => None,
        sizes => Some(format!("the huge pages of this kernel are {}", sizes.join(", ")).into()),
    }
}

/// The content of the first of these files that exists and is not empty.
fn first(directory: &Path, names: &[&str]) -> Option<String> {
    let texts = names.iter().filter_map(|name| file::read_path(&directory.join(name)).ok());
    texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfMissing;

    fn write(directory: &Path, file: &str) -> Op {
        Op::Write {
            directory: directory.to_path_buf(),
            file: file.to_owned(),
            values: Vec::new(),
            if_missing: IfMissing::Fail,
            field: "".into(),
        }
    }

    /// The rows of which a test on a real kernel needs what hosts seldom have; the others are
    /// provoked by integration/tests/limits_hints.rs.
    #[test]
    fn hints_contain_the_numbers_of_cgroup_v2() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("web");
        std::fs::create_dir(&directory).unwrap();
        for (file, text) in [
            ("cpuset.cpus.effective", "0-5\n"),
            ("web/memory.current", "4096\n"),
            ("web/memory.peak", "8192\n"),
            ("web/hugetlb.2MB.max", "0\n"),
            ("web/hugetlb.1GB.max", "0\n"),
        ] {
            std::fs::write(root.path().join(file), text).unwrap();
        }
        let check = Op::CheckUsage { directory: directory.clone(), limit: 1 };
        for (op, errno, expected) in [
            (write(&directory, "cpuset.cpus"), Errno::ERANGE, "available cpus are 0-5"),
            (check, Errno::EBUSY, "uses 4096 bytes now, and has used 8192"),
            (
                write(&directory, "hugetlb.3MB.max"),
                Errno::ENOENT,
                "pages of this kernel are 1GB, 2MB",
            ),
            (write(&directory, "x.y"), Errno::ENOENT, "does not have the file"),
            (
                write(&root.path().join("gone"), "pids.max"),
                Errno::ENOENT,
                "was removed by another program",
            ),
        ] {
            let hint = of(&op, &davit_sys::Error::new("write", errno)).unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
        assert_eq!(
            of(&write(&directory, "x.y"), &davit_sys::Error::new("write", Errno::EIO)),
            None
        );
    }
}
