//! docs/limits.md: what each number means, in the JSON that engines write.

use integration::limits::{file, limited};
use integration::*;

/// A file of the container's cgroup, by its name on v1, with its values on v1 and v2.
type File = (&'static str, [&'static str; 2]);

/// Who writes such JSON, the JSON, and what is in the cgroup then. Files that are not named have
/// what they have without any limit.
type Row = (&'static str, Value, Vec<File>);

/// Every file that the rows are about, and the value of a cgroup without limits.
const FILES: [File; 9] = [
    ("memory.limit_in_bytes", ["9223372036854771712", "max"]),
    ("memory.memsw.limit_in_bytes", ["9223372036854771712", "max"]),
    ("memory.soft_limit_in_bytes", ["9223372036854771712", "0"]),
    ("cpu.shares", ["1024", "100"]),
    ("cpu.cfs_quota_us", ["-1", "max 100000"]),
    ("cpu.cfs_burst_us", ["0", "0"]),
    ("cpu.idle", ["0", "0"]),
    ("pids.max", ["max", "max"]),
    ("cpu.cfs_period_us", ["100000", "max 100000"]),
];

fn engines() -> Vec<Row> {
    let m64 = ("memory.limit_in_bytes", ["67108864"; 2]);
    let twice = ("memory.memsw.limit_in_bytes", ["134217728", "67108864"]);
    let none = || json!({ "limit": 0, "reservation": 0, "kernel": 0 });
    let no_cpu = || json!({ "shares": 0, "quota": 0, "period": 0 });
    vec![
        // Written down from dockerd 20.10.
        (
            "docker 20.10 run",
            json!({ "memory": { "disableOOMKiller": false }, "cpu": { "shares": 0 },
            "blockIO": { "weight": 0 } }),
            vec![],
        ),
        (
            "docker 20.10 update --restart",
            json!({ "memory": none(), "cpu": no_cpu(), "blockIO": { "weight": 0 } }),
            vec![],
        ),
        (
            "docker 20.10 update --pids-limit",
            json!({ "memory": none(), "cpu": no_cpu(), "pids": { "limit": 77 },
            "blockIO": { "weight": 0 } }),
            vec![("pids.max", ["77"; 2])],
        ),
        (
            "docker 20.10 update --cpus",
            json!({ "memory": none(),
            "cpu": { "shares": 0, "quota": 50000, "period": 100000 }, "blockIO": { "weight": 0 } }),
            vec![
                ("cpu.cfs_quota_us", ["50000", "50000 100000"]),
                ("cpu.cfs_period_us", ["100000", "50000 100000"]),
            ],
        ),
        (
            "docker 20.10 update --memory",
            json!({
            "memory": { "limit": 64 << 20, "reservation": 0, "swap": 128 << 20, "kernel": 0 }, "cpu": no_cpu(),
            "blockIO": { "weight": 0 } }),
            vec![m64, twice],
        ),
        ("docker 28.5 update", json!({ "memory": {}, "cpu": {} }), vec![]),
        (
            "docker 28.5 update --pids-limit 0",
            json!({ "memory": {}, "cpu": {}, "pids": { "limit": -1 } }),
            vec![],
        ),
        // docker's HostConfig, each number of it.
        (
            "all zeros",
            json!({
            "memory": { "limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0 },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "realtimePeriod": 0, "realtimeRuntime": 0, "cpus": "",
                "mems": "", "burst": 0, "idle": 0 },
            "pids": { "limit": 0 },
            "blockIO": { "weight": 0, "leafWeight": 0 },
            "network": { "classID": 0, "priorities": [] },
            "hugepageLimits": [], "rdma": {}, "unified": {} }),
            vec![],
        ),
        (
            "docker CLI on podman's socket",
            json!({ "cpu": {}, "memory": {}, "pids": { "limit": 0 },
            "blockIO": { "weight": 0 } }),
            vec![],
        ),
        ("podman 4.3 run", json!({ "pids": { "limit": 2048 } }), vec![("pids.max", ["2048"; 2])]),
        (
            "podman 4.3 run -m",
            json!({ "memory": { "limit": 64 << 20, "swap": 128 << 20 }, "pids": { "limit": 0 } }),
            vec![m64, twice],
        ),
        (
            "podman 5.8 update",
            json!({ "memory": { "limit": 64 << 20, "swap": 128 << 20 }, "cpu": {}, "pids": null,
            "blockIO": {} }),
            vec![m64, twice],
        ),
        (
            "containerd's CRI",
            json!({ "devices": [{ "allow": false, "access": "rwm" }],
            "memory": { "limit": 64 << 20, "swap": 128 << 20 }, "cpu": { "shares": 2, "quota": 0, "period": 100000 } }),
            vec![m64, twice, ("cpu.shares", ["2", "1"])],
        ),
        (
            "CRI-O",
            json!({ "memory": { "limit": 0, "swap": 0 }, "cpu": { "shares": 512, "quota": -1, "period": 100000,
            "cpus": "", "mems": "" }, "unified": {} }),
            vec![("cpu.shares", ["512", "59"])],
        ),
    ]
}

/// -1, and numbers beyond what the kernel knows.
fn extremes() -> Vec<Row> {
    vec![
        (
            "no limit",
            json!({ "memory": { "limit": -1, "swap": -1 }, "cpu": { "quota": -1 }, "pids": { "limit": -1 } }),
            vec![],
        ),
        (
            "the largest memory",
            json!({ "memory": { "limit": i64::MAX, "swap": i64::MAX, "kernel": 0 } }),
            if host::has_cgroup_v1() {
                vec![]
            } else {
                vec![("memory.memsw.limit_in_bytes", ["", "0"])]
            },
        ),
        ("swappiness of -1", json!({ "memory": { "swappiness": u64::MAX } }), vec![]),
        (
            "more shares than there are",
            json!({ "cpu": { "shares": u64::MAX } }),
            vec![("cpu.shares", ["262144", "10000"])],
        ),
        ("one share", json!({ "cpu": { "shares": 1 } }), vec![("cpu.shares", ["2", "1"])]),
        (
            "the most tasks",
            json!({ "pids": { "limit": 4_194_304 } }),
            vec![("pids.max", ["4194304"; 2])],
        ),
    ]
}

#[track_caller]
fn assert_files(c: &Container, (name, json, expected): &Row, command: &str) {
    let version = usize::from(host::has_pure_cgroup_v2());
    let quota_and_period = expected.iter().any(|(file, _)| *file == "cpu.cfs_quota_us");
    for (name_v1, untouched) in FILES {
        if name_v1 == "cpu.cfs_period_us" && quota_and_period {
            continue;
        }
        let controller = name_v1.split('.').next().expect("a controller");
        let value = expected
            .iter()
            .find(|(file, _)| *file == name_v1)
            .map_or(untouched, |(_, value)| *value);
        assert_eq!(
            file(c, controller, name_v1),
            value[version],
            "{command}, {name}: {name_v1}: {json}"
        );
    }
}

fn created(rows: Vec<Row>) {
    for row in rows {
        let c = limited("true", row.1.clone());
        c.create_call(&[]).done().exits(0);
        assert_files(&c, &row, "create");
        c.start();
    }
}

fn updated(rows: Vec<Row>) {
    for row in rows {
        let c = Container::sleeper();
        c.create().start();
        c.call(&["update", "--resources=-", &c.id]).input(&row.1.to_string()).done().exits(0);
        assert_files(&c, &row, "update");
        assert_eq!(c.ask("true | echo forked"), "forked\n", "{}", row.0);
    }
}

#[test]
fn create_takes_what_engines_write() {
    davit_only!("crun writes zeros");
    controllers!();
    created(engines());
}

#[test]
fn update_takes_what_engines_write() {
    davit_only!("crun writes zeros");
    controllers!();
    updated(engines());
}

#[test]
fn extremes_are_the_nearest_that_there_is() {
    davit_only!("runc refuses shares that the kernel rounds, crun a swappiness of -1");
    controllers!();
    created(extremes());
    updated(extremes());
}

#[test]
fn run_takes_what_engines_write() {
    davit_only!("crun writes zeros");
    controllers!();
    for (name, json, _) in engines().into_iter().chain(extremes()) {
        let run = limited("true | echo forked", json).run().exits(0);
        assert_eq!(run.out, "forked\n", "{name}");
    }
}

/// Each option of update, as 0 and beyond what the kernel knows.
#[test]
fn options_of_update() {
    davit_only!("other runtimes differ: docs/limits.md");
    controllers!();
    let c = Container::sleeper();
    c.create().start();
    let untouched = ("options", json!({}), vec![]);
    for option in [
        "--memory",
        "--memory-swap",
        "--memory-reservation",
        "--kernel-memory",
        "--kernel-memory-tcp",
        "--cpu-share",
        "--cpu-quota",
        "--cpu-period",
        "--cpu-rt-period",
        "--cpu-rt-runtime",
        "--cpu-burst",
        "--cpu-idle",
        "--pids-limit",
        "--blkio-weight",
    ] {
        c.call(&["update", option, "0", &c.id]).done().exits(0);
        assert_files(&c, &untouched, option);
    }
    for (option, value, field, range) in [
        ("--cpu-quota", "999", "linux.resources.cpu.quota", "1000"),
        ("--cpu-period", "1000001", "linux.resources.cpu.period", "1000000"),
        ("--pids-limit", "4194305", "linux.resources.pids.limit", "4194304"),
    ] {
        c.call(&["update", option, value, &c.id]).done().refuses(&[field, "hint: ", range]);
        assert_files(&c, &untouched, option);
    }
}

/// C2: a deviation from the specification is said.
#[test]
fn no_tasks_is_not_a_limit() {
    davit_only!("runc 1.4 writes 1, and the others say nothing");
    controllers!();
    let c = limited("exec sleep 60", json!({ "pids": { "limit": 0 } }));
    let said = |call: Call, log: &str| {
        call.done().exits(0);
        let text = std::fs::read_to_string(log).unwrap_or_default();
        assert!(text.contains("linux.resources.pids.limit: 0 is taken as not set"), "{text}");
    };
    let log = c.path("log.json");
    let c = c.global(&["--log", &log, "--log-level", "warning"]);
    said(c.create_call(&[]), &log);
    assert_eq!(file(&c, "pids", "pids.max"), "max");
    std::fs::remove_file(&log).expect("remove");
    said(c.call(&["update", "--pids-limit", "0", &c.id]), &log);
    assert_eq!(file(&c, "pids", "pids.max"), "max");
}

/// The specification has 64 bits for a limit of huge pages.
#[test]
fn limits_of_huge_pages_have_64_bits() {
    davit_only!("crun 1.8 refuses a hybrid host");
    let size = std::fs::read_dir("/sys/kernel/mm/hugepages").expect("read").flatten().next();
    skip_if!(size.is_none().then_some("no huge pages here"));
    let limits = json!([{ "pageSize": "2MB", "limit": u64::MAX }]);
    let c = limited("true", json!({ "hugepageLimits": limits }));
    c.create_call(&[]).done().exits(0);
    let update = json!({ "hugepageLimits": limits }).to_string();
    c.call(&["update", "-r", "-", &c.id]).input(&update).done().exits(0);
    c.start();
}
