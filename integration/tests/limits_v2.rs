//! cgroup v2 with all its controllers: what is written, by create and by update.

use std::fs;

use integration::limits::file;
use integration::*;

/// Resources, the file that holds them, and its content.
fn rows() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({ "memory": { "limit": 64 << 20 } }), "memory.max", "67108864"),
        (json!({ "memory": { "limit": -1 } }), "memory.max", "max"),
        (json!({ "memory": { "reservation": 32 << 20 } }), "memory.low", "33554432"),
        (
            json!({ "memory": { "limit": 64 << 20, "swap": 96 << 20 } }),
            "memory.swap.max",
            "33554432",
        ),
        (json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } }), "memory.swap.max", "0"),
        (json!({ "memory": { "limit": 64 << 20, "swap": -1 } }), "memory.swap.max", "max"),
        (json!({ "cpu": { "quota": 20000, "period": 50000 } }), "cpu.max", "20000 50000"),
        (json!({ "cpu": { "quota": -1, "period": 100_000 } }), "cpu.max", "max 100000"),
        (json!({ "cpu": { "quota": -1 } }), "cpu.max", "max 100000"),
        (json!({ "cpu": { "quota": 30000 } }), "cpu.max", "30000 100000"),
        (json!({ "cpu": { "cpus": "0", "mems": "0" } }), "cpuset.cpus", "0"),
        (json!({ "cpu": { "cpus": "0-1" } }), "cpuset.cpus", "0-1"),
        (json!({ "cpu": { "cpus": "0", "mems": "0" } }), "cpuset.mems", "0"),
        (json!({ "pids": { "limit": 77 } }), "pids.max", "77"),
        (json!({ "pids": { "limit": -1 } }), "pids.max", "max"),
        (
            json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }] }),
            "hugetlb.2MB.max",
            "4194304",
        ),
        (json!({ "unified": { "memory.high": "50331648" } }), "memory.high", "50331648"),
        (json!({ "unified": { "memory.min": "1048576" } }), "memory.min", "1048576"),
        (json!({ "unified": { "memory.oom.group": "1" } }), "memory.oom.group", "1"),
        (json!({ "unified": { "cgroup.max.depth": "3" } }), "cgroup.max.depth", "3"),
    ]
}

/// Fields that older runtimes lack, or count in another way.
fn newer_rows() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({ "cpu": { "shares": 1024 } }), "cpu.weight", "100"),
        (json!({ "cpu": { "shares": 2 } }), "cpu.weight", "1"),
        (json!({ "cpu": { "shares": 262_144 } }), "cpu.weight", "10000"),
        (json!({ "blockIO": { "weight": 500 } }), "io.weight", "default 4950"),
        (json!({ "cpu": { "idle": 1 } }), "cpu.idle", "1"),
        (json!({ "cpu": { "idle": 1, "shares": 200 } }), "cpu.idle", "1"),
        (json!({ "cpu": { "idle": 0 } }), "cpu.idle", "0"),
        (json!({ "cpu": { "idle": 0, "shares": 200 } }), "cpu.weight", "29"),
        (
            json!({ "cpu": { "quota": 20000, "period": 50000, "burst": 10000 } }),
            "cpu.max.burst",
            "10000",
        ),
    ]
}

fn with_resources(c: Container, resources: &Value) -> Container {
    c.with(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    })
}

fn created(rows: Vec<(Value, &str, &str)>) {
    for (resources, name, value) in rows {
        let c = with_resources(Container::sleeper(), &resources);
        c.create();
        assert_eq!(file(&c, "", name), value, "{resources}");
    }
}

/// One after the other in one container: none may stand in the way of the next.
fn updated(rows: Vec<(Value, &str, &str)>) {
    let c = Container::sleeper();
    c.create().start();
    for (resources, name, value) in rows {
        c.call(&["update", "-r", "-", &c.id]).input(&resources.to_string()).done().ok();
        assert_eq!(file(&c, "", name), value, "{resources}");
    }
}

#[test]
fn create_writes_them() {
    spec!();
    pure_v2!();
    created(rows());
}

#[test]
fn create_writes_newer_ones() {
    spec!();
    pure_v2!();
    created(newer_rows());
}

#[test]
fn update_writes_them() {
    davit_only!("runc's update takes fewer fields, crun's other ones");
    pure_v2!();
    let mut all = rows();
    all.extend(newer_rows());
    updated(all);
}

#[test]
fn options_of_update() {
    spec!();
    fails_with!("crun", "reads 64m as no memory at all");
    pure_v2!();
    let c = Container::sleeper();
    c.create().start();
    for (options, name, value) in [
        (&["--memory", "64m"][..], "memory.max", "67108864"),
        (&["--memory-reservation", "32m"], "memory.low", "33554432"),
        (&["--memory", "32m", "--memory-swap", "48m"], "memory.swap.max", "16777216"),
        (&["--cpu-period", "50000", "--cpu-quota", "20000"], "cpu.max", "20000 50000"),
        (&["--cpu-share", "1024"], "cpu.weight", "100"),
        (&["--cpuset-cpus", "1"], "cpuset.cpus", "1"),
        (&["--pids-limit", "55"], "pids.max", "55"),
    ] {
        c.call(&[&["update"], options, &[&c.id]].concat()).done().ok();
        assert_eq!(file(&c, "", name), value, "{options:?}");
    }
}

