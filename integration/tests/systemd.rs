//! The systemd driver, with a real systemd: root with the system's, an ordinary user with his own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration::call::within;
use integration::systemd::{cgroup, is_root, property, systemctl};
use integration::*;

/// As `davit_only!`, for an ordinary user as well.
macro_rules! davit_alone {
    ($reason:expr) => {
        skip_if!(skip::needs_davit($reason))
    };
}

const fn slice() -> &'static str {
    "test.slice"
}

/// A container in a scope.
fn container(script: &str) -> Container {
    let c = Container::sh(script).global(&["--systemd-cgroup"]);
    let path = format!("{}:t:{}", slice(), c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = path.into());
    if is_root() {
        return c;
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    c.with(|c| {
        config::set_namespace(c, "user", None);
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        c["linux"]["resources"] = json!({});
        for mount in c["mounts"].as_array_mut().expect("mounts") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    })
}

fn sleeper() -> Container {
    container("trap 'exit 0' TERM; while :; do sleep 0.05; done")
}

fn scope(c: &Container) -> String {
    format!("t-{}.scope", c.id)
}

fn read(directory: &Path, file: &str) -> String {
    let text = fs::read_to_string(directory.join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}")).trim_end().to_owned()
}

/// systemd forgets a unit when it gets round to it.
#[track_caller]
fn is_forgotten(unit: &str) {
    let gone = within(Duration::from_secs(5), || {
        (property(unit, "LoadState") == "not-found").then_some(())
    });
    assert!(gone.is_some(), "{}", systemctl(&["status", unit]));
}

#[test]
fn a_life_in_a_scope() {
    systemd!();
    let c = sleeper();
    c.create();
    let unit = scope(&c);
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), slice());
    assert_eq!(property(&unit, "Delegate"), "yes");
    let directory = cgroup(&unit);
    assert_eq!(read(&directory, "cgroup.procs"), c.pid().to_string());
    c.start();
    let exec = c.exec_call(&["--detach", "--pid-file", &c.path("pid")], &["sleep", "1000"]);
    exec.done().ok();
    let pid = fs::read_to_string(c.path("pid")).expect("a pid");
    let pids = read(&directory, "cgroup.procs");
    assert!(pids.lines().any(|line| line == pid), "{pid} is not among {pids:?}");
    c.call(&["pause", &c.id]).done().ok();
    assert_eq!(c.status(), "paused");
    c.call(&["resume", &c.id]).done().ok();
    c.kill("KILL").ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    is_forgotten(&unit);
    c.assert_nothing_left();
}

#[test]
fn an_end_of_its_own() {
    systemd!();
    let c = container("exit 7");
    assert_eq!(c.run().code, 7);
    is_forgotten(&scope(&c));
}

#[test]
fn delete_by_force() {
    systemd!();
    let c = sleeper();
    c.create().start();
    c.delete().ok();
    is_forgotten(&scope(&c));
    c.assert_nothing_left();
}

#[test]
fn the_cgroup_namespace_begins_at_the_scope() {
    systemd!();
    let c =
        container("grep ^0:: /proc/self/cgroup").with(|c| config::set_namespace(c, "cgroup", None));
    assert_eq!(c.run().ok().out, "0::/\n");
    is_forgotten(&scope(&c));
}

/// Ended by us, also where systemd is too busy to see an empty cgroup.
#[test]
fn short_lives_while_units_are_reloaded() {
    systemd!();
    let all: Vec<Container> = (0..4).map(|_| container("exit 0")).collect();
    let mut reloads = Command::new("sh");
    let whose = if is_root() { "--system" } else { "--user" };
    let script = "while :; do systemctl $0 daemon-reload; done";
    let mut reloads = reloads.args(["-c", script, whose]).spawn().expect("sh");
    let runs: Vec<Outcome> = all.iter().map(|c| c.run_call(&[]).done()).collect();
    reloads.kill().expect("kill");
    reloads.wait().expect("wait");
    for run in runs {
        run.exits(0);
    }
    for c in &all {
        is_forgotten(&scope(c));
    }
}

