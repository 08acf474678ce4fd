//! The systemd driver: limits are files of the cgroup and properties of the unit.

use std::fs;
use std::path::Path;

use integration::systemd::{cgroup, property, read, scope, sleeper, systemctl};
use integration::*;

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
fn limits_are_written_and_declared() {
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
fn an_update_is_declared_too() {
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
    davit_alone!("other runtimes leave it half done");
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

/// B17: an idle cgroup has no weight, and the kernel refuses one.
#[test]
fn a_weight_together_with_idleness() {
    davit_alone!("other runtimes have no option for it");
    systemd!();
    skip_if!(host::missing_controllers());
    let c = limited();
    c.create().start();
    let (unit, directory) = (scope(&c), cgroup(&scope(&c)));
    let update = |options: &[&str]| c.call(&[&["update"], options, &[&c.id]].concat()).done();
    for _ in 0..2 {
        update(&["--cpu-share", "200", "--cpu-idle", "1"]).ok();
        assert_eq!(read(&directory, "cpu.idle"), "1");
        assert!(["0", "idle"].contains(&property(&unit, "CPUWeight").as_str()));
    }
    update(&["--cpu-share", "300", "--pids-limit", "60"]).refuses(&["an idle cgroup"]);
    assert_eq!(
        (read(&directory, "pids.max"), property(&unit, "TasksMax")),
        ("50".into(), "50".into())
    );
    update(&["--cpu-share", "512", "--cpu-idle", "0"]).ok();
    systemctl(&["set-property", "--runtime", &unit, "IOWeight=100"]);
    check_files(&directory);
    assert_eq!(read(&directory, "cpu.idle"), "0");
    c.delete().ok();

    let c = limited().with(|c| c["linux"]["resources"]["cpu"]["idle"] = 1.into());
    c.create().start();
    assert_eq!(read(&cgroup(&scope(&c)), "cpu.idle"), "1");
    c.delete().ok();
}

/// B17: an update that fails after the properties were set.
#[test]
fn properties_are_restored_after_a_failed_update() {
    davit_alone!("other runtimes leave it half done");
    systemd!();
    skip_if!(host::missing_controllers());
    skip_if!(fixture::missing(&["strace"]));
    let c = limited();
    c.create().start();
    let (unit, directory) = (scope(&c), cgroup(&scope(&c)));
    let file = directory.join("pids.max");
    // The second write comes after systemd's properties.
    let fail = "inject=write:error=EBUSY:when=2";
    let strace = ["strace", "-qq", "-o", "/dev/null", "-P", &file.to_string_lossy(), "-e", fail];
    for idle in [&["--cpu-idle", "1"][..], &["--cpu-share", "200"], &["--cpu-quota", "-1"]] {
        let words =
            [&["update", "--memory-reservation", "16m", "--pids-limit", "60"], idle, &[&c.id]];
        let update = c.call_through(&strace, &words.concat()).done();
        let changed = update.err.contains("changed");
        update.refuses(&["linux.resources.pids.limit", "pids.max"]);
        assert!(!changed, "the hint names what was restored");
        for reload in [&["show", "-p", "Version"][..], &["daemon-reload"]] {
            check_files(&directory);
            assert_eq!(read(&directory, "cpu.idle"), "0");
            for (.., name, value) in LIMITS {
                assert_eq!(property(&unit, name), value, "{name}");
            }
            systemctl(reload);
            systemctl(&["set-property", "--runtime", &unit, "IOWeight=100"]);
        }
    }
    c.delete().ok();
}

#[test]
fn explain_shows_the_unit() {
    davit_alone!("other runtimes have no explain");
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
