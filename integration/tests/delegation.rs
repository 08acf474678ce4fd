//! Containers that own their cgroup on v2: sub-cgroups of their own, systemd as their init, and who
//! may come in.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration::limits::directory;
use integration::*;

const OWN_CGROUP: &[&str] = &["rw", "nosuid", "nodev", "noexec"];

fn with_own_cgroup(config: &mut Value) {
    config::set_namespace(config, "cgroup", None);
    config::drop_mount(config, "/sys/fs/cgroup");
    config::add_mount(config, "/sys/fs/cgroup", "cgroup", "cgroup", OWN_CGROUP);
}

fn owns_its_cgroup(script: &str) -> Container {
    Container::sh(script).with(|c| {
        with_own_cgroup(c);
        c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    })
}

/// As systemd does as a container's init: the cgroup that exec would join has no processes any
/// more, and may have none.
#[test]
fn exec_when_init_has_moved_on() {
    spec!();
    pure_v2!();
    let c = owns_its_cgroup(
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory >cgroup.subtree_control; \
         echo moved; trap 'exit 0' TERM; while :; do sleep 0.05; done",
    );
    c.create().start();
    c.until_output("moved");
    assert_eq!(c.ask("cat /proc/self/cgroup"), "0::/init\n", "beside init");
    assert_eq!(c.output(), "moved\n");
    c.delete().ok();
    c.assert_nothing_left();
}

/// Where nothing forbids it, exec is at the top of the container's cgroup, wherever init is.
#[test]
fn exec_is_at_the_top_where_it_can() {
    davit_only!("runc goes where init is");
    pure_v2!();
    let c = owns_its_cgroup(
        "cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs; echo moved; \
         trap 'exit 0' TERM; while :; do sleep 0.05; done",
    );
    c.create().start();
    c.until_output("moved");
    assert_eq!(c.ask("cat /proc/self/cgroup"), "0::/\n");
}

#[test]
fn exec_into_a_sub_cgroup() {
    davit_only!("its own messages");
    pure_v2!();
    let c = owns_its_cgroup("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    c.create().start();
    c.exec_with(&["--cgroup", "below/it"], &["true"]).refuses(&["below/it"]);
    c.ask("mkdir -p /sys/fs/cgroup/below/it");
    let own = ["cat", "/proc/self/cgroup"];
    for path in ["below/it", "/below/it"] {
        assert_eq!(c.exec_with(&["--cgroup", path], &own).ok().out, "0::/below/it\n");
    }
    for escape in ["..", "below/../.."] {
        c.exec_with(&["--cgroup", escape], &own).refuses(&["cgroup", ".."]);
    }
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn sub_cgroups_with_busy_processes_are_removed() {
    spec!();
    pure_v2!();
    let script = "cd /sys/fs/cgroup; for n in 1 2 3 4 5 6 7 8; do mkdir -p $n/$n; \
        (while :; do :; done) & echo $! >$n/$n/cgroup.procs; done; echo up; wait";
    let c = owns_its_cgroup(script).with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    c.until_output("up");
    c.delete().ok();
    c.assert_nothing_left();
}

/// A process that is put into a frozen cgroup stops; crun hangs there.
#[test]
fn a_frozen_cgroup_is_refused() {
    davit_only!("crun hangs, runc says something else");
    pure_v2!();
    let c = Container::new(&["true"]);
    let path = directory(&c);
    fs::create_dir(&path).expect("mkdir");
    fs::write(path.join("cgroup.freeze"), "1").expect("freeze");
    let run = c.run_call(&[]).within(Duration::from_secs(10)).done();
    let _ = fs::write(path.join("cgroup.freeze"), "0");
    let _ = fs::remove_dir(&path);
    run.refuses(&["frozen"]);
}

/// The processes in there are another program's: they are neither joined nor killed.
#[test]
fn a_cgroup_with_processes_is_refused() {
    davit_only!("other runtimes join it");
    pure_v2!();
    for below in ["", "below"] {
        let c = Container::new(&["true"]);
        let path = directory(&c).join(below);
        fs::create_dir_all(&path).expect("mkdir");
        let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
        fs::write(path.join("cgroup.procs"), other.id().to_string()).expect("move");
        let run = c.run_call(&[]).done();
        let lives = other.try_wait().expect("wait").is_none();
        other.kill().expect("kill");
        other.wait().expect("wait");
        leftovers::sweep(&c.id, Path::new("/nonexistent"));
        run.refuses(&["is busy", "has processes"]);
        assert!(lives, "it was killed");
    }
}

/// What podman gives a container by default, which is enough.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

fn with_systemd_inside() -> Container {
    let c = Container::new(&systemd_root::COMMAND).with(|c| {
        with_own_cgroup(c);
        config::set_capabilities(c, &CAPABILITIES);
        config::push(&mut c["process"]["env"], "container=davit".into());
        config::add_mount(c, "/usr", "bind", "/usr", &["bind", "ro"]);
        for place in ["/run", "/tmp"] {
            config::add_mount(c, place, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755"]);
        }
    });
    fs::remove_dir_all(c.rootfs()).expect("rm");
    c.with_files(systemd_root::make)
}

fn systemd_is_init(c: &Container) {
    c.create().start();
    let service = "cat /run/tested 2>/dev/null || true";
    let up = call::within(Duration::from_secs(20), || {
        let seen = c.ask(service);
        (!seen.is_empty()).then_some(seen)
    });
    // It has made cgroups, and moved itself out of the one it began in.
    assert_eq!(up.as_deref(), Some("0::/system.slice/tested.service\n"), "{}", c.output());
    assert_eq!(c.ask("cat /proc/1/cgroup"), "0::/init.scope\n");
    assert_eq!(c.ask("systemctl is-active tested.service"), "active\n");
    c.kill(systemd_root::STOP).ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}

#[test]
fn systemd_as_init() {
    spec!();
    pure_v2!();
    skip_if!(systemd_root::missing());
    systemd_is_init(&with_systemd_inside());
}

/// Root of the container is uid `nobody` here: it has to own the cgroup.
#[test]
fn systemd_as_init_in_a_user_namespace() {
    spec!();
    fails_with!("runc", "gives the cgroup away with the systemd driver alone");
    pure_v2!();
    skip_if!(systemd_root::missing());
    systemd_is_init(&with_systemd_inside().with(|c| config::set_userns(c, 100_000, 65536)));
}
