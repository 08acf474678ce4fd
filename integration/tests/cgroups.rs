//! cgroup v1 (and hybrid hosts): limits as they stand in the container's cgroup, from inside and
//! from outside.

use std::fs;
use std::path::Path;

use integration::limits::file;
use integration::*;

/// Creates a container with these resources and returns it with a reader of its cgroup files.
fn limited(resources: Value) -> Container {
    let c = Container::sleeper().with(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    c.create();
    c
}

#[test]
fn limits_are_written() {
    spec!();
    fails_with!("crun", "writes -1 of a quota as a huge number");
    cgroup_v1!();
    let megabyte = 1 << 20;
    let rows: &[(Value, &str, &str, &str)] = &[
        (
            json!({ "memory": { "limit": 64 * megabyte } }),
            "memory",
            "memory.limit_in_bytes",
            "67108864",
        ),
        (
            json!({ "memory": { "reservation": 32 * megabyte } }),
            "memory",
            "memory.soft_limit_in_bytes",
            "33554432",
        ),
        (
            json!({ "memory": { "limit": 64 * megabyte, "swap": 96 * megabyte } }),
            "memory",
            "memory.memsw.limit_in_bytes",
            "100663296",
        ),
        (json!({ "memory": { "swappiness": 7 } }), "memory", "memory.swappiness", "7"),
        (json!({ "cpu": { "shares": 512 } }), "cpu", "cpu.shares", "512"),
        (json!({ "cpu": { "quota": 20000, "period": 50000 } }), "cpu", "cpu.cfs_quota_us", "20000"),
        (
            json!({ "cpu": { "quota": 20000, "period": 50000 } }),
            "cpu",
            "cpu.cfs_period_us",
            "50000",
        ),
        (json!({ "cpu": { "quota": -1 } }), "cpu", "cpu.cfs_quota_us", "-1"),
        (json!({ "cpu": { "cpus": "0", "mems": "0" } }), "cpuset", "cpuset.cpus", "0"),
        (json!({ "cpu": { "cpus": "0", "mems": "0" } }), "cpuset", "cpuset.mems", "0"),
        (json!({ "pids": { "limit": 77 } }), "pids", "pids.max", "77"),
        (json!({ "pids": { "limit": -1 } }), "pids", "pids.max", "max"),
    ];
    for (resources, controller, name, value) in rows {
        let c = limited(resources.clone());
        assert_eq!(file(&c, controller, name), *value, "{resources}");
    }
}

#[test]
fn burst() {
    spec!();
    cgroup_v1!();
    fails_with!("runc", "1.1 knows no burst");
    fails_with!("crun", "1.8 knows no burst on v1");
    let c = limited(json!({ "cpu": { "quota": 20000, "period": 50000, "burst": 10000 } }));
    assert_eq!(file(&c, "cpu", "cpu.cfs_burst_us"), "10000");
}

#[test]
fn idle() {
    spec!();
    cgroup_v1!();
    fails_with!("runc", "1.1 knows no idle");
    fails_with!("crun", "1.8 knows no idle on v1");
    let c = limited(json!({ "cpu": { "idle": 1 } }));
    assert_eq!(file(&c, "cpu", "cpu.idle"), "1");
}

#[test]
fn throttles() {
    spec!();
    cgroup_v1!();
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata("/").expect("stat").dev();
    // The whole disk, not a partition of it: here they are the same.
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    if major == 0 || !Path::new(&format!("/sys/dev/block/{major}:{minor}/queue")).exists() {
        skip_if!(Some("no whole disk under /"));
    }
    let entry = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let c = limited(json!({ "blockIO": {
        "throttleReadBpsDevice": entry(1_000_000), "throttleWriteBpsDevice": entry(2_000_000),
        "throttleReadIOPSDevice": entry(300), "throttleWriteIOPSDevice": entry(400),
    } }));
    for (name, rate) in [
        ("blkio.throttle.read_bps_device", 1_000_000),
        ("blkio.throttle.write_bps_device", 2_000_000),
        ("blkio.throttle.read_iops_device", 300),
        ("blkio.throttle.write_iops_device", 400),
    ] {
        assert_eq!(file(&c, "blkio", name), format!("{major}:{minor} {rate}"));
    }
}

#[test]
fn device_rules() {
    spec!();
    cgroup_v1!();
    let c = limited(json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" },
        { "allow": true, "type": "b", "major": 8, "access": "r" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "m" },
    ] }));
    let list = file(&c, "devices", "devices.list");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.contains(&"c 10:229 rwm"), "{lines:?}");
    assert!(lines.contains(&"b 8:* r"), "{lines:?}");
    assert!(lines.contains(&"c 1:3 rwm"), "the default devices are usable: {lines:?}");
    assert!(lines.contains(&"c *:* m"), "nodes may be made, if not used: {lines:?}");
    assert!(!lines.contains(&"a *:* rwm"), "{lines:?}");
    let open = limited(json!({ "devices": [{ "allow": true, "access": "rwm" }] }));
    assert_eq!(file(&open, "devices", "devices.list"), "a *:* rwm");
}

