//! An unprivileged user with a session of his own: systemd has given him a part of the cgroup v2
//! tree, with controllers.

use std::fs;
use std::path::Path;

use integration::*;

/// The part of the tree that belongs to this user's manager, such as
/// `/user.slice/user-1000.slice/user@1000.service`.
fn delegated() -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let (before, _) = own.strip_prefix("0::")?.split_once(".service/")?;
    before.contains("/user@").then(|| format!("{before}.service"))
}

/// Ends the test where this is no session of an unprivileged user.
macro_rules! session {
    () => {
        pure_v2!();
        skip_if!(nix::unistd::geteuid().is_root().then_some("needs an unprivileged user"));
        skip_if!(delegated().is_none().then_some("needs a session with a delegated cgroup"));
    };
}

/// A container in the user's own part of the tree.
fn container(script: &str) -> Container {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let c = Container::sh(script).with(|c| {
        config::set_namespace(c, "user", None);
        config::set_namespace(c, "cgroup", None);
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        // Only root may attach a program for devices.
        c["linux"]["resources"] = json!({});
        for mount in c["mounts"].as_array_mut().expect("mounts") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    });
    let path = format!("{}/{}", delegated().expect("a session"), c.id);
    c.with(|c| c["linux"]["cgroupsPath"] = path.into())
}

#[test]
fn limits() {
    session!();
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.weight cpuset.cpus";
    let c = container(script).with(|c| {
        c["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20 }, "pids": { "limit": 99 }, "cpu": { "shares": 1024, "cpus": "0" }
        });
    });
    assert_eq!(c.run().ok().out, "67108864\n99\n100\n0\n");
}

#[test]
fn they_bite() {
    session!();
    let c = container("exec tail -c 90000000 /dev/zero").with(|c| {
        c["linux"]["resources"]["memory"] = json!({ "limit": 20 << 20, "swap": 20 << 20 })
    });
    c.run().exits(137);
}

#[test]
fn life() {
    session!();
    let c = container("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    c.create().start();
    assert_eq!(c.ask("cat /proc/self/cgroup"), "0::/\n");
    c.call(&["update", "--pids-limit", "50", &c.id]).done().ok();
    assert_eq!(c.ask("cat /sys/fs/cgroup/pids.max"), "50\n");
    c.call(&["pause", &c.id]).done().ok();
    assert_eq!(c.status(), "paused");
    c.call(&["resume", &c.id]).done().ok();
    if runtime::runtime().name != "crun" {
        let stats = c.call(&["events", "--stats", &c.id]).done().ok().json();
        assert_eq!(stats["data"]["pids"]["limit"], 50);
    }
    c.delete().ok();
    c.assert_nothing_left();
}

/// All of the tree below is killed, without a pid namespace that would do it.
#[test]
fn the_whole_tree_is_killed() {
    session!();
    let c = container("setsid sleep 1000 & setsid sleep 1000 & while :; do sleep 0.05; done")
        .with(|c| config::drop_namespace(c, "pid"))
        .with(|c| config::drop_mount(c, "/proc"));
    c.create().start();
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn a_part_of_the_tree_that_is_not_ours() {
    session!();
    let c = container("true").with(|c| {
        c["linux"]["cgroupsPath"] = "/system.slice/davit-test-not-ours".into();
        c["linux"]["resources"] = json!({ "pids": { "limit": 5 } });
    });
    c.run().fails();
    assert!(!Path::new("/sys/fs/cgroup/system.slice/davit-test-not-ours").exists());
}
