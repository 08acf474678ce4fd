//! A pure cgroup v2 tree, made in a mount namespace: paths, the device program, the namespace. A
//! hybrid host has no v2 controllers but hugetlb, so limits are for the virtual machine.

use std::fs;

use integration::*;

fn v2(script: &str) -> Container {
    Container::sh(script).by(&host::PURE_V2)
}

macro_rules! needs_v2 {
    () => {
        fails_with!("crun", "wants to raise RLIMIT_MEMLOCK");
        skip_if!(
            (!std::path::Path::new("/sys/fs/cgroup/unified").exists()
                && !host::has_pure_cgroup_v2())
            .then_some("no cgroup v2 here")
        )
    };
}

#[test]
fn one_path() {
    spec!();
    needs_v2!();
    let c = v2(
        "grep ^0:: /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1",
    );
    let run = c.run().ok();
    assert_eq!(run.out, format!("0::/{}\ncgroup2\n", c.id));
}

/// C15: a cgroup2 that is mounted somewhere is not the host's, where others are below
/// /sys/fs/cgroup; without any it is taken, and that is said.
#[test]
fn a_tree_mounted_elsewhere() {
    davit_only!("other runtimes know of /sys/fs/cgroup alone");
    cgroup_v1!();
    needs_v2!();
    let at = tempfile::tempdir().expect("mkdir");
    let at = at.path().to_str().expect("utf-8");
    let call = |umount: &str| {
        let script = format!("{umount} && mount -t cgroup2 none {at} && exec \"$@\"");
        let prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
        let c = Container::sh("grep ^0:: /proc/self/cgroup").by(&prefix);
        let log = c.path("log");
        let c = c.global(&["--log", &log, "--log-level", "warning"]);
        let run = c.run().ok();
        (run.out.contains(&c.id), fs::read_to_string(log).unwrap_or_default())
    };
    let (taken, warnings) = call("umount /sys/fs/cgroup/unified");
    assert!(!taken && !warnings.contains(at), "{warnings}");
    let (taken, warnings) = call("umount -R /sys/fs/cgroup");
    assert!(taken && warnings.contains(&format!("the one at {at} is used")), "{warnings}");
}

/// C17: every controller that the host offers, whatever limits there are: a later update needs its
/// files.
#[test]
fn all_controllers_are_enabled() {
    davit_only!("runc enables them too, but leaves the cgroup above behind; crun leaves some out");
    needs_v2!();
    let c = v2("exec sleep 60");
    // The host's root may have given them to its children already.
    let path = format!("/{0}/inner-{0}", c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = json!(path));
    c.create();
    let top = if host::has_pure_cgroup_v2() { "" } else { "/unified" };
    let controllers = |path: &str| {
        let file = format!("/sys/fs/cgroup{top}{path}/cgroup.controllers");
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    assert_eq!(controllers(&path), controllers(""));
}

#[test]
fn life_and_exec() {
    spec!();
    needs_v2!();
    let c = v2("setsid sleep 1000 & while :; do sleep 0.05; done");
    c.create().start();
    assert_eq!(c.ask("grep ^0:: /proc/self/cgroup"), format!("0::/{}\n", c.id));
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn delete_kills_a_tree() {
    spec!();
    fails_with!("runc", "1.1 leaves the tree");
    needs_v2!();
    let c = v2("while :; do sleep 0.05; done").with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    c.exec_with(&["--detach", "--pid-file", &c.path("pid")], &["sleep", "1000"]).ok();
    let pid = fs::read_to_string(c.path("pid")).expect("pid");
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(std::path::Path::new)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists())
        .expect("v2");
    let below = unified.join(&c.id).join("a/b");
    fs::create_dir_all(&below).expect("mkdir");
    fs::write(below.join("cgroup.procs"), pid.trim()).expect("move");
    c.delete().exits(0);
    c.assert_nothing_left();
}

#[test]
fn the_device_program_decides() {
    spec!();
    needs_v2!();
    let script = "cat /dev/zero | head -c 2 | wc -c; mknod /tmp/mem c 1 1; head -c 1 /tmp/mem 2>&1 | tail -1; \
                  mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg >/dev/null 2>&1; echo $?; (echo davit >/tmp/kmsg) 2>&1 | tail -1; \
                  mknod /tmp/blk b 7 0; (head -c 1 /tmp/blk) 2>&1 | tail -1";
    let c = v2(script).with(|c| {
        config::set_capabilities(c, &["CAP_MKNOD", "CAP_SYSLOG"]);
        c["linux"]["resources"]["devices"] = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
        ]);
    });
    let run = c.run();
    let lines = run.lines();
    assert_eq!(lines[0], "2", "{run:#?}");
    for line in [lines[1], lines[3], lines[4]] {
        assert!(line.contains("Operation not permitted"), "{run:#?}");
    }
}