#[test]
fn limits_work() {
    spec!();
    controllers!();
    let pids = Container::sh("for n in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>&1 | grep -c fork")
        .with(|c| {
            c["linux"]["resources"]["pids"] = json!({ "limit": 4 });
        });
    assert_ne!(pids.run().out, "0\n");
    let memory = Container::sh("head -c 100000000 /dev/zero | tail -c 90000000 | wc -c; echo end")
        .with(|c| {
            c["linux"]["resources"]["memory"] = json!({ "limit": 20 << 20, "swap": 20 << 20 });
        });
    let run = memory.run();
    assert!(!run.out.contains("90000000"), "{run:?}");
}

#[test]
fn seen_from_inside() {
    spec!();
    cgroup_v1!();
    let c = Container::sh(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max",
    )
    .with(|c| {
        c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        c["linux"]["resources"]["pids"] = json!({ "limit": 99 });
    });
    assert_eq!(c.run().ok().out, "67108864\n99\n");
}

#[test]
fn every_hierarchy_is_joined() {
    spec!();
    cgroup_v1!();
    let c = Container::sh("cat /proc/self/cgroup");
    let run = c.run().ok();
    for controller in ["memory", "pids", "devices", "freezer", "cpu", "cpuset", "blkio"] {
        let line = run
            .lines()
            .into_iter()
            .find(|line| line.contains(&format!(":{controller}:")))
            .expect(controller);
        assert!(line.ends_with(&format!("/{}", c.id)), "{line}");
    }
}

#[test]
fn nested_paths() {
    spec!();
    let outer = unique();
    let c = Container::sh("cat /proc/self/cgroup")
        .with(|c| c["linux"]["cgroupsPath"] = format!("/{outer}/a/b").into());
    let run = c.run_call(&[]).done().ok();
    assert!(run.out.contains(&format!("/{outer}/a/b")), "{run:?}");
    // Parents were made for it too; whether they go is the runtime's choice. Clean up after runc
    // and crun.
    let left = leftovers::cgroups(&outer);
    let davit = runtime::runtime().is_davit();
    let leaf = left.iter().any(|path| path.ends_with("a/b"));
    leftovers::sweep(&outer, Path::new("/nonexistent"));
    assert!(!leaf, "{left:?}");
    assert!(!davit || left.is_empty(), "what davit made, davit removes: {left:?}");
}

#[test]
fn without_a_path_there_is_a_default() {
    spec!();
    let c = Container::sh("cat /proc/self/cgroup").with(|c| {
        c["linux"].as_object_mut().expect("linux").remove("cgroupsPath");
    });
    let run = c.run().ok();
    assert!(run.out.contains(&c.id), "{run:?}");
}