#[test]
fn without_a_path_the_unit_has_the_containers_name() {
    davit_alone!("the prefix is davit's own");
    systemd!();
    let c = sleeper().with(|c| {
        c["linux"].as_object_mut().expect("an object").remove("cgroupsPath");
    });
    c.create();
    let unit = format!("davit-{}.scope", c.id);
    let usual = if is_root() { "system.slice" } else { "user.slice" };
    assert_eq!(property(&unit, "Slice"), usual);
    assert_eq!(property(&unit, "Description"), format!("davit container {}", c.id));
    c.delete().ok();
    is_forgotten(&unit);
}

#[test]
fn slices_below_slices() {
    systemd!();
    let c = sleeper();
    let path = format!("test-a-b.slice:t:{}", c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = path.into());
    c.create();
    let expected = format!("test.slice/test-a.slice/test-a-b.slice/{}", scope(&c));
    assert!(cgroup(&scope(&c)).ends_with(expected), "{:?}", cgroup(&scope(&c)));
    c.delete().ok();
    systemctl(&["stop", "test-a.slice"]);
}

#[test]
fn a_slice_instead_of_a_scope() {
    davit_alone!("the peers leave the process where it is, or the slice when they are done");
    systemd!();
    let c = sleeper();
    let unit = format!("test-{}.slice", c.id.replace('-', "_"));
    let path = format!("test.slice::{unit}");
    let c = c.with(|c| c["linux"]["cgroupsPath"] = path.into());
    c.create();
    assert_eq!(read(&cgroup(&unit), "cgroup.procs"), c.pid().to_string());
    let directory = cgroup(&unit);
    c.delete().ok();
    assert!(!directory.exists());
    assert_ne!(property(&unit, "ActiveState"), "active");
}

/// Limits in config.json, the files that say them, and the properties.
const LIMITS: [(&str, &str, &str, &str); 9] = [
    ("memory.max", "67108864", "MemoryMax", "67108864"),
    ("memory.low", "33554432", "MemoryLow", "33554432"),
    ("memory.high", "62914560", "MemoryHigh", "62914560"),
    ("memory.swap.max", "0", "MemorySwapMax", "0"),
    ("cpu.weight", "59", "CPUWeight", "59"),
    ("cpu.max", "50000 200000", "CPUQuotaPerSecUSec", "250ms"),
    ("cpuset.cpus", "0", "AllowedCPUs", "0"),
    ("cpuset.mems", "0", "AllowedMemoryNodes", "0"),
    ("pids.max", "50", "TasksMax", "50"),
];