#[test]
fn denied_nodes_cannot_be_made() {
    davit_only!(
        "the other runtimes' default rules allow mknod of anything, as do davit's, unless denied"
    );
    needs_v2!();
    let script =
        "mknod /tmp/loop b 7 0 2>/dev/null || echo refused; mknod /tmp/mem c 1 1 && echo made";
    let c = v2(script).with(|c| {
        config::set_capabilities(c, &["CAP_MKNOD"]);
        c["linux"]["resources"]["devices"] = json!([
            { "allow": true, "access": "rwm" },
            { "allow": false, "type": "b", "access": "m" },
        ]);
    });
    assert_eq!(c.run().ok().out, "refused\nmade\n");
}

/// While one program takes the place of another, none of the two ever lacks.
#[test]
fn an_update_leaves_no_moment_without_a_program() {
    davit_only!("other runtimes have no option for device rules");
    needs_v2!();
    let script = "mknod /kmsg c 1 11; n=0; while :; do n=$((n + 1)); (: </kmsg) 2>/dev/null && echo open; \
                  echo $n >/count; done";
    let c = v2(script).with(|c| config::set_capabilities(c, &["CAP_MKNOD", "CAP_SYSLOG"]));
    c.create().start();
    let count = || {
        let text = fs::read_to_string(c.rootfs().join("count")).unwrap_or_default();
        text.trim().parse::<u32>().unwrap_or(0)
    };
    let until = |more: u32| {
        let there = || (count() >= more).then_some(());
        assert!(call::within(call::DEADLINE, there).is_some(), "it does not try");
    };
    until(1);
    let before = count();
    for _ in 0..10 {
        for option in ["--device-allow", "--device-deny"] {
            c.call(&["update", option, "c 10:229 rw", &c.id]).done().ok();
        }
    }
    until(before + 20);
    assert_eq!(c.output(), "", "it could be opened");
    // The same with a program that allows it.
    c.call(&["update", "--device-allow", "c 1:11 r", &c.id]).done().ok();
    c.until_output("open");
}

#[test]
fn the_program_holds_for_exec() {
    spec!();
    needs_v2!();
    let c =
        v2("while :; do sleep 0.05; done").with(|c| config::set_capabilities(c, &["CAP_MKNOD"]));
    c.create().start();
    let run = c.exec(&["sh", "-c", "mknod /tmp/mem c 1 1; head -c 1 /tmp/mem 2>&1 | tail -1"]);
    assert!(run.out.contains("Operation not permitted"), "{run:?}");
}

#[test]
fn cgroup_namespace_and_a_writable_mount() {
    spec!();
    needs_v2!();
    let c = v2(
        "cat /proc/self/cgroup | grep ^0::; mkdir /sys/fs/cgroup/sub && ls -d /sys/fs/cgroup/sub",
    )
    .with(|c| {
        config::set_namespace(c, "cgroup", None);
        config::drop_mount(c, "/sys/fs/cgroup");
        config::add_mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    });
    assert_eq!(c.run().ok().out, "0::/\n/sys/fs/cgroup/sub\n");
}

