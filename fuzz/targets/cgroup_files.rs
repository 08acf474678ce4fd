//! The files of a cgroup, as `events --stats` reads them: each has the same content.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use davit_cgroups::{Cgroup, Member};

const V2: &[&str] = &[
    "cgroup.procs", "cpu.stat", "cpuset.cpus", "cpuset.mems", "cpu.pressure", "io.stat", "io.pressure",
    "memory.stat", "memory.current", "memory.max", "memory.events", "memory.peak", "memory.swap.current",
    "memory.swap.max", "memory.pressure", "pids.current", "pids.max", "hugetlb.2MB.current", "hugetlb.2MB.max",
    "hugetlb.2MB.events", "rdma.current", "rdma.max", "misc.current", "misc.max", "misc.events",
];

const V1: &[&str] = &[
    "cgroup.procs", "cpuacct.usage", "cpuacct.usage_percpu", "cpuacct.usage_percpu_sys",
    "cpuacct.usage_percpu_user", "cpuacct.stat", "cpu.stat", "cpuset.cpus", "cpuset.sched_relax_domain_level",
    "blkio.throttle.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive", "blkio.time_recursive",
    "memory.stat", "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.failcnt", "memory.use_hierarchy",
    "memory.kmem.usage_in_bytes", "memory.oom_control", "pids.current", "pids.max",
    "hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.failcnt", "rdma.current", "rdma.max",
];

struct Fake {
    directory: tempfile::TempDir,
    cgroups: [(Cgroup, &'static [&'static str]); 2],
}

fn fake() -> &'static Fake {
    static FAKE: OnceLock<Fake> = OnceLock::new();
    FAKE.get_or_init(|| {
        // In memory, where there is a place for that.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let all = ["cpu", "cpuacct", "cpuset", "blkio", "memory", "pids", "hugetlb", "rdma"];
        let member = |controllers: &[&str]| Member {
            directory: directory.path().to_owned(),
            path: PathBuf::new(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let cgroup = |member| Cgroup { members: vec![member], parents: Vec::new(), unit: None };
        let cgroups = [(cgroup(member(&[])), V2), (cgroup(member(&all)), V1)];
        Fake { directory, cgroups }
    })
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let fake = fake();
    for (cgroup, files) in &fake.cgroups {
        for file in *files {
            std::fs::write(fake.directory.path().join(file), text).expect("a file");
        }
        let _ = cgroup.stats();
        let _ = (cgroup.procs(), cgroup.oom_kills(), cgroup.memory_limit());
        for file in *files {
            std::fs::remove_file(fake.directory.path().join(file)).expect("a file");
        }
    }
});
