//! Crash-only: whatever instant the runtime is killed at, and whatever became of its files, `delete
//! --force` leaves nothing.
//!
//! `DAVIT_ROUNDS` is the number of rounds (300); when it is set, other runtimes are measured too,
//! without a verdict.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use integration::call::within;
use integration::*;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// One test at a time: this process adopts all orphans, and each test looks at its own.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    nix::sys::prctl::set_child_subreaper(true).expect("prctl");
    guard
}

/// Reaps the dead among the adopted; returns whether any child still lives.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Runs a call to its end and meanwhile reaps adopted processes, as an init does: a pid namespace
/// ends only when all of its zombies were reaped (zap_pid_ns_processes in the kernel).
fn reaping(call: Call) -> Outcome {
    let mut running = call.spawn();
    let pid = running.pid();
    within(Duration::from_secs(15), || {
        for child in children().into_iter().filter(|child| *child != pid) {
            let _ = waitpid(nix::unistd::Pid::from_raw(child), Some(WaitPidFlag::WNOHANG));
        }
        running.ended().then_some(())
    });
    running.wait()
}

/// All children of this process, dead or alive.
fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// The living adopted processes.
fn orphans() -> Vec<String> {
    let pids = children().into_iter();
    pids.filter(|pid| !leftovers::is_dead(pid))
        .map(|pid| {
            format!(
                "{pid} {}",
                fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim()
            )
        })
        .collect()
}

fn rounds() -> u32 {
    std::env::var("DAVIT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Other runtimes are only measured on demand.
fn peers_not_asked() -> Option<String> {
    if std::env::var_os("DAVIT_ROUNDS").is_some() {
        None
    } else {
        skip::needs_davit("set DAVIT_ROUNDS to measure a peer")
    }
}

/// What was left over many rounds.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    cgroups: u32,
    processes: u32,
    mounts: u32,
    state: u32,
    failed_deletes: u32,
    undisturbed: u32,
    examples: Vec<String>,
}

impl Tally {
    fn count(&mut self, c: &Container, what: &str) {
        within(Duration::from_millis(500), || (!reap()).then_some(()));
        let orphans = orphans();
        let left = c.leftovers();
        let kind = |name: &str| u32::from(left.iter().any(|line| line.starts_with(name)));
        self.cgroups += kind("cgroup");
        self.processes += u32::from(kind("process") > 0 || !orphans.is_empty());
        self.mounts += kind("mount");
        self.state += kind("state");
        if !(left.is_empty() && orphans.is_empty()) && self.examples.len() < 10 {
            self.examples.push(format!("{what}: {left:?} {orphans:?}"));
        }
        leftovers::sweep(&c.id, c.dir());
        for orphan in orphans {
            if let Some(pid) = orphan.split(' ').next().and_then(|pid| pid.parse().ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        within(Duration::from_millis(500), || (!reap()).then_some(()));
        let _ = fs::remove_dir_all(c.state_root());
    }

    #[track_caller]
    fn verdict(self, what: &str, rounds: u32) {
        let report = format!(
            "{what}, {} rounds with {} (of these {} after its end): left {} cgroups, {} processes, {} mounts, {} state, {} failed deletes",
            rounds,
            runtime::runtime().name,
            self.undisturbed,
            self.cgroups,
            self.processes,
            self.mounts,
            self.state,
            self.failed_deletes
        );
        let _ = writeln!(std::io::stderr(), "faults: {report}");
        if runtime::runtime().is_davit() {
            let clean =
                self.cgroups + self.processes + self.mounts + self.state + self.failed_deletes == 0;
            assert!(clean, "{report}: {:#?}", self.examples);
        }
    }
}

/// A number from 0 to 1, different each time; the seed is the time, and each round is named in a
/// failure.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    f64::from(u32::try_from(*state >> 33).expect("31 bits")) / f64::from(1_u32 << 31)
}

fn seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.subsec_nanos().into())
}