#[test]
fn the_cgroup_belongs_to_root_of_the_user_namespace() {
    spec!();
    needs_v2!();
    fails_with!("runc", "1.1 does so with the systemd driver alone");
    let c = v2("stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/sub && echo made").with(|c| {
        config::set_userns(c, 100_000, 65536);
        config::set_namespace(c, "cgroup", None);
        config::drop_mount(c, "/sys/fs/cgroup");
        config::add_mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    });
    assert_eq!(c.run().ok().out, "0\n0\nmade\n");
}

/// C7: without a cgroup namespace /proc/self/cgroup names a path in the host's tree, which is
/// there.
#[test]
fn without_a_cgroup_namespace_the_whole_tree_is_there() {
    spec!();
    needs_v2!();
    let script = "cd /sys/fs/cgroup$(grep ^0:: /proc/self/cgroup | cut -d: -f3) && grep -qx 1 cgroup.procs && \
                  echo here; test -e /sys/fs/cgroup/cgroup.type || echo root; \
                  mkdir /sys/fs/cgroup/sub 2>/dev/null || echo read-only";
    let everything = "here\nroot\nread-only\n";
    assert_eq!(v2(script).run().ok().out, everything);
    let c = v2(script).with(|c| config::set_userns(c, 100_000, 65536));
    assert_eq!(c.run().ok().out, everything);
}

#[test]
fn without_a_cgroup_namespace_a_user_namespace_may_not_write() {
    spec!();
    needs_v2!();
    // CVE-2023-25809.
    let c = v2("mkdir /sys/fs/cgroup/sub 2>/dev/null || echo refused").with(|c| {
        config::set_userns(c, 100_000, 65536);
        config::drop_mount(c, "/sys/fs/cgroup");
        config::add_mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    });
    assert_eq!(c.run().ok().out, "refused\n");
}

#[test]
fn a_missing_controller_is_named() {
    davit_only!("other runtimes name the file, or nothing");
    needs_v2!();
    skip_if!(host::has_pure_cgroup_v2().then_some("all controllers are here"));
    for (resources, says) in [
        (json!({ "memory": { "limit": 1 << 26 } }), "memory"),
        (json!({ "cpu": { "shares": 512 } }), "cpu"),
        (json!({ "cpu": { "cpus": "0" } }), "cpuset"),
        (json!({ "pids": { "limit": 5 } }), "pids"),
        (json!({ "blockIO": { "weight": 500 } }), "io"),
        (json!({ "unified": { "memory.high": "100000000" } }), "memory"),
        (json!({ "network": { "classID": 1 } }), "linux.resources.network"),
        (json!({ "memory": { "swappiness": 1 } }), "linux.resources.memory.swappiness"),
        (json!({ "cpu": { "realtimeRuntime": 1 } }), "linux.resources.cpu.realtimeRuntime"),
    ] {
        let c = v2("true").with(|c| {
            for (key, value) in resources.as_object().expect("an object") {
                c["linux"]["resources"][key] = value.clone();
            }
        });
        let run = c.run();
        assert_ne!(run.code, 0, "{resources} is accepted");
        run.refuses(&["linux.resources", says]);
    }
}

#[test]
fn wrong_unified_keys_are_refused() {
    davit_only!("youki once wrote ../cgroup.max.depth");
    needs_v2!();
    for key in ["../cgroup.max.depth", "a/b", "", ".", "..", "nodot"] {
        let c = v2("true").with(|c| c["linux"]["resources"]["unified"] = json!({ key: "1" }));
        c.run().refuses(&["linux.resources.unified"]);
    }
}

#[test]
fn unified_files_are_written() {
    spec!();
    needs_v2!();
    // Core files need no controller.
    let c = v2("while :; do sleep 0.05; done")
        .with(|c| c["linux"]["resources"]["unified"] = json!({ "cgroup.max.depth": "3" }));
    let create = c.create_call(&[]).done();
    if runtime::runtime().is_davit() {
        let _ = create.ok();
        let path = leftovers::cgroups(&c.id)
            .into_iter()
            .find(|path| path.join("cgroup.max.depth").exists())
            .expect("v2");
        assert_eq!(fs::read_to_string(path.join("cgroup.max.depth")).expect("depth").trim(), "3");
    }
}
