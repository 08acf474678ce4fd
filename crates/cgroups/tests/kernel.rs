//! On the real kernel, as root, in cgroups named `davit-test-*`: on all trees of this host
//! together, on its cgroup v2 tree alone and on its v1 trees alone. What this host lacks is said
//! and skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stderr)]
#![allow(unsafe_code, reason = "it makes processes straight in a cgroup (docs/decisions/0016)")]

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use davit_cgroups::{
    Applied, Cgroup, Context, Fault, Host, JoinFds, Layout, Op, Request, apply, plan,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The kinds of host that can be had here.
fn layouts() -> Vec<(&'static str, Layout)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skip: making cgroups needs root");
        return Vec::new();
    }
    let here = Layout::discover().unwrap();
    let v2 = Layout { unified: here.unified.clone(), hierarchies: Vec::new() };
    let v1 = Layout { unified: None, hierarchies: here.hierarchies.clone() };
    let mut found = Vec::new();
    for (name, layout) in [("v2", v2), ("v1", v1)] {
        if layout == Layout::default() {
            eprintln!("skip: this host has no cgroup {name}");
        } else {
            found.push((name, layout));
        }
    }
    if found.len() == 2 {
        found.push(("hybrid", here));
    }
    found
}

/// A container's cgroup that goes away with the test, whatever becomes of it.
struct Scene {
    ops: Vec<Op>,
    cgroup: Cgroup,
    host: Host,
    id: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.cgroup.thaw();
        let _ = self.cgroup.kill(soon());
        let _ = self.cgroup.remove(soon());
    }
}

impl Scene {
    fn new(test: &str, kind: &str, layout: &Layout, json: &str) -> Self {
        let id = format!("davit-test-{}-{test}-{kind}", std::process::id());
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let request = Request { resources: Some(&resources), id: &id, ..Request::default() };
        let host = Host { layout: layout.clone(), writable: true, ..Host::default() };
        let ops = plan(&request, &host).unwrap();
        Self { cgroup: Cgroup::planned(&ops), ops, host, id }
    }

    fn apply(&self) -> Applied {
        apply(&self.ops, &mut Context::default()).unwrap_or_else(|failure| {
            panic!("{}: {}", self.ops[failure.op], failure.error);
        })
    }

    /// The first process, which enters as the runtime's would.
    fn start(&self, body: impl FnMut() -> i32) -> Pid {
        spawn(&self.apply().into_join_fds(&self.cgroup).unwrap(), body)
    }

    fn directory(&self, controller: &str) -> Option<PathBuf> {
        let layout = &self.host.layout;
        let v1 = layout.hierarchy(controller).map(|tree| &tree.mountpoint);
        let v2 = layout.unified_with(controller).map(|tree| &tree.mountpoint);
        v1.or(v2).map(|mountpoint| mountpoint.join(&self.id))
    }

    fn file(&self, controller: &str, name: &str) -> String {
        let path = self.directory(controller).unwrap().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    fn is_gone(&self) -> bool {
        self.cgroup.members.iter().all(|member| !member.directory.exists())
    }
}

fn spawn(join: &JoinFds, mut body: impl FnMut() -> i32) -> Pid {
    let first_steps = || {
        for procs in &join.procs {
            if nix::unistd::write(procs, b"0") != Ok(1) {
                return 99;
            }
        }
        body()
    };
    let cgroup = join.into.as_ref().map(|fd| fd.as_fd());
    // SAFETY: a copy of the memory, in which the bodies of these tests neither allocate nor take a
    // lock.
    unsafe { davit_sys::clone::spawn(0, cgroup, first_steps) }.unwrap().pid
}

fn sleep() -> i32 {
    std::thread::sleep(Duration::from_secs(60));
    0
}

/// Becomes a program: prepared before, as a forked child of a threaded test must not allocate.
fn program(words: &[&str]) -> impl FnMut() -> i32 + use<> {
    let words: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
    move || {
        let _ = nix::unistd::execv(&words[0], &words);
        98
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, None).unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_whole_life() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("life", kind, &layout, "{}");
        let pid = scene.start(sleep);
        // The child may still be writing itself into the trees.
        let inside = || fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        until("joined", || inside().matches(&scene.id).count() == scene.cgroup.members.len());
        assert_eq!(scene.cgroup.procs().unwrap(), [pid.as_raw()]);

        assert!(!scene.cgroup.is_frozen().unwrap());
        scene.cgroup.freeze(soon()).unwrap();
        assert!(scene.cgroup.is_frozen().unwrap());
        scene.cgroup.thaw().unwrap();
        assert!(!scene.cgroup.is_frozen().unwrap());

        let deadline = Instant::now() + Duration::from_millis(50);
        let fault = scene.cgroup.remove(deadline).unwrap_err();
        assert!(
            matches!(&fault, Fault::Busy { pids, .. } if *pids == [pid.as_raw()]),
            "{kind}: {fault}"
        );

        // Killed while it is frozen, as `kill` of a paused container is.
        scene.cgroup.freeze(soon()).unwrap();
        scene.cgroup.kill(soon()).unwrap();
        assert_eq!(wait(pid), WaitStatus::Signaled(pid, Signal::SIGKILL, false));
        scene.cgroup.remove(soon()).unwrap();
        assert!(scene.is_gone(), "{kind}");
        scene.cgroup.remove(soon()).unwrap();
        scene.cgroup.kill(soon()).unwrap();
        assert!(scene.cgroup.procs().unwrap().is_empty());
    }
}

