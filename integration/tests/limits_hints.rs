//! What is said of a limit that the kernel does not take: the field, and what it would take. Each
//! row of the table in crates/cgroups/src/hint.rs is provoked for real (D3).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::call::within;
use integration::limits::{file, limited};
use integration::*;

fn running() -> Container {
    let c = Container::sleeper();
    c.create().start();
    c
}

/// Refused by `update` with the field and this hint.
#[track_caller]
fn refused(c: &Container, resources: &Value, texts: &[&str]) {
    let call = c.call(&["update", "-r", "-", &c.id]).input(&resources.to_string());
    call.done().refuses(&[texts, &["hint: "]].concat());
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect(path).trim().to_owned()
}

#[test]
fn processors_and_memory_nodes_that_are_not_there() {
    davit_only!("other runtimes say: numerical result out of range");
    cgroup_v1!();
    let cpus = read("/sys/fs/cgroup/cpuset/cpuset.cpus");
    let c = running();
    let hint = format!("the available cpus are {cpus}, as a list");
    for wrong in ["777", "77777"] {
        let cpus = json!({ "cpu": { "cpus": wrong } });
        refused(&c, &cpus, &["linux.resources.cpu.cpus", &hint]);
        limited("true", cpus).run().refuses(&["linux.resources.cpu.cpus", &hint]);
    }
    refused(&c, &json!({ "cpu": { "cpus": "77777" } }), &["numerical result out of range"]);
    refused(&c, &json!({ "cpu": { "cpus": "zero" } }), &["linux.resources.cpu.cpus", &hint]);
    let mems = format!("available memory nodes are {}", read("/sys/fs/cgroup/cpuset/cpuset.mems"));
    refused(&c, &json!({ "cpu": { "mems": "63" } }), &["linux.resources.cpu.mems", &mems]);
}

#[test]
fn less_memory_than_is_used() {
    davit_only!("runc says it in other words, crun does not");
    cgroup_v1!();
    let c = running();
    for limit in [4096, 1000] {
        let update = json!({ "memory": { "limit": limit } });
        let texts = [
            "linux.resources.memory.limit",
            "device or resource busy",
            "the cgroup uses ",
            " bytes now, and has used ",
        ];
        refused(&c, &update, &texts);
    }
    // It could not be had, and is not there.
    assert_eq!(file(&c, "memory", "memory.limit_in_bytes"), "9223372036854771712");
}

#[test]
fn checked_before_an_update() {
    davit_only!("crun 1.8 refuses hybrid hosts");
    pure_v2!();
    let c = running();
    let update = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
    refused(&c, &update, &["checkBeforeUpdate", "the cgroup uses ", " bytes now"]);
}

#[test]
fn less_memory_than_a_page() {
    davit_only!("other runtimes say less");
    controllers!();
    let run = limited("true", json!({ "memory": { "limit": 1000 } })).run();
    run.refuses(&["linux.resources.memory.limit is too small: less than a page", "262144"]);
}

#[test]
fn numbers_beyond_the_kernel_s() {
    davit_only!("other runtimes say: invalid argument");
    controllers!();
    let c = running();
    let quota = "a period is 1000 to 1000000 microseconds, a quota at least 1000";
    for (field, value, hint) in
        [("quota", 999, quota), ("period", 999, quota), ("period", 1_000_001, quota)]
    {
        let resources = json!({ "cpu": { field: value } });
        refused(&c, &resources, &[&format!("linux.resources.cpu.{field}"), hint]);
    }
    let tasks = json!({ "pids": { "limit": 4_194_305 } });
    refused(&c, &tasks, &["linux.resources.pids.limit", "the kernel takes at most 4194304"]);
    limited("true", tasks).run().refuses(&["linux.resources.pids.limit", "at most 4194304"]);
}

