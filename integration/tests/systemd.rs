//! The systemd driver, with a real systemd: root with the system's, an unprivileged user with his
//! own.

use std::fs;
use std::process::Command;
use std::time::Duration;

use integration::call::within;
use integration::systemd::{
    cgroup, container, is_root, property, read, scope, sleeper, slice, systemctl,
};
use integration::*;

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
    davit_alone!("other runtimes leave the process where it is, or the slice when they are done");
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

/// B3: the lock is that of a `run` which hangs.
#[test]
fn delete_by_force_without_the_lock() {
    davit_alone!("other runtimes wait for the hook");
    systemd!();
    for stopped in [false, true] {
        let c = sleeper().with(|c| {
            // Longer than `delete` waits for the lock; `run` waits for its end.
            let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "5"] });
            c["hooks"] = json!({ "createRuntime": [hook] });
        });
        let run = c.run_call(&[]).spawn();
        let is_creating = || {
            let state = c.call(&["state", &c.id]).done();
            (state.code == 0 && state.json()["pid"] != 0).then_some(())
        };
        assert!(within(Duration::from_secs(10), is_creating).is_some());
        if stopped {
            run.signal(nix::sys::signal::Signal::SIGSTOP);
        }
        c.delete().ok();
        is_forgotten(&scope(&c));
        run.signal(nix::sys::signal::Signal::SIGCONT);
        run.wait().fails();
        c.assert_nothing_left();
    }
}

/// B12
#[test]
fn exec_at_the_limit_of_pids() {
    davit_alone!("other runtimes fail in some of the tries");
    systemd!();
    skip_if!(host::missing_controllers());
    let c = container("exec sleep 1000");
    let c = c.with(|c| c["linux"]["resources"]["pids"] = json!({ "limit": 50 }));
    c.create().start();
    let directory = cgroup(&scope(&c));
    for max in ["2", "1"] {
        fs::write(directory.join("pids.max"), max).expect("write");
        for _ in 0..5 {
            assert_eq!(c.exec(&["/bin/busybox", "echo", "in"]).ok().out, "in\n", "pids.max {max}");
        }
    }
    c.delete().ok();
}

/// B16: systemd removes a scope as soon as it is empty, perhaps while it is killed.
#[test]
fn a_scope_that_goes_while_it_is_killed_has_gone() {
    davit_alone!("other runtimes write to other files");
    systemd!();
    skip_if!(fixture::missing(&["strace"]));
    let c = container("sleep 0.1; echo fine");
    let late = "inject=write:delay_enter=400000";
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", late];
    assert_eq!(c.through_with_bundle(&strace, "run", &[]).done().ok().out, "fine\n");
    assert!(c.call(&["state", &c.id]).done().fails().err.contains("does not exist"));
    is_forgotten(&scope(&c));
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

/// Both filters have to allow an access, also after an update that replaces davit's filter.
#[test]
fn an_administrators_device_policy_stays() {
    spec!();
    davit_alone!("other runtimes have no option for device rules");
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
    davit_alone!("other runtimes override what they set themselves");
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
    davit_alone!("its own messages");
    systemd!();
    for path in ["/a/b", "a.slice:b", "a:b:c", "a.slice:b:c/d"] {
        let c = sleeper().with(|c| c["linux"]["cgroupsPath"] = path.into());
        c.run().refuses(&["linux.cgroupsPath"]);
    }
}

/// The unit is in the record before it is made.
#[test]
fn a_runtime_that_is_killed_leaves_nothing() {
    davit_alone!("other runtimes leave the scope, or init");
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