#[test]
fn remove_waits_for_processes_that_end() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("ends", kind, &layout, "{}");
        let pid = scene.start(|| {
            std::thread::sleep(Duration::from_millis(300));
            0
        });
        until("joined", || scene.cgroup.procs().unwrap() == [pid.as_raw()]);
        let reaper = std::thread::spawn(move || wait(pid));
        scene.cgroup.remove(soon()).unwrap();
        assert!(scene.is_gone(), "{kind}");
        assert_eq!(reaper.join().unwrap(), WaitStatus::Exited(pid, 0));
    }
}

#[test]
fn kill_reaches_every_process() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("many", kind, &layout, "{}");
        let script = "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait";
        let pid = scene.start(program(&["/bin/sh", "-c", script]));
        until("forked", || scene.cgroup.procs().unwrap().len() == 9);
        scene.cgroup.kill(soon()).unwrap();
        wait(pid);
        scene.cgroup.remove(soon()).unwrap();
        assert!(scene.is_gone(), "{kind}");
    }
}

/// Its maker was killed in between, or it left: `cgroup.kill` does not see it.
#[test]
fn kill_reaches_who_is_in_some_trees_only() {
    for (kind, layout) in layouts() {
        if kind != "hybrid" {
            continue;
        }
        let scene = Scene::new("some", kind, &layout, "{}");
        let mut join = scene.apply().into_join_fds(&scene.cgroup).unwrap();
        join.into = None;
        join.procs.truncate(1);
        let pid = spawn(&join, sleep);
        until("joined", || scene.cgroup.procs().unwrap() == [pid.as_raw()]);
        scene.cgroup.kill(soon()).unwrap();
        assert_eq!(wait(pid), WaitStatus::Signaled(pid, Signal::SIGKILL, false));
        scene.cgroup.remove(soon()).unwrap();
        assert!(scene.is_gone());
    }
}

#[test]
fn a_record_alone_removes_half_a_cgroup() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("half", kind, &layout, "{}");
        let half = scene.ops.len().div_ceil(2);
        apply(&scene.ops[..half.min(scene.cgroup.members.len())], &mut Context::default()).unwrap();
        assert!(scene.cgroup.members[0].directory.exists());
        let stored = serde_json::to_string(&scene.cgroup).unwrap();
        let record: Cgroup = serde_json::from_str(&stored).unwrap();
        record.kill(soon()).unwrap();
        record.remove(soon()).unwrap();
        assert!(scene.is_gone(), "{kind}");
    }
}