fn limited() -> Container {
    sleeper().with(|c| {
        c["linux"]["resources"]["memory"] =
            json!({ "limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20 });
        c["linux"]["resources"]["cpu"] =
            json!({ "shares": 512, "quota": 50000, "period": 200000, "cpus": "0", "mems": "0" });
        c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        c["linux"]["resources"]["unified"] = json!({ "memory.high": "62914560" });
    })
}

#[track_caller]
fn check_files(directory: &Path) {
    for (file, value, ..) in LIMITS {
        assert_eq!(read(directory, file), value, "{file}");
    }
}

#[test]
fn limits_are_written_and_told() {
    systemd!();
    skip_if!(host::missing_controllers());
    let c = limited();
    c.create().start();
    let unit = scope(&c);
    check_files(&cgroup(&unit));
    for (.., name, value) in LIMITS {
        assert_eq!(property(&unit, name), value, "{name}");
    }
    // systemd writes what it knows once more.
    systemctl(&["daemon-reload"]);
    systemctl(&["set-property", "--runtime", &unit, "IOWeight=100"]);
    check_files(&cgroup(&unit));
    c.delete().ok();
}

#[test]
fn an_update_is_told_too() {
    systemd!();
    skip_if!(host::missing_controllers());
    let c = limited();
    c.create().start();
    let (unit, directory) = (scope(&c), cgroup(&scope(&c)));
    let update = |options: &[&str]| {
        let words: Vec<&str> =
            ["update"].into_iter().chain(options.iter().copied()).chain([c.id.as_str()]).collect();
        c.call(&words).done()
    };
    let memory = (128 << 20).to_string();
    update(&["--memory", &memory, "--memory-swap", &memory, "--cpu-quota", "30000"]).ok();
    for _ in 0..2 {
        assert_eq!(read(&directory, "memory.max"), memory);
        assert_eq!(read(&directory, "cpu.max"), "30000 200000");
        assert_eq!(read(&directory, "pids.max"), "50");
        systemctl(&["daemon-reload"]);
        systemctl(&["set-property", "--runtime", &unit, "CPUWeight=70", "MemoryLow=1M"]);
    }
    assert_eq!(property(&unit, "MemoryMax"), memory);
    assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "150ms");
    update(&["--pids-limit", "60", "--cpu-share", "1024"]).ok();
    assert_eq!(property(&unit, "TasksMax"), "60");
    assert_eq!(
        (read(&directory, "pids.max"), read(&directory, "cpu.weight")),
        ("60".into(), "100".into())
    );
    c.delete().ok();
}

#[test]
fn a_refused_update_changes_nothing() {
    davit_alone!("the peers leave it half done");
    systemd!();
    skip_if!(host::missing_controllers());
    let c = limited();
    c.create().start();
    let resources = json!({ "pids": { "limit": 70 }, "unified": { "memory.high": "much" } });
    fs::write(c.path("resources"), resources.to_string()).expect("write");
    let update = c.call(&["update", "--resources", &c.path("resources"), &c.id]).done();
    update.refuses(&["memory.high"]);
    check_files(&cgroup(&scope(&c)));
    assert_eq!(property(&scope(&c), "TasksMax"), "50");
    c.delete().ok();
}

#[test]
fn device_rules_outlive_a_reload() {
    spec!();
    systemd!();
    let c = sleeper().with(|c| {
        config::set_capabilities(c, &["CAP_MKNOD", "CAP_SYSLOG"]);
        c["linux"]["resources"]["devices"] = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
        ]);
    });
    c.create().start();
    c.ask("mknod /tmp/mem c 1 1; mknod /tmp/kmsg c 1 11");
    for reload in [&["daemon-reload"][..], &["show", "-p", "Version"]] {
        let script = "head -c 1 /tmp/mem 2>&1 | tail -1; : </tmp/kmsg && : >/dev/null && echo open";
        let out = c.ask(script);
        assert!(out.contains("Operation not permitted") && out.ends_with("open\n"), "{out}");
        systemctl(reload);
        // What makes systemd look at the unit again.
        systemctl(&["set-property", "--runtime", &scope(&c), "TasksMax=1000"]);
    }
    c.delete().ok();
}

/// Both filters have to agree, also after an update that puts ours in the place of ours.
#[test]
fn an_administrators_device_policy_stays() {
    spec!();
    davit_alone!("the peers have no option for device rules");
    systemd!();
    let c = sleeper().with(|c| {
        config::set_capabilities(c, &["CAP_SYSLOG"]);
        c["annotations"] = json!({ "org.systemd.property.DevicePolicy": "'closed'" });
    });
    // systemd's filter denies the making of nodes as well.
    let node = c.rootfs().join("kmsg");
    let made = Command::new("mknod").arg(&node).args(["c", "1", "11"]).status();
    assert!(made.is_ok_and(|status| status.success()), "mknod");
    c.create().start();
    for _ in 0..2 {
        let out = c.ask("(: </kmsg) 2>&1; : >/dev/null && echo null");
        assert!(out.contains("Operation not permitted") && out.ends_with("null\n"), "{out}");
        c.call(&["update", "--device-allow", "c 1:11 r", &c.id]).done().ok();
    }
    c.delete().ok();
}

