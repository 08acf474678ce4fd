//! update: limits of a running container, as options and as JSON; all of them or none.

use std::fs;

use integration::limits::file;
use integration::*;

fn running() -> Container {
    let c = Container::sleeper();
    c.create().start();
    c
}

fn update(c: &Container, options: &[&str]) -> Outcome {
    let mut words = vec!["update"];
    words.extend(options);
    words.push(&c.id);
    c.call(&words).done()
}

const MEMORY: (&str, &str) = ("memory", "memory.limit_in_bytes");
const SWAP: (&str, &str) = ("memory", "memory.memsw.limit_in_bytes");

#[test]
fn each_option() {
    spec!();
    cgroup_v1!();
    fails_with!("crun", "1.8 writes cpusets after the rest");
    let c = running();
    let rows: &[(&[&str], (&str, &str), &str)] = &[
        (&["--memory", "67108864"], MEMORY, "67108864"),
        (&["--memory=64m"], MEMORY, "67108864"),
        (
            &["--memory-reservation", "33554432"],
            ("memory", "memory.soft_limit_in_bytes"),
            "33554432",
        ),
        (&["--memory", "32m", "--memory-swap", "64m"], SWAP, "67108864"),
        (&["--memory", "96m", "--memory-swap", "128m"], MEMORY, "100663296"),
        (&["--memory", "16m", "--memory-swap", "16m"], SWAP, "16777216"),
        (&["--memory", "64m", "--memory-swap", "-1"], SWAP, "9223372036854771712"),
        (&["--memory", "-1"], MEMORY, "9223372036854771712"),
        (&["--cpu-share", "512"], ("cpu", "cpu.shares"), "512"),
        (&["--cpu-period", "50000", "--cpu-quota", "20000"], ("cpu", "cpu.cfs_quota_us"), "20000"),
        (&["--cpu-period", "40000"], ("cpu", "cpu.cfs_period_us"), "40000"),
        (&["--cpu-quota", "-1"], ("cpu", "cpu.cfs_quota_us"), "-1"),
        (&["--cpuset-cpus", "0"], ("cpuset", "cpuset.cpus"), "0"),
        (&["--cpuset-mems", "0"], ("cpuset", "cpuset.mems"), "0"),
        (&["--pids-limit", "55"], ("pids", "pids.max"), "55"),
        (&["--pids-limit", "-1"], ("pids", "pids.max"), "max"),
    ];
    for (options, (controller, name), value) in rows {
        update(&c, options).ok();
        assert_eq!(file(&c, controller, name), *value, "{options:?}");
    }
}

#[test]
fn options_that_old_peers_lack() {
    davit_only!("runc 1.1 and crun 1.8 know neither");
    cgroup_v1!();
    let c = running();
    update(&c, &["--cpu-quota", "20000", "--cpu-burst", "10000"]).ok();
    assert_eq!(file(&c, "cpu", "cpu.cfs_burst_us"), "10000");
    // The burst that is there is above the new quota.
    update(&c, &["--cpu-quota", "5000", "--cpu-burst", "4000"]).ok();
    assert_eq!(file(&c, "cpu", "cpu.cfs_quota_us"), "5000");
    assert_eq!(file(&c, "cpu", "cpu.cfs_burst_us"), "4000");
    update(&c, &["--cpu-idle", "1"]).ok();
    assert_eq!(file(&c, "cpu", "cpu.idle"), "1");
    update(&c, &["--cpu-idle", "0", "--cpu-share", "256"]).ok();
    assert_eq!(file(&c, "cpu", "cpu.idle"), "0");
    assert_eq!(file(&c, "cpu", "cpu.shares"), "256");
    // B17: an idle cgroup takes no weight, so one together with idleness goes before it.
    for _ in 0..2 {
        update(&c, &["--cpu-idle", "1", "--cpu-share", "200"]).ok();
        assert_eq!(file(&c, "cpu", "cpu.idle"), "1");
    }
    let refused = update(&c, &["--cpu-share", "300"]);
    refused.refuses(&["linux.resources.cpu.shares", "an idle cgroup", "has no weight"]);
    update(&c, &["--cpu-idle", "0", "--cpu-share", "256"]).ok();
    assert_eq!(file(&c, "cpu", "cpu.shares"), "256");
    // The tests above give the quota's period; the weight of the disk depends on the kernel.
    let weight = ["blkio.weight", "blkio.bfq.weight"]
        .into_iter()
        .find(|name| fs::exists(format!("/sys/fs/cgroup/blkio/{}/{name}", c.id)).unwrap_or(false));
    if let Some(name) = weight {
        update(&c, &["--blkio-weight", "200"]).ok();
        assert_eq!(file(&c, "blkio", name), "200");
    }
}