#[test]
fn sub_cgroups_are_joined_and_removed() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("subs", kind, &layout, "{}");
        let top = scene.start(sleep);
        for member in &scene.cgroup.members {
            fs::create_dir_all(member.directory.join("a/b")).unwrap();
            // A cpuset of v1 takes no process before it has cpus and nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if member.controllers.iter().any(|name| name == "cpuset") {
                    let value = fs::read_to_string(member.directory.join(file)).unwrap();
                    fs::write(member.directory.join("a").join(file), &value).unwrap();
                    fs::write(member.directory.join("a/b").join(file), &value).unwrap();
                }
            }
        }
        let refused = |sub: &str| scene.cgroup.join(&[sub.to_owned()]).unwrap_err().to_string();
        assert_eq!(refused("../x"), "cgroup \"../x\": `..` is not allowed");
        assert_eq!(refused("a/../.."), "cgroup \"a/../..\": `..` is not allowed");
        assert_eq!(refused("no"), "cgroup \"no\": does not exist in this container");
        assert_eq!(
            refused("nosuch:/a"),
            "cgroup \"nosuch:/a\": no tree of this container has that controller"
        );

        let below = spawn(&scene.cgroup.join(&["/a/b".to_owned()]).unwrap(), sleep);
        let path = format!("{}/a/b", scene.id);
        let inside = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        until("joined", || inside(below).matches(&path).count() == scene.cgroup.members.len());
        let mut both = [top.as_raw(), below.as_raw()];
        both.sort_unstable();
        assert_eq!(scene.cgroup.procs().unwrap(), both);

        if layout.unified.is_some() {
            let beside = scene.cgroup.join_next_to(below.as_raw()).unwrap();
            let third = spawn(&beside, sleep);
            until("joined", || inside(third).lines().any(|line| line.ends_with(&path)));
            nix::sys::signal::kill(third, Signal::SIGKILL).unwrap();
            wait(third);
        }
        scene.cgroup.kill(soon()).unwrap();
        wait(top);
        wait(below);
        scene.cgroup.remove(soon()).unwrap();
        assert!(scene.is_gone(), "{kind}");
    }
}

#[test]
fn a_cgroup_in_use_is_refused() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("used", kind, &layout, "{}");
        // Empty: taken as it is.
        scene.apply();
        let pid = scene.start(sleep);
        until("joined", || scene.cgroup.procs().unwrap() == [pid.as_raw()]);
        let failure = apply(&scene.ops, &mut Context::default()).unwrap_err();
        let hint = scene.ops[failure.op].hint(&failure.error);
        assert_eq!(failure.error.errno, Errno::EBUSY, "{kind}");
        assert_eq!(hint.as_deref(), Some("the cgroup exists already and has processes in it"));
        scene.cgroup.kill(soon()).unwrap();
        wait(pid);
        until("empty", || scene.cgroup.procs().unwrap().is_empty());

        scene.cgroup.freeze(soon()).unwrap();
        let failure = apply(&scene.ops, &mut Context::default()).unwrap_err();
        let hint = scene.ops[failure.op].hint(&failure.error);
        assert_eq!(hint.as_deref(), Some("the cgroup exists already and is frozen"), "{kind}");
    }
}

/// Exit code 0 where the device could be opened, else the errno.
fn try_device(path: &'static str, write: bool) -> impl FnMut() -> i32 {
    let path = CString::new(path).unwrap();
    let flags = if write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    move || match open(path.as_c_str(), flags | OFlag::O_NONBLOCK, Mode::empty()) {
        Ok(_) => 0,
        Err(errno) => errno as i32,
    }
}