fn wait_precisely(time: Duration) {
    let begun = Instant::now();
    if time > Duration::from_millis(2) {
        sleep(time.checked_sub(Duration::from_millis(1)).unwrap_or_default());
    }
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Calls the command, kills it at a random moment of its usual time, deletes by force, and counts
/// what is left.
fn kill_rounds(
    what: &str,
    rounds: u32,
    prepare: impl Fn(&Container),
    command: impl Fn(&Container) -> Call,
) {
    let mut tally = Tally::default();
    let mut random_state = seed();
    let mut usual = Duration::from_secs(1);
    for round in 0..rounds {
        let c = Container::sh("sleep 1000").with(|c| {
            config::add_mount(c, "/data", "bind", "/etc", &["rbind", "ro"]);
            c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
        });
        prepare(&c);
        let call = command(&c);
        let begun = Instant::now();
        let mut running = call.spawn();
        if round < 3 {
            // The first rounds measure.
            assert!(within(Duration::from_secs(10), || running.ended().then_some(())).is_some());
            usual = usual.min(begun.elapsed());
        } else {
            wait_precisely(usual.mul_f64(random(&mut random_state) * 1.1));
        }
        let delay = begun.elapsed();
        if running.ended() {
            tally.undisturbed += 1;
        } else {
            running.signal(Signal::SIGKILL);
        }
        let _ = running.wait();
        let deleted = reaping(c.call(&["delete", "--force", &c.id]));
        if deleted.code != 0 {
            tally.failed_deletes += 1;
            tally.examples.push(format!("round {round} after {delay:?}: {deleted:?}"));
        }
        tally.count(&c, &format!("round {round} after {delay:?} of {usual:?}"));
    }
    tally.verdict(what, rounds);
}

#[test]
fn sigkill_of_create_at_any_moment() {
    spec!();
    skip_if!(peers_not_asked());
    let _alone = alone();
    kill_rounds("SIGKILL of create", rounds(), |_| (), |c| c.create_call(&[]));
}

#[test]
fn sigkill_of_create_with_a_user_namespace() {
    spec!();
    skip_if!(peers_not_asked());
    let _alone = alone();
    let with_userns = |c: &Container| {
        let mut config = c.config.clone();
        config::set_userns(&mut config, 100_000, 65536);
        fs::write(c.bundle().join("config.json"), config.to_string()).expect("write");
        c.call(&["create", "--bundle", &c.path("bundle"), &c.id])
    };
    kill_rounds("SIGKILL of create with a user namespace", rounds() / 3, |_| (), with_userns);
}

#[test]
fn sigkill_of_the_other_commands() {
    spec!();
    skip_if!(peers_not_asked());
    let _alone = alone();
    let few = rounds() / 6;
    let created = |c: &Container| {
        c.create();
    };
    let running = |c: &Container| {
        c.create().start();
    };
    kill_rounds("SIGKILL of start", few, created, |c| c.call(&["start", &c.id]));
    kill_rounds("SIGKILL of exec", few, running, |c| c.exec_call(&[], &["true"]));
    kill_rounds("SIGKILL of kill", few, running, |c| c.call(&["kill", &c.id, "KILL"]));
    kill_rounds("SIGKILL of delete", few, running, |c| c.call(&["delete", "--force", &c.id]));
    kill_rounds("SIGKILL of run", few, |_| (), |c| c.run_call(&["--detach"]));
}

/// All files of a container's state.
fn state_files(c: &Container) -> Vec<PathBuf> {
    let entries = fs::read_dir(c.state_root().join(&c.id)).expect("state").flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()))
        .collect()
}

/// Damages a file.
type Damage = fn(&Path);

/// The ways in which a file of the state can be damaged.
const DAMAGES: [(&str, Damage); 7] = [
    ("empty", |file| fs::write(file, "").expect("write")),
    ("half", |file| {
        let bytes = fs::read(file).expect("read");
        fs::write(file, &bytes[..bytes.len() / 2]).expect("write");
    }),
    ("garbage", |file| fs::write(file, [0xff; 300]).expect("write")),
    ("huge", |file| {
        let grown = Command::new("truncate").args(["-s", "1T"]).arg(file).status();
        assert!(grown.is_ok_and(|status| status.success()));
    }),
    ("gone", |file| fs::remove_file(file).expect("rm")),
    ("a directory", |file| {
        fs::remove_file(file).expect("rm");
        fs::create_dir(file).expect("mkdir");
    }),
    ("a FIFO", |file| {
        fs::remove_file(file).expect("rm");
        assert!(Command::new("mkfifo").arg(file).status().is_ok_and(|s| s.success()));
    }),
];

/// What is wrong with the commands on a container whose file `name` was damaged.
fn problems_with_a_damaged(name: &OsStr, damage: Damage, start: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let c = Container::sleeper();
    c.create();
    if start {
        c.start();
    }
    damage(&c.state_root().join(&c.id).join(name));
    // Their answer does not matter here, but they must not hang or crash.
    for command in [vec!["state", &c.id], vec!["list"], vec!["kill", &c.id, "KILL"]] {
        match c.call(&command).within(Duration::from_secs(3)).spawn().wait_or_kill() {
            None => problems.push(format!("{command:?} hangs")),
            Some(run) if run.code > 255 || run.err.contains("panicked") => {
                problems.push(format!("{run:?}"));
            }
            Some(_) => {}
        }
    }
    let delete = c.call(&["delete", "--force", &c.id]).within(Duration::from_secs(12));
    match delete.spawn().wait_or_kill() {
        None => problems.push("delete hangs".into()),
        Some(deleted) if deleted.code != 0 => problems.push(format!("{deleted:?}")),
        Some(_) => {}
    }
    within(Duration::from_millis(500), || (!reap()).then_some(()));
    let (left, orphans) = (c.leftovers(), orphans());
    if !(left.is_empty() && orphans.is_empty()) {
        problems.push(format!("left {left:?} {orphans:?}"));
    }
    leftovers::sweep(&c.id, c.dir());
    let _ = fs::remove_dir_all(c.state_root());
    problems
}