#[test]
fn sub_cgroups_made_by_the_container_are_removed() {
    spec!();
    controllers!();
    let c = Container::sleeper();
    c.create().start();
    for root in leftovers::cgroups(&c.id) {
        fs::create_dir_all(root.join("x/y")).expect("mkdir");
    }
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn processes_in_sub_cgroups_are_killed() {
    spec!();
    fails_with!("runc", "1.1 leaves them");
    fails_with!("crun", "1.8 leaves them");
    controllers!();
    let c = Container::sleeper().with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    c.exec_with(&["--detach", "--pid-file", &c.path("pid")], &["sleep", "1000"]).ok();
    let pid = fs::read_to_string(c.path("pid")).expect("pid");
    let tree = if host::has_cgroup_v1() { "/freezer" } else { "" };
    let below = format!("/sys/fs/cgroup{tree}/{}/below", c.id);
    fs::create_dir(&below).expect("mkdir");
    fs::write(format!("{below}/cgroup.procs"), pid.trim()).expect("move");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn a_missing_controller_is_named() {
    spec!();
    cgroup_v1!();
    for (resources, says) in [
        (json!({ "network": { "classID": 1 } }), "net_cls"),
        (json!({ "network": { "priorities": [{ "name": "lo", "priority": 1 }] } }), "net_prio"),
        (json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }] }), "hugetlb"),
        (json!({ "rdma": { "mlx5_1": { "hcaHandles": 1 } } }), "rdma"),
    ] {
        if Path::new(&format!("/sys/fs/cgroup/{says}")).exists() || !runtime::runtime().is_davit() {
            continue;
        }
        let c = Container::new(&["true"]).with(|c| {
            for (key, value) in resources.as_object().expect("an object") {
                c["linux"]["resources"][key] = value.clone();
            }
        });
        let run = c.run();
        // The hugetlb controller may sit in the v2 part of a hybrid host, and then works there.
        if says != "hugetlb" || run.code != 0 {
            run.refuses(&["linux.resources", says]);
        }
    }
}

#[test]
fn limits_that_cannot_be_are_refused() {
    davit_only!("other runtimes write what they are given, or leave it out");
    cgroup_v1!();
    for (resources, says) in [
        (json!({ "memory": { "swap": 1 << 26 } }), "linux.resources.memory.swap"),
        (json!({ "memory": { "limit": 1 << 26, "swap": 1 << 25 } }), "linux.resources.memory.swap"),
        (json!({ "memory": { "limit": -2 } }), "linux.resources.memory.limit"),
        (json!({ "memory": { "swappiness": 101 } }), "linux.resources.memory.swappiness"),
        (json!({ "cpu": { "cpus": "99999" } }), "cpuset.cpus"),
        (json!({ "cpu": { "cpus": "bogus" } }), "cpu"),
        (json!({ "cpu": { "period": 1 } }), "cpu"),
        (json!({ "unified": { "memory.high": "1" } }), "linux.resources.unified"),
        (json!({ "blockIO": { "weight": 5 } }), "linux.resources.blockIO.weight"),
        (
            json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] }),
            "linux.resources.hugepageLimits[0]",
        ),
        (
            json!({ "devices": [{ "allow": true, "access": "x" }] }),
            "linux.resources.devices[0].access",
        ),
        (
            json!({ "devices": [{ "allow": true, "type": "z", "access": "r" }] }),
            "linux.resources.devices[0].type",
        ),
    ] {
        let c = Container::new(&["true"]).with(|c| {
            for (key, value) in resources.as_object().expect("an object") {
                c["linux"]["resources"][key] = value.clone();
            }
        });
        let run = c.run();
        assert_ne!(run.code, 0, "{resources} is accepted");
        run.refuses(&[says]);
    }
}

#[test]
fn cgroups_can_be_left_alone() {
    davit_only!("only crun and davit have --cgroup-manager");
    let own = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    let c = Container::sh("cat /proc/self/cgroup; sleep 0")
        .global(&["--cgroup-manager", "disabled"])
        .with(|c| {
            c["linux"].as_object_mut().expect("linux").remove("resources");
            config::drop_mount(c, "/sys/fs/cgroup");
        });
    assert_eq!(c.run().ok().out, own);
    let limits = Container::new(&["true"]).global(&["--cgroup-manager=disabled"]).with(|c| {
        c["linux"]["resources"]["pids"] = json!({ "limit": 5 });
    });
    limits.run().refuses(&["linux.resources.pids"]);
}

#[test]
fn an_occupied_cgroup_is_refused() {
    davit_only!("other runtimes join it, and delete then kills strangers");
    let first = Container::sleeper();
    first.create().start();
    let path = first.config["linux"]["cgroupsPath"].clone();
    let second = Container::new(&["true"]).with(|c| c["linux"]["cgroupsPath"] = path);
    second.run().refuses(&[&first.id, "busy", "processes"]);
    assert_eq!(first.ask("echo alive"), "alive\n");
}