#[test]
fn resources_in_three_spellings() {
    spec!();
    controllers!();
    let c = running();
    let path = c.path("resources.json");
    let set = |limit: u64| {
        fs::write(&path, json!({ "pids": { "limit": limit } }).to_string()).expect("write");
    };
    for (limit, options) in [
        (31, vec![format!("--resources={path}")]),
        (32, vec!["--resources".to_owned(), path.clone()]),
        (33, vec!["-r".to_owned(), path.clone()]),
    ] {
        set(limit);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        update(&c, &options).ok();
        assert_eq!(file(&c, "pids", "pids.max"), limit.to_string());
    }
}

#[test]
fn resources_on_stdin() {
    spec!();
    controllers!();
    let c = running();
    // As containerd's CRI plugin sends them.
    let resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": { "limit": 128 << 20, "swap": 128 << 20 },
        "cpu": {}
    });
    let devices = || host::has_cgroup_v1().then(|| file(&c, "devices", "devices.list"));
    let before = devices();
    for words in
        [&["update", "--resources=-"][..], &["update", "--resources", "-"], &["update", "-r", "-"]]
    {
        let words = [words, &[&c.id]].concat();
        c.call(&words).input(&resources.to_string()).done().ok();
        assert_eq!(file(&c, "memory", "memory.limit_in_bytes"), (128 << 20).to_string());
    }
    assert_eq!(devices(), before);
    assert_eq!(c.ask("echo x > /dev/null && echo fine"), "fine\n");
}