#[test]
fn devices_are_filtered_by_the_rules() {
    const KMSG: &str = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    const EPERM: i32 = Errno::EPERM as i32;
    for (kind, layout) in layouts() {
        let cases: [(&str, &str, &'static str, bool, i32); 6] = [
            ("null", "{}", "/dev/null", true, 0),
            ("kmsg", "{}", "/dev/kmsg", false, EPERM),
            ("read", KMSG, "/dev/kmsg", false, 0),
            ("both", KMSG, "/dev/kmsg", true, EPERM),
            ("zero", KMSG, "/dev/zero", true, 0),
            ("priv", r#"{"devices":[{"allow":true,"access":"rwm"}]}"#, "/dev/kmsg", true, 0),
        ];
        for (name, json, device, write, expected) in cases {
            let scene = Scene::new(name, kind, &layout, json);
            let pid = scene.start(try_device(device, write));
            assert_eq!(wait(pid), WaitStatus::Exited(pid, expected), "{kind} {name}");
        }
    }
}

#[test]
fn a_filter_replaces_the_one_before() {
    let Some((kind, layout)) = layouts().into_iter().find(|(kind, _)| *kind == "v2") else {
        return;
    };
    let scene = Scene::new("filter", kind, &layout, "{}");
    let directory = scene.cgroup.members[0].directory.clone();
    let filters = || {
        let cgroup = open(&directory, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let mut ids = [0; 8];
        let count = davit_sys::bpf::query_device_filters(cgroup.as_fd(), &mut ids).unwrap();
        ids[..count].to_vec()
    };
    scene.apply();
    let first = filters();
    assert_eq!(first.len(), 1);
    let allowed = r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    let again = Scene::new("filter", kind, &layout, allowed);
    let pid = again.start(try_device("/dev/kmsg", false));
    assert_eq!(wait(pid), WaitStatus::Exited(pid, 0));
    let second = filters();
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
}

#[test]
fn many_rules_pass_the_verifier() {
    for (kind, layout) in layouts() {
        if kind != "v2" {
            continue;
        }
        let rules: Vec<String> = (0..1000)
            .map(|n| {
                let (allow, access) = (n % 3 != 0, ["r", "rw", "m", "rwm"][n % 4]);
                format!(
                    r#"{{"allow":{allow},"type":"c","major":{},"minor":{},"access":"{access}"}}"#,
                    n % 7,
                    n
                )
            })
            .collect();
        let json = format!(r#"{{"devices":[{}]}}"#, rules.join(","));
        let scene = Scene::new("rules", kind, &layout, &json);
        scene.apply();
    }
}

#[test]
fn limits_arrive_in_the_kernel() {
    for (kind, layout) in layouts() {
        let has = |controller: &str| {
            let found =
                layout.hierarchy(controller).is_some() || layout.unified_with(controller).is_some();
            if !found {
                eprintln!("skip: {kind} has no {controller} controller here");
            }
            found
        };
        let v1 = layout.hierarchy("memory").is_some();
        if has("pids") {
            let scene = Scene::new("pids", kind, &layout, r#"{"pids":{"limit":3}}"#);
            // The shell and two more; the fork of the third fails, which dash reports with 2.
            let script = "exec 2>/dev/null; sleep 9 & sleep 9 & sleep 9 & wait";
            let pid = scene.start(program(&["/bin/sh", "-c", script]));
            assert_eq!(scene.file("pids", "pids.max").trim(), "3");
            assert!(matches!(wait(pid), WaitStatus::Exited(_, code) if code != 0 && code < 98));
        }
        if has("memory") {
            let json = r#"{"memory":{"limit":33554432,"reservation":16777216,"swap":33554432}}"#;
            let scene = Scene::new("mem", kind, &layout, json);
            scene.apply();
            let (limit, low) = match v1 {
                true => ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
                false => ("memory.max", "memory.low"),
            };
            assert_eq!(scene.file("memory", limit).trim(), "33554432");
            assert_eq!(scene.file("memory", low).trim(), "16777216");
        }
        if has("cpu") && has("cpuset") {
            let json =
                r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"}}"#;
            let scene = Scene::new("cpu", kind, &layout, json);
            scene.apply();
            if v1 {
                assert_eq!(scene.file("cpu", "cpu.shares").trim(), "512");
                assert_eq!(scene.file("cpu", "cpu.cfs_quota_us").trim(), "50000");
            } else {
                assert_eq!(scene.file("cpu", "cpu.weight").trim(), "59");
                assert_eq!(scene.file("cpu", "cpu.max").trim(), "50000 100000");
            }
            assert_eq!(scene.file("cpuset", "cpuset.cpus").trim(), "0");
        }
        if layout.hierarchy("blkio").is_some() {
            let scene = Scene::new("blkio", kind, &layout, r#"{"blockIO":{"weight":500}}"#);
            scene.apply();
            assert_eq!(scene.file("blkio", "blkio.bfq.weight").trim(), "500");
        }
    }
}

#[test]
fn the_kernels_kills_for_memory_are_counted() {
    for (kind, layout) in layouts() {
        let scene = Scene::new("oom", kind, &layout, "{}");
        scene.apply();
        if scene.directory("memory").is_none() {
            assert_eq!(scene.cgroup.oom_kills().unwrap(), None);
            eprintln!("skip: {kind} has no memory controller here");
            continue;
        }
        assert_eq!(scene.cgroup.oom_kills().unwrap(), Some(0));
        let json = r#"{"memory":{"limit":8388608}}"#;
        let limited = Scene::new("oom", kind, &layout, json);
        // tail keeps all of a line that never ends.
        let pid = limited.start(program(&["/usr/bin/tail", "/dev/zero"]));
        assert_eq!(wait(pid), WaitStatus::Signaled(pid, Signal::SIGKILL, false));
        assert!(scene.cgroup.oom_kills().unwrap() >= Some(1), "{kind}");
    }
}