/// A period alone leaves the quota, a limit of memory alone the swap.
#[test]
fn what_is_not_named_stays() {
    davit_only!("other runtimes reset the one or the other");
    pure_v2!();
    let c = with_resources(
        Container::sleeper(),
        &json!({
            "cpu": { "quota": 20000, "period": 50000 },
            "memory": { "limit": 64 << 20, "swap": 96 << 20 },
        }),
    );
    c.create().start();
    let update = |option: &str, value: &str| c.call(&["update", option, value, &c.id]).done().ok();
    update("--cpu-period", "40000");
    assert_eq!(file(&c, "", "cpu.max"), "20000 40000");
    update("--cpu-quota", "30000");
    assert_eq!(file(&c, "", "cpu.max"), "30000 40000");
    update("--pids-limit", "9");
    assert_eq!(file(&c, "", "memory.swap.max"), "33554432");
    // C17: no limit of memory is none of swap.
    update("--memory", "-1");
    assert_eq!(file(&c, "", "memory.swap.max"), "max");
}

#[test]
fn throttles_of_a_disk() {
    spec!();
    pure_v2!();
    let disk = limits::disk();
    skip_if!(disk.is_none().then_some("no whole disk under /"));
    let (major, minor) = disk.expect("a disk");
    let entry = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let c = with_resources(
        Container::sleeper(),
        &json!({ "blockIO": {
            "throttleReadBpsDevice": entry(1_000_000), "throttleWriteBpsDevice": entry(2_000_000),
            "throttleReadIOPSDevice": entry(300), "throttleWriteIOPSDevice": entry(400),
        } }),
    );
    c.create();
    let line = format!("{major}:{minor} rbps=1000000 wbps=2000000 riops=300 wiops=400");
    assert_eq!(file(&c, "", "io.max"), line);
}

#[test]
fn what_only_v1_has_is_refused() {
    davit_only!("other runtimes leave it out, or name a file");
    pure_v2!();
    for (resources, says) in [
        (json!({ "memory": { "swappiness": 1 } }), "linux.resources.memory.swappiness"),
        (json!({ "memory": { "kernelTCP": 1 << 20 } }), "linux.resources.memory.kernelTCP"),
        (
            json!({ "memory": { "disableOOMKiller": true } }),
            "linux.resources.memory.disableOOMKiller",
        ),
        (json!({ "cpu": { "realtimeRuntime": 1 } }), "linux.resources.cpu.realtimeRuntime"),
        (json!({ "network": { "classID": 1 } }), "linux.resources.network"),
        (json!({ "blockIO": { "leafWeight": 10 } }), "linux.resources.blockIO.leafWeight"),
    ] {
        with_resources(Container::new(&["true"]), &resources).run().refuses(&[says]);
    }
}

#[test]
fn limits_that_cannot_be_are_refused() {
    davit_only!("other runtimes write what they are given, or leave it out");
    pure_v2!();
    for (resources, says) in [
        (json!({ "memory": { "swap": 1 << 26 } }), "linux.resources.memory.swap"),
        (json!({ "memory": { "limit": -2 } }), "linux.resources.memory.limit"),
        (json!({ "cpu": { "cpus": "99999" } }), "cpuset.cpus"),
        (json!({ "cpu": { "cpus": "bogus" } }), "cpuset.cpus"),
        (json!({ "cpu": { "period": 1 } }), "cpu.max"),
        (json!({ "unified": { "memory.nosuch": "1" } }), "memory.nosuch"),
        (json!({ "unified": { "memory.high": "much" } }), "memory.high"),
        (json!({ "unified": { "nosuch.max": "1" } }), "linux.resources.unified"),
        (
            json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] }),
            "linux.resources.hugepageLimits[0]",
        ),
        (json!({ "rdma": { "nosuch0": { "hcaHandles": 1 } } }), "linux.resources.rdma"),
    ] {
        let run = with_resources(Container::new(&["true"]), &resources).run();
        assert_ne!(run.code, 0, "{resources} is accepted");
        run.refuses(&[says]);
    }
}

/// They can be read inside, where the cgroup namespace shows the container's cgroup as the root.
#[test]
fn seen_from_inside() {
    spec!();
    pure_v2!();
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; cat /proc/self/cgroup";
    let c = Container::sh(script).with(|c| config::set_namespace(c, "cgroup", None));
    let resources = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 99 },
        "cpu": { "quota": 20000, "period": 50000 } });
    let run = with_resources(c, &resources).run().ok();
    assert_eq!(run.out, "67108864\n99\n20000 50000\n0::/\n");
}

/// The parents enable what is needed; a controller that is not needed stays off if it costs
/// something.
#[test]
fn controllers_are_enabled_below_new_parents() {
    spec!();
    pure_v2!();
    let outer = unique();
    let c = with_resources(
        Container::sleeper().with(|c| c["linux"]["cgroupsPath"] = format!("/{outer}/a/b").into()),
        &json!({ "memory": { "limit": 64 << 20 }, "cpu": { "cpus": "0" } }),
    );
    c.create();
    let leaf = format!("/sys/fs/cgroup/{outer}/a/b");
    let read = |name: &str| fs::read_to_string(format!("{leaf}/{name}")).expect("a file");
    assert_eq!(read("memory.max"), "67108864\n");
    assert_eq!(read("cpuset.cpus"), "0\n");
    c.delete().ok();
    let left = leftovers::cgroups(&outer);
    leftovers::sweep(&outer, std::path::Path::new("/nonexistent"));
    assert!(!runtime::runtime().is_davit() || left.is_empty(), "{left:?}");
}