#[test]
fn more_real_time_than_above() {
    davit_only!("other runtimes say: invalid argument");
    cgroup_v1!();
    let c = running();
    let there = fs::exists(format!("/sys/fs/cgroup/cpu/{}/cpu.rt_runtime_us", c.id));
    skip_if!((!there.unwrap_or(false)).then_some("a kernel without CONFIG_RT_GROUP_SCHED"));
    let hint = format!(
        "that of the parent cgroup: {} of {} microseconds",
        read("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"),
        read("/sys/fs/cgroup/cpu/cpu.rt_period_us")
    );
    let all = json!({ "cpu": { "realtimeRuntime": 1_000_000, "realtimePeriod": 1_000_000 } });
    refused(&c, &all, &["linux.resources.cpu.realtimeRuntime", &hint]);
}

#[test]
fn a_device_that_is_not_there() {
    davit_only!("other runtimes say: no such device");
    controllers!();
    let c = running();
    let throttle = json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": 250, "minor": 99, "rate": 1 }] } });
    let texts =
        ["linux.resources.blockIO.throttleReadBpsDevice[0]", "apply to existing block devices"];
    refused(&c, &throttle, &texts);
}

#[test]
fn a_size_of_pages_that_is_not_there() {
    davit_only!("other runtimes say less");
    let c = running();
    let pages = json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] });
    refused(
        &c,
        &pages,
        &["linux.resources.hugepageLimits[0]", "the huge pages of this kernel are ", "2MB"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    davit_only!("other runtimes say less");
    let c = running();
    let file = json!({ "unified": { "cgroup.nosuch": "1" } });
    refused(&c, &file, &["linux.resources.unified", "this kernel does not have the file"]);
}

#[test]
fn a_cgroup_that_is_gone() {
    davit_only!("other runtimes say less");
    controllers!();
    let c = running();
    let pid = c.pid();
    for cgroup in leftovers::cgroups(&c.id) {
        let above = cgroup.parent().expect("a parent").join("cgroup.procs");
        // A process that is ending keeps the cgroup busy, and one may have been forked meanwhile.
        let removed = within(Duration::from_secs(10), || {
            for pid in fs::read_to_string(cgroup.join("cgroup.procs")).expect("read").lines() {
                let _ = fs::write(&above, pid);
            }
            fs::remove_dir(&cgroup).ok()
        });
        assert!(removed.is_some(), "{} is busy", cgroup.display());
    }
    let gone = "the container's cgroup was removed by another program";
    refused(&c, &json!({ "pids": { "limit": 5 } }), &["linux.resources.pids.limit", gone]);
    refused(
        &c,
        &json!({ "memory": { "limit": 64 << 20 } }),
        &["linux.resources.memory.limit", gone],
    );
    let exec = c.exec(&["true"]);
    exec.refuses(&["cgroup /sys/fs/cgroup/", "was removed by another program"]);
    // Its processes are in the cgroup above now: not for davit to end.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    c.until_status("stopped");
}

/// A cgroup above that takes no more: the kernel's EAGAIN sounds as if it could be tried again.
#[test]
fn no_more_cgroups_below() {
    davit_only!("other runtimes say: resource temporarily unavailable");
    let top = match host::has_pure_cgroup_v2() {
        true => "/sys/fs/cgroup",
        false => "/sys/fs/cgroup/unified",
    };
    skip_if!((!fs::exists(top).unwrap_or(false)).then_some("no cgroup v2 here"));
    let name = unique();
    let above = PathBuf::from(top).join(&name);
    fs::create_dir(&above).expect("mkdir");
    fs::write(above.join("cgroup.max.depth"), "0").expect("write");
    let c = Container::new(&["true"])
        .with(|c| c["linux"]["cgroupsPath"] = json!(format!("/{name}/inner")));
    let run = c.run();
    fs::remove_dir(above).expect("rmdir");
    run.refuses(&["cgroup make", "an ancestor cgroup has reached its cgroup.max.depth"]);
}
