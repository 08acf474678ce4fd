//! Behaviours that the suites of runc, crun and youki look at, and that one of these three has had
//! wrong; those that no other file here is about.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use integration::config::{add_mount, drop_namespace, set_namespace, set_userns};
use integration::*;

#[test]
fn a_pid_file_is_relative_to_the_caller() {
    spec!();
    let c = Container::sleeper();
    let elsewhere = c.dir().join("elsewhere");
    fs::create_dir(&elsewhere).expect("mkdir");
    c.create_call(&["--pid-file", "pid"]).dir(&elsewhere).done().ok();
    let pid = fs::read_to_string(elsewhere.join("pid")).expect("the pid file");
    assert_eq!(pid, c.pid().to_string());
}

#[test]
fn a_dangling_link_as_the_destination_of_a_mount() {
    spec!();
    fails_with!("crun", "1.8 does not find the destination");
    let c = Container::sh("cat /etc/link; readlink /etc/link; cat /var/not/there")
        .with_files(|root| symlink("../var/not/there", root.join("etc/link")).expect("symlink"));
    let source = c.path("source");
    fs::write(&source, "content\n").expect("write");
    let c = c.with(|c| add_mount(c, "/etc/link", "bind", &source, &["bind"]));
    assert_eq!(c.run().ok().out, "content\n../var/not/there\ncontent\n");
}

#[test]
fn directories_made_below_one_with_setgid() {
    spec!();
    let c =
        Container::sh("stat -c '%g' /mnt/a /mnt/a/b; grep -c ' /mnt/a/b/c ' /proc/self/mountinfo")
            .with_files(|root| {
                let shared = root.join("mnt");
                std::os::unix::fs::chown(&shared, None, Some(50)).expect("chown");
                fs::set_permissions(shared, fs::Permissions::from_mode(0o2755)).expect("chmod");
            })
            .with(|c| add_mount(c, "/mnt/a/b/c", "tmpfs", "tmpfs", &[]));
    assert_eq!(c.run().ok().out, "50\n50\n1\n");
}

#[test]
fn masks_hold_without_pivot_root() {
    spec!();
    let c = Container::sh(
        "ls /sys/firmware | wc -l; cat /proc/keys | wc -c; echo x >/proc/sys/kernel/hostname || echo no",
    );
    let run = c.run_call(&["--no-pivot"]).done();
    assert_eq!((run.code, run.out.as_str()), (0, "0\n0\nno\n"), "{run:?}");
}

#[test]
fn time_offsets_in_a_user_namespace() {
    spec!();
    fails_with!("runc", "1.1 knows no time namespace");
    fails_with!("crun", "1.8 cannot write the offsets there");
    let c = Container::sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets").with(|c| {
        set_userns(c, 100_000, 65536);
        set_namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 864_000_000, "nanosecs": 5 } });
    });
    let out = c.run().ok().out;
    let uptime: u64 = out.lines().next().and_then(|line| line.parse().ok()).expect("seconds");
    assert!(uptime > 864_000_000, "{out}");
    let words: Vec<&str> = out.split_whitespace().collect();
    assert!(words.windows(3).any(|three| three == ["boottime", "864000000", "5"]), "{out}");
}

#[test]
fn a_deadline_scheduler() {
    spec!();
    fails_with!("runc", "1.1 knows no scheduler");
    fails_with!("crun", "1.8 knows no scheduler");
    let c = Container::sh("cut -d' ' -f41 /proc/self/stat").with(|c| {
        c["process"]["scheduler"] = json!({
            "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 10_000_000, "deadline": 100_000_000, "period": 100_000_000
        });
        // The program itself: what it forked would be an ordinary process again.
        c["process"]["args"] = json!(["/bin/cat", "/proc/self/stat"]);
    });
    let run = c.run();
    // Bandwidth is promised for a whole root domain: a cpuset that is smaller has none (sched(7)).
    skip_if!(
        (run.code != 0 && run.err.contains("process.scheduler"))
            .then_some(format!("this kernel promises no bandwidth here: {}", run.err.trim()))
    );
    let policy = run.ok().out.split(' ').nth(40).map(str::to_owned);
    assert_eq!(policy.as_deref(), Some("6"));
}

#[test]
fn exec_and_delete_after_init_has_moved_to_another_cgroup() {
    spec!();
    cgroup_v1!();
    let c = Container::sleeper();
    c.create().start();
    let cgroups = leftovers::cgroups(&c.id);
    assert!(!cgroups.is_empty());
    for cgroup in &cgroups {
        let below = cgroup.join("below");
        fs::create_dir(&below).expect("mkdir");
        if let Ok(cpus) = fs::read_to_string(cgroup.join("cpuset.cpus")) {
            fs::write(below.join("cpuset.cpus"), cpus).expect("cpus");
            let mems = fs::read_to_string(cgroup.join("cpuset.mems")).expect("mems");
            fs::write(below.join("cpuset.mems"), mems).expect("mems");
        }
        fs::write(below.join("cgroup.procs"), c.pid().to_string()).expect("move");
    }
    assert_eq!(c.ask("echo in"), "in\n");
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn what_init_leaves_in_a_shared_pid_namespace_is_ended_by_delete() {
    spec!();
    fails_with!("crun", "leaves it running");
    let c = Container::sh("sleep 1000 & echo started").with(|c| drop_namespace(c, "pid"));
    c.create().start();
    c.until_output("started");
    c.until_status("stopped");
    c.kill("TERM").fails();
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}