#[test]
fn annotations_are_properties() {
    systemd!();
    let c = sleeper().with(|c| {
        c["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 10000000",
            "org.systemd.property.KillSignal": "15",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
        });
    });
    c.create();
    let unit = scope(&c);
    assert_eq!(property(&unit, "TimeoutStopUSec"), "10s");
    assert_eq!(property(&unit, "KillSignal"), "15");
    assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
    c.delete().ok();
}

#[test]
fn annotations_that_are_none_are_refused() {
    davit_alone!("the peers override what they set themselves");
    systemd!();
    for (name, value, reason) in [
        ("KillSignal", "fifteen", "is not a value"),
        ("Slice", "'x.slice'", "is set from the rest of config.json"),
        ("NoSuchProperty", "true", "NoSuchProperty"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let c = sleeper().with(|c| c["annotations"] = json!({ key: value }));
        c.run().refuses(&[reason]);
        is_forgotten(&scope(&c));
    }
}

#[test]
fn a_failed_unit_of_that_name_gives_way() {
    systemd!();
    let c = container("echo fine");
    let unit = format!("--unit={}", scope(&c));
    let user = if is_root() { "--system" } else { "--user" };
    let words = [user, "--scope", "-p", "RuntimeMaxSec=1", &unit, "sleep", "100"];
    Command::new("systemd-run").args(words).output().expect("systemd-run");
    let failed = within(Duration::from_secs(10), || {
        (property(&scope(&c), "ActiveState") == "failed").then_some(())
    });
    assert!(failed.is_some());
    assert_eq!(c.run().ok().out, "fine\n");
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    davit_alone!("runc takes it for its own");
    systemd!();
    let c = container("echo fine");
    let unit = format!("--unit={}", scope(&c));
    let user = if is_root() { "--system" } else { "--user" };
    let words = [user, "--scope", "--slice=other.slice", &unit, "sleep", "1000"];
    let mut other = Command::new("systemd-run").args(words).spawn().expect("systemd-run");
    let is_active = || property(&scope(&c), "ActiveState") == "active";
    assert!(within(Duration::from_secs(10), || is_active().then_some(())).is_some());
    let run = c.run_call(&[]).done();
    let active = is_active();
    systemctl(&["stop", &scope(&c)]);
    other.wait().expect("wait");
    run.refuses(&["StartTransientUnit", "file exists"]);
    assert!(active, "it was stopped");
}

#[test]
fn wrong_forms_of_the_path() {
    davit_alone!("the words are ours");
    systemd!();
    for path in ["/a/b", "a.slice:b", "a:b:c", "a.slice:b:c/d"] {
        let c = sleeper().with(|c| c["linux"]["cgroupsPath"] = path.into());
        c.run().refuses(&["linux.cgroupsPath"]);
    }
}

/// The unit is in the record before it is made.
#[test]
fn a_runtime_that_is_killed_leaves_nothing() {
    davit_alone!("the peers leave the scope, or init");
    systemd!();
    let c = sleeper().with(|c| {
        c["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "3"] }] });
    });
    let create = c.create_call(&[]).spawn();
    let is_there = || !leftovers::cgroups(&scope(&c)).is_empty();
    assert!(within(Duration::from_secs(10), || is_there().then_some(())).is_some());
    create.signal(nix::sys::signal::Signal::SIGKILL);
    create.wait();
    c.delete().ok();
    is_forgotten(&scope(&c));
    c.assert_nothing_left();
}

#[test]
fn explain_tells_of_the_unit() {
    davit_alone!("the peers have no explain");
    systemd!();
    skip_if!(host::missing_controllers());
    let c = limited();
    c.write();
    let explain = c.call(&["explain", &c.path("bundle")]).done().ok();
    for words in [scope(&c).as_str(), "MemoryMax=67108864", "Delegate=true"] {
        assert!(explain.out.contains(words), "{words}: {}", explain.out);
    }
    assert_eq!(property(&scope(&c), "LoadState"), "not-found");
}