#[test]
fn a_damaged_record_does_not_keep_anything_alive() {
    davit_only!("all other runtimes leave it");
    let _alone = alone();
    let probe = Container::sleeper();
    probe.create();
    let names: Vec<_> =
        state_files(&probe).iter().map(|path| path.file_name().expect("name").to_owned()).collect();
    assert!(!names.is_empty());
    drop(probe);
    let mut problems = Vec::new();
    for name in &names {
        for (how, damage) in DAMAGES {
            for start in [false, true] {
                let found = problems_with_a_damaged(name, damage, start);
                let at = format!("{how} {name:?}, started {start}");
                problems.extend(found.into_iter().map(|what| format!("{at}: {what}")));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn an_empty_state_directory_is_deleted() {
    davit_only!("what a kill between mkdir and write leaves");
    let _alone = alone();
    let c = Container::new(&["true"]);
    fs::create_dir_all(c.state_root().join(&c.id)).expect("mkdir");
    c.delete().exits(0);
    assert!(!c.state_root().join(&c.id).exists());
}

#[test]
fn a_pid_that_now_belongs_to_a_stranger_is_never_signalled() {
    davit_only!(
        "about davit's record: runc and crun keep a start time too, in files of their own form"
    );
    let _alone = alone();
    let c = Container::sleeper();
    c.create().start();
    let pid = c.pid();
    c.kill("KILL").ok();
    c.until_status("stopped");
    within(Duration::from_secs(2), || (!reap()).then_some(()));
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let mut changed = 0;
    for file in state_files(&c) {
        if let Ok(text) = fs::read_to_string(&file) {
            let new = text.replace(&pid.to_string(), &stranger.id().to_string());
            changed += usize::from(new != text);
            fs::write(file, new).expect("write");
        }
    }
    assert!(changed > 0, "the record does not hold the pid as text: adapt this test");
    assert_eq!(c.status(), "stopped");
    c.kill("KILL").refuses(&["container not running"]);
    c.exec(&["true"]).refuses(&["container not running"]);
    c.delete().exits(0);
    let alive = stranger.try_wait().expect("wait").is_none();
    let _ = stranger.kill();
    let _ = stranger.wait();
    assert!(alive, "a stranger was killed");
}

#[test]
fn every_limit_of_open_files() {
    davit_only!("the other runtimes' language runtimes need some of their own");
    let _alone = alone();
    let mut accepted = 0;
    let mut problems = Vec::new();
    for limit in 4..40 {
        let c = Container::sleeper().with(|c| c["process"]["rlimits"] = json!([]));
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let run = c.through_with_bundle(&["sh", "-c", &script, "sh"], "create", &[]).done();
        if run.code == 0 {
            accepted += 1;
            c.start();
            assert_eq!(c.ask("echo fine"), "fine\n", "limit {limit}");
            continue;
        }
        // Of a dynamic build, the loader may be the one to say so.
        if !run.err.to_lowercase().contains("too many open files")
            && !run.err.contains("shared libraries")
        {
            problems.push(format!("limit {limit}: {run:?}"));
        }
        let left = c.leftovers();
        if !left.is_empty() {
            problems.push(format!("limit {limit}: {} left {left:?}", run.err));
        }
        c.delete().exits(0);
    }
    assert!(accepted > 10, "{accepted}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn many_cycles_leave_nothing_growing() {
    spec!();
    let _alone = alone();
    let count = |file: &str| fs::read_to_string(file).map_or(0, |text| text.lines().count());
    let before = (count("/proc/self/mountinfo"), count("/proc/mounts"));
    for _ in 0..30 {
        let c = Container::sleeper();
        c.create().start();
        c.delete().exits(0);
        c.assert_nothing_left();
    }
    assert_eq!((count("/proc/self/mountinfo"), count("/proc/mounts")), before);
    within(Duration::from_secs(1), || (!reap()).then_some(()));
    assert!(orphans().is_empty(), "{:?}", orphans());
}

#[test]
fn sixteen_at_once() {
    spec!();
    let _alone = alone();
    let containers: Vec<Container> = (0..16).map(|n| Container::sh(&format!("echo {n}"))).collect();
    let runs: Vec<Running> = containers.iter().map(|c| c.run_call(&[]).spawn()).collect();
    for (n, run) in runs.into_iter().enumerate() {
        assert_eq!(run.wait().ok().out, format!("{n}\n"));
    }
    for c in &containers {
        c.assert_nothing_left();
    }
}
