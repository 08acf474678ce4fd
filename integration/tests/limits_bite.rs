//! Limits proven by what happens, on cgroup v2: nobody reads a file back here to believe it.

use std::fs;
use std::time::{Duration, Instant};

use integration::*;

fn limited(script: &str, resources: Value) -> Container {
    Container::sh(script).with(|c| {
        for (key, value) in resources.as_object().expect("an object") {
            c["linux"]["resources"][key] = value.clone();
        }
    })
}

const SPIN: &str = "while :; do :; done";

/// Processor time that the container has used, in microseconds.
fn used(c: &Container) -> f64 {
    let path = format!("/sys/fs/cgroup/{}/cpu.stat", c.id);
    let text = fs::read_to_string(path).expect("cpu.stat");
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("usage");
    line.parse().expect("a number")
}

/// The share of a processor that each of these gets, while they all run.
fn shares(all: &[&Container]) -> Vec<f64> {
    std::thread::sleep(Duration::from_millis(300));
    let (begun, before) = (Instant::now(), all.iter().map(|c| used(c)).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_secs(3));
    let after: Vec<f64> = all.iter().map(|c| used(c)).collect();
    let took = begun.elapsed().as_secs_f64() * 1e6;
    after.iter().zip(before).map(|(after, before)| (after - before) / took).collect()
}

#[test]
fn too_much_memory_is_the_end() {
    spec!();
    pure_v2!();
    let memory = json!({ "memory": { "limit": 20 << 20, "swap": 20 << 20 } });
    limited("exec tail -c 90000000 /dev/zero", memory).run().exits(137);
}

#[test]
fn processes_are_counted() {
    spec!();
    pure_v2!();
    let script = "for n in 1 2 3 4 5 6 7 8; do sleep 100 & done; echo all";
    let few = limited(script, json!({ "pids": { "limit": 4 } })).run();
    assert!(few.out.is_empty() && few.err.contains("fork"), "{few:?}");
    assert_eq!(limited(script, json!({ "pids": { "limit": 20 } })).run().out, "all\n");
}

#[test]
fn a_quota_is_a_share() {
    spec!();
    pure_v2!();
    let c = limited(SPIN, json!({ "cpu": { "quota": 20000, "period": 100_000 } }));
    c.create().start();
    let share = shares(&[&c])[0];
    assert!((0.1..0.3).contains(&share), "20 % were given, {share} taken");
}

/// Two on one processor, one of which weighs four times as much.
#[test]
fn weights_compete() {
    spec!();
    pure_v2!();
    let spin = |shares: u64| limited(SPIN, json!({ "cpu": { "shares": shares, "cpus": "0" } }));
    let (light, heavy) = (spin(256), spin(4096));
    light.create().start();
    heavy.create().start();
    let got = shares(&[&light, &heavy]);
    assert!(got[1] > 3.0 * got[0], "{got:?}");
}

#[test]
fn a_processor_of_its_own() {
    spec!();
    pure_v2!();
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    assert_eq!(limited(script, json!({ "cpu": { "cpus": "1" } })).run().ok().out, "1\n");
}

#[test]
fn a_disk_is_slowed_down() {
    spec!();
    pure_v2!();
    let disk = limits::disk();
    skip_if!(disk.is_none().then_some("no whole disk under /"));
    let (major, minor) = disk.expect("a disk");
    let rate = json!([{ "major": major, "minor": minor, "rate": 1 << 20 }]);
    let script = "dd if=/dev/zero of=/file bs=256k count=16 oflag=direct 2>&1";
    let begun = Instant::now();
    limited(script, json!({ "blockIO": { "throttleWriteBpsDevice": rate } })).run().ok();
    assert!(begun.elapsed() > Duration::from_secs(3), "4 MiB at 1 MiB a second");
}

/// What davit's init and the kernel need to exec a program at all; below it the error says what was too little.
#[test]
fn the_smallest_limit_of_memory() {
    davit_only!("the peers need megabytes");
    pure_v2!();
    let true_with = |bytes: u64| {
        let c = Container::new(&["/bin/true"]).with(|c| {
            c["linux"]["resources"]["memory"] = json!({ "limit": bytes, "swap": bytes });
        });
        c.run()
    };
    let fails: Vec<_> = [1024, 512, 384]
        .map(|kilobytes| (kilobytes, true_with(kilobytes << 10)))
        .into_iter()
        .filter(|(_, run)| run.code != 0)
        .collect();
    assert!(fails.is_empty(), "{fails:#?}");
    true_with(4096).refuses(&["memory"]);
}

#[test]
fn a_fork_bomb_is_paused_and_killed() {
    spec!();
    pure_v2!();
    let bomb = "bomb() { while :; do (sleep 0.01) & sleep 0.01; done; }; bomb & bomb & bomb";
    let c = limited(bomb, json!({ "pids": { "limit": 60 } }));
    c.create().start();
    for _ in 0..5 {
        c.call(&["pause", &c.id]).done().ok();
        assert_eq!(c.status(), "paused");
        c.call(&["resume", &c.id]).done().ok();
    }
    c.call(&["pause", &c.id]).done().ok();
    c.delete().ok();
    c.assert_nothing_left();
}

const OWN_CGROUP: &[&str] = &["rw", "nosuid", "nodev", "noexec"];

fn owns_its_cgroup(script: &str) -> Container {
    Container::sh(script).with(|c| {
        config::set_namespace(c, "cgroup", None);
        config::drop_mount(c, "/sys/fs/cgroup");
        config::add_mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", OWN_CGROUP);
        c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    })
}

/// As systemd does as a container's init: the cgroup that exec would join has no processes any more, and may have none.
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
    let seen = c.ask("cat /proc/self/cgroup");
    assert!(seen.starts_with("0::/"), "{seen}");
    assert_eq!(c.output(), "moved\n");
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
    let path = format!("/sys/fs/cgroup/{}", c.id);
    fs::create_dir(&path).expect("mkdir");
    fs::write(format!("{path}/cgroup.freeze"), "1").expect("freeze");
    let run = c.run_call(&[]).within(Duration::from_secs(10)).done();
    let _ = fs::write(format!("{path}/cgroup.freeze"), "0");
    let _ = fs::remove_dir(&path);
    run.refuses(&["frozen"]);
}
