//! Resource usage of a container, in the format of runc's `events`.
//!
//! Values that this host does not count are 0 or left out.

mod block_io;
mod cpu;
mod memory;
mod others;
mod pressure;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Cgroup, Fault};

pub use block_io::{BlockIo, BlockIoEntry};
pub use cpu::{Cpu, CpuSet, CpuUsage, Throttling};
pub use memory::{Memory, MemoryEntry, MemoryEvents};
pub use others::{Hugetlb, Misc, Pids, Rdma, RdmaEntry};
pub use pressure::{Pressure, PressureShare};

/// Resource usage of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: BlockIo,
    /// Huge pages, by page size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA devices.
    pub rdma: Rdma,
    /// Scalar resources, by name.
    pub misc: BTreeMap<String, Misc>,
}

impl Cgroup {
    /// Reads the resource usage of the processes in the cgroup and below.
    ///
    /// # Errors
    /// A failed system call; a missing file is not an error.
    pub fn stats(&self) -> Result<Stats, Fault> {
        Ok(Stats {
            cpu: cpu::read(self)?,
            cpuset: cpu::read_set(self)?,
            memory: memory::read(self)?,
            pids: others::pids(self)?,
            blkio: block_io::read(self)?,
            hugetlb: others::hugetlb(self)?,
            rdma: others::rdma(self)?,
            misc: others::misc(self)?,
        })
    }

    /// Whether a tree of v1 has this controller.
    fn has_v1(&self, controller: &str) -> bool {
        self.members.iter().any(|member| member.controllers.iter().any(|name| name == controller))
    }

    /// The number in a file; 0 without that file. `max`, no limit, is the greatest number.
    fn number(&self, controller: &str, file: &str) -> Result<u64, Fault> {
        Ok(self.read(controller, file)?.map_or(0, |text| number(&text)))
    }

    /// The `key number` lines of a file.
    fn table(&self, controller: &str, file: &str) -> Result<BTreeMap<String, u64>, Fault> {
        let text = self.read(controller, file)?.unwrap_or_default();
        let row = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        };
        Ok(text.lines().filter_map(row).collect())
    }
}

fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use std::fs;
    use std::path::Path;

    fn fake(root: &Path, files: &[(&str, &str)]) -> Cgroup {
        let mut names: Vec<&str> = Vec::new();
        for (path, content) in files {
            let (tree, _) = path.split_once('/').unwrap();
            if !names.contains(&tree) {
                names.push(tree);
            }
            fs::create_dir_all(root.join(tree)).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        let member = |name: &str| Member {
            directory: root.join(name),
            path: name.into(),
            controllers: match name {
                "v2" => Vec::new(),
                name => name.split(',').map(str::to_owned).collect(),
            },
        };
        Cgroup { members: names.into_iter().map(member).collect(), ..Cgroup::default() }
    }

    fn json(files: &[(&str, &str)]) -> serde_json::Value {
        let root = tempfile::tempdir().unwrap();
        serde_json::to_value(fake(root.path(), files).stats().unwrap()).unwrap()
    }

    const PRESSURE: &str = "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\n\
                            full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";

    const FILES_OF_V2: &[(&str, &str)] = &[
        (
            "v2/cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
        ),
        ("v2/cpu.pressure", PRESSURE),
        ("v2/cpuset.cpus.effective", "0-2,7\n"),
        ("v2/memory.current", "1000\n"),
        ("v2/memory.max", "max\n"),
        ("v2/memory.peak", "1500\n"),
        ("v2/memory.swap.current", "24\n"),
        ("v2/memory.swap.max", "100\n"),
        ("v2/memory.stat", "anon 1\nfile 500\n"),
        ("v2/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
        ("v2/pids.current", "5\n"),
        ("v2/pids.max", "max\n"),
        ("v2/io.stat", "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0\n"),
        ("v2/hugetlb.2MB.current", "4194304\n"),
        ("v2/hugetlb.2MB.events", "max 6\n"),
        ("v2/hugetlb.2MB.rsvd.current", "0\n"),
        ("v2/rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
        ("v2/rdma.max", "mlx4_0 hca_handle=max hca_object=9\n"),
        ("v2/misc.current", "res_a 3\n"),
        ("v2/misc.events", "res_a.max 1\n"),
    ];

    #[test]
    fn figures_of_v2() {
        let stats = json(FILES_OF_V2);
        for (pointer, value) in [
            ("/cpu/usage/total", 30_000.into()),
            ("/cpu/usage/user", 20_000.into()),
            ("/cpu/usage/kernel", 10_000.into()),
            ("/cpu/throttling/periods", 4.into()),
            ("/cpu/throttling/throttledPeriods", 3.into()),
            ("/cpu/throttling/throttledTime", 2000.into()),
            ("/cpu/psi/some/avg10", 1.5.into()),
            ("/cpu/psi/full/total", 7.into()),
            ("/cpuset/cpus", serde_json::json!([0, 1, 2, 7])),
            ("/memory/usage/usage", 1000.into()),
            ("/memory/usage/limit", u64::MAX.into()),
            ("/memory/usage/max", 1500.into()),
            ("/memory/usage/failcnt", 9.into()),
            ("/memory/swap/usage", 1024.into()),
            ("/memory/swap/limit", u64::MAX.into()),
            ("/memory/cache", 500.into()),
            ("/memory/raw/anon", 1.into()),
            ("/memory/event_count/oom_kill", 1.into()),
            ("/pids/current", 5.into()),
            ("/pids/limit", 0.into()),
            ("/blkio/ioServiceBytesRecursive/1/value", 20.into()),
            ("/blkio/ioServiceBytesRecursive/1/op", "Write".into()),
            ("/blkio/ioServicedRecursive/0/minor", 16.into()),
            ("/hugetlb/2MB/usage", 4_194_304.into()),
            ("/hugetlb/2MB/failcnt", 6.into()),
            ("/rdma/rdma_current/0/hca_objects", 2000.into()),
            ("/rdma/rdma_limit/0/hca_handles", u32::MAX.into()),
            ("/misc/res_a/usage", 3.into()),
            ("/misc/res_a/events", 1.into()),
        ] {
            assert_eq!(stats.pointer(pointer), Some(&value), "{pointer}");
        }
        assert_eq!(stats["hugetlb"].as_object().unwrap().len(), 1);
        assert!(stats.pointer("/memory/psi").is_none());
    }

    #[test]
    fn figures_of_v1_with_the_pressure_of_v2() {
        let stats = json(&[
            ("cpu,cpuacct/cpuacct.usage", "60\n"),
            ("cpu,cpuacct/cpuacct.usage_user", "40\n"),
            ("cpu,cpuacct/cpuacct.usage_sys", "20\n"),
            ("cpu,cpuacct/cpuacct.usage_percpu", "50 10 \n"),
            ("cpu,cpuacct/cpu.stat", "nr_periods 4\nnr_throttled 3\nthrottled_time 2\n"),
            ("cpuset/cpuset.cpus", "1\n"),
            ("cpuset/cpuset.sched_relax_domain_level", "-1\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.limit_in_bytes", "2000\n"),
            ("memory/memory.failcnt", "5\n"),
            ("memory/memory.memsw.usage_in_bytes", "1024\n"),
            ("memory/memory.stat", "cache 1\ntotal_cache 300\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("pids/pids.max", "77\n"),
            (
                "blkio/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n",
            ),
            ("hugetlb/hugetlb.1GB.usage_in_bytes", "0\n"),
            ("hugetlb/hugetlb.1GB.failcnt", "4\n"),
            ("v2/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
            ("v2/cpu.stat", "usage_usec 999\n"),
        ]);
        for (pointer, value) in [
            ("/cpu/usage/total", 60.into()),
            ("/cpu/usage/kernel", 20.into()),
            ("/cpu/usage/percpu", serde_json::json!([50, 10])),
            ("/cpu/throttling/throttledTime", 2.into()),
            ("/cpuset/cpus", serde_json::json!([1])),
            ("/cpuset/sched_relax_domain_level", (-1).into()),
            ("/memory/usage/usage", 1000.into()),
            ("/memory/usage/limit", 2000.into()),
            ("/memory/usage/failcnt", 5.into()),
            ("/memory/swap/usage", 1024.into()),
            ("/memory/cache", 300.into()),
            ("/memory/event_count/oom_kill", 2.into()),
            ("/memory/psi/some/total", 3.into()),
            ("/pids/limit", 77.into()),
            ("/blkio/ioServiceBytesRecursive/0/op", "Read".into()),
            ("/blkio/ioServiceBytesRecursive/0/major", 8.into()),
            ("/hugetlb/1GB/failcnt", 4.into()),
        ] {
            assert_eq!(stats.pointer(pointer), Some(&value), "{pointer}");
        }
        let entries = &stats["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(entries.as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_missing_cgroup_has_no_usage() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = fake(root.path(), &[("v2/x", ""), ("memory/x", "")]);
        fs::remove_dir_all(root.path().join("v2")).unwrap();
        assert_eq!(cgroup.stats().unwrap(), Stats::default());
    }
}