#[test]
fn every_kind_of_limit_as_json() {
    spec!();
    cgroup_v1!();
    let c = running();
    let resources = json!({
        "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
        "cpu": { "shares": 256, "quota": 30000, "period": 60000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 44 }
    });
    c.call(&["update", "-r", "-", &c.id]).input(&resources.to_string()).done().ok();
    for (controller, name, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("cpu", "cpu.shares", "256"),
        ("cpu", "cpu.cfs_quota_us", "30000"),
        ("cpu", "cpu.cfs_period_us", "60000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "44"),
    ] {
        assert_eq!(file(&c, controller, name), value, "{name}");
    }
}

#[test]
fn options_go_on_top_of_the_file() {
    davit_only!("other runtimes ignore them");
    controllers!();
    let c = running();
    let resources = json!({ "pids": { "limit": 44 }, "cpu": { "shares": 256 } });
    let words = ["update", "-r", "-", "--pids-limit", "45", &c.id];
    c.call(&words).input(&resources.to_string()).done().ok();
    assert_eq!(file(&c, "pids", "pids.max"), "45");
    assert_eq!(file(&c, "cpu", "cpu.shares"), if host::has_cgroup_v1() { "256" } else { "35" });
}

#[test]
fn all_or_nothing() {
    davit_only!("other runtimes restore less");
    controllers!();
    let c = running();
    update(&c, &["--pids-limit", "50", "--memory", "64m", "--cpu-share", "512"]).ok();
    let before = file(&c, "cpu", "cpu.shares");
    // The last of these is refused by the kernel: no such processor.
    let refused = update(&c, &["--memory", "96m", "--cpu-share", "300", "--cpuset-cpus", "4000"]);
    refused.refuses(&["linux.resources.cpu.cpus", "cpuset.cpus"]);
    assert_eq!(file(&c, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(file(&c, "cpu", "cpu.shares"), before);
    // And this one by us, before anything is done.
    update(&c, &["--memory", "16m", "--cpu-idle", "2"]).refuses(&["linux.resources.cpu.idle"]);
    assert_eq!(file(&c, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
}

#[test]
fn memory_and_swap_that_contradict() {
    davit_only!("other runtimes give the kernel's EINVAL");
    controllers!();
    let c = running();
    // cgroup v2 counts swap alone.
    let swap = |both: u64, memory: u64| {
        (if host::has_cgroup_v1() { both } else { both - memory } << 20).to_string()
    };
    update(&c, &["--memory", "32m", "--memory-swap", "64m"]).ok();
    if host::has_cgroup_v1() {
        update(&c, &["--memory", "128m"]).refuses(&["linux.resources.memory.swap must be raised"]);
    }
    update(&c, &["--memory-swap", "16m"]).refuses(&["linux.resources.memory.swap"]);
    assert_eq!(file(&c, SWAP.0, SWAP.1), swap(64, 32));
    update(&c, &["--memory-swap", "48m"]).ok();
    assert_eq!(file(&c, SWAP.0, SWAP.1), swap(48, 32));
}

#[test]
fn a_created_and_a_paused_one_but_no_stopped_one() {
    spec!();
    controllers!();
    fails_with!("crun", "changes nothing of a stopped one and says nothing");
    let c = Container::sleeper();
    update(&c, &["--pids-limit", "40"]).refuses(&["does not exist"]);
    c.create();
    update(&c, &["--pids-limit", "40"]).ok();
    assert_eq!(file(&c, "pids", "pids.max"), "40");
    c.start();
    c.call(&["pause", &c.id]).done().ok();
    update(&c, &["--pids-limit", "41"]).ok();
    assert_eq!(file(&c, "pids", "pids.max"), "41");
    assert_eq!(c.status(), "paused");
    c.call(&["resume", &c.id]).done().ok();
    c.kill("KILL").ok();
    c.until_status("stopped");
    update(&c, &["--pids-limit", "42"]).refuses(&["not running"]);
}

#[test]
fn bad_calls() {
    davit_only!("other runtimes take some of these, or say less");
    let c = running();
    for (options, says) in [
        (&[][..], "no limits given"),
        (&["--memory", "much"], "--memory"),
        (&["--pids-limit", "-2"], "linux.resources.pids.limit"),
        (&["--cpu-share", "-1"], "cpu.shares"),
        (&["--blkio-weight", "5"], "linux.resources.blockIO.weight"),
        (&["--l3-cache-schema", "L3:0=f"], "not supported"),
        (&["--mem-bw-schema", "MB:0=20"], "not supported"),
        (&["--device-allow", "c 1 rw"], "--device-allow"),
        (&["--device-deny", "c 1:1 x"], "device rule"),
        (&["--resources", "/nosuch"], "/nosuch"),
        (&["--resources", "/dev/null"], "neither a regular file nor a pipe"),
        (&["--nosuch", "1"], "--nosuch"),
    ] {
        update(&c, options).refuses(&[says]);
    }
    c.call(&["update", &c.id, "--memory"]).done().refuses(&["requires an argument"]);
    for text in ["", "[]", "{", r#"{"memory":{"limit":"x"}}"#, r#"{"cpu":{"cpus":"\u0000"}}"#, "1"]
    {
        let call = c.call(&["update", "-r", "-", &c.id]).input(text);
        call.done().refuses(&["--resources -"]);
    }
}

/// Opens /fuse (char 10:229), or says why not.
const OPEN_FUSE: &str = "(exec 3<>/fuse) 2>&1 && echo open || true";

fn with_fuse(c: Container) -> Container {
    let c = c.with(|c| config::set_capabilities(c, &["CAP_MKNOD"]));
    c.create().start();
    c.ask("mknod /fuse c 10 229");
    c
}

#[track_caller]
fn assert_fuse(c: &Container, open: bool) {
    let said = c.ask(OPEN_FUSE);
    // Without the driver an allowed open fails with another error.
    assert_eq!(!said.contains("Operation not permitted"), open, "{said}");
    assert_eq!(c.ask("echo x > /dev/null && head -c 1 /dev/zero | wc -c"), "1\n");
}

fn device_rules_come_and_go(c: Container) {
    let c = with_fuse(c);
    assert_fuse(&c, false);
    update(&c, &["--device-allow", "c 10:229 rw"]).ok();
    assert_fuse(&c, true);
    update(&c, &["--device-deny", "c 10:229 w"]).ok();
    assert_fuse(&c, false);
    update(&c, &["--device-allow=c 10:* rw"]).ok();
    assert_fuse(&c, true);
    update(&c, &["--device-deny", "a *:* rwm"]).ok();
    assert!(c.ask(OPEN_FUSE).contains("Operation not permitted"));
    assert!(c.ask("(echo x > /dev/null) 2>&1 || true").contains("Operation not permitted"));
    update(&c, &["--device-allow", "c 1:* rw", "--device-allow", "c 10:229 rw"]).ok();
    assert_fuse(&c, true);
}

#[test]
fn device_rules_on_v1() {
    davit_only!("no other runtime has device rules in update");
    cgroup_v1!();
    device_rules_come_and_go(Container::sleeper());
}

#[test]
fn device_rules_on_v2() {
    davit_only!("no other runtime has device rules in update");
    device_rules_come_and_go(Container::sleeper().by(&host::PURE_V2));
}

#[test]
fn a_rule_that_v1_cannot_hold_is_refused() {
    davit_only!("no other runtime has device rules in update");
    cgroup_v1!();
    let c = running();
    let before = file(&c, "devices", "devices.list");
    update(&c, &["--pids-limit", "9", "--device-deny", "c 136:0 rw"]).refuses(&["136:0"]);
    assert_eq!(file(&c, "devices", "devices.list"), before);
    assert_eq!(file(&c, "pids", "pids.max"), "max");
}

#[test]
fn a_missing_controller_is_named_on_v2() {
    davit_only!("other runtimes name the file, or nothing");
    skip_if!(host::has_pure_cgroup_v2().then_some("all controllers are here"));
    let c = Container::sleeper().by(&host::PURE_V2);
    c.create().start();
    update(&c, &["--memory", "64m"])
        .refuses(&["linux.resources.memory.limit", "memory controller"]);
    let unified = json!({ "unified": { "cgroup.max.depth": "3" } });
    c.call(&["update", "-r", "-", &c.id]).input(&unified.to_string()).done().ok();
    let below = leftovers::cgroups(&c.id);
    let depth =
        below.iter().find_map(|path| fs::read_to_string(path.join("cgroup.max.depth")).ok());
    assert_eq!(depth.as_deref().map(str::trim), Some("3"));
}

#[test]
fn without_a_cgroup_it_says_so() {
    davit_only!("--cgroup-manager");
    let c = Container::sleeper().global(&["--cgroup-manager", "disabled"]);
    c.create().start();
    update(&c, &["--pids-limit", "40"]).refuses(&["no cgroup"]);
}

#[test]
fn what_is_not_applied_is_said_in_the_log() {
    davit_only!("other runtimes are silent");
    let log = |c: &Container| fs::read_to_string(c.path("log")).unwrap_or_default();
    let c = Container::sleeper();
    let path = c.path("log");
    let c = c.global(&["--log", &path, "--log-level", "warning"]);
    c.create().start();
    let update = |resources: Value| {
        c.call(&["update", "-r", "-", &c.id]).input(&resources.to_string()).done().ok();
    };
    // Engines send the rules of config.json with every update: that is nothing new.
    update(json!({ "devices": c.config["linux"]["resources"]["devices"] }));
    assert_eq!(log(&c), "");
    update(json!({ "devices": [{ "allow": true, "access": "rwm" }], "nosuch": 1 }));
    assert!(log(&c).contains("--device-allow") && log(&c).contains("nosuch"), "{}", log(&c));
}
