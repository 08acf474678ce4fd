//! `checkpoint` and `restore` killed at any instant: the container runs on or can be restored, and
//! nothing is left after `delete --force`.
//!
//! runc 1.3.6 keeps the first half. Of 30 restores that were killed, 17 left a mount of the root in
//! its state directory, which `delete --force` then cannot remove.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use integration::call::{rounds, within};
use integration::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long CRIU may take to put right what it was at when the runtime was killed.
const AFTERMATH: Duration = Duration::from_secs(10);

/// One test at a time: this process adopts all orphans, and each test looks at its own.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    nix::sys::prctl::set_child_subreaper(true).expect("prctl");
    guard
}

/// The living processes that this one has adopted, but for the container's own: its first process,
/// and what is in its cgroup.
fn strangers(c: &Container) -> Vec<i32> {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let pids = lists.flat_map(|list| {
        let list = list.unwrap_or_default();
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    });
    let is_its_own = |pid: &i32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.contains(&c.id) && status(c).is_some()
    };
    pids.filter(|pid| !leftovers::is_dead(pid) && !is_its_own(pid)).collect()
}

fn status(c: &Container) -> Option<String> {
    let state = c.call(&["state", &c.id]).done();
    (state.code == 0).then(|| state.json()["status"].as_str().unwrap_or_default().to_owned())
}

fn describe(pids: &[i32]) -> Vec<String> {
    let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.iter().map(|pid| format!("{pid} {}", comm(pid).trim())).collect()
}

/// A number from 0 to 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    f64::from(u32::try_from(*state >> 33).expect("31 bits")) / f64::from(1_u32 << 31)
}

/// Runs a call and kills it at a random moment of its usual time; it is only timed if there is no
/// usual time yet. Returns how long it ran, and waits until CRIU has come to its end too.
fn killed(c: &Container, call: Call, usual: Option<Duration>, seed: &mut u64) -> Duration {
    let begun = Instant::now();
    let mut running = call.spawn();
    match usual {
        None => drop(within(call::DEADLINE, || running.ended().then_some(()))),
        Some(usual) => sleep(usual.mul_f64(random(seed))),
    }
    let took = begun.elapsed();
    if !running.ended() {
        running.signal(Signal::SIGKILL);
    }
    let _ = running.wait_or_kill();
    within(AFTERMATH, || strangers(c).is_empty().then_some(()));
    took
}

/// What is wrong after a round, and puts an end to it.
fn left(c: &Container) -> Vec<String> {
    let deleted = c.delete();
    within(Duration::from_secs(1), || strangers(c).is_empty().then_some(()));
    let strangers = strangers(c);
    let mut left = c.leftovers();
    left.extend(describe(&strangers));
    for pid in strangers {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    if deleted.code != 0 && !deleted.err.contains("does not exist") {
        left.push(format!("{deleted:?}"));
    }
    if !left.is_empty() {
        leftovers::sweep(&c.id, c.dir());
        let _ = fs::remove_dir_all(c.state_root());
    }
    left
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |time| time.subsec_nanos().into())
}

/// How often: a round takes about a second.
fn few() -> u32 {
    rounds(300) / 10
}

/// Does it count further, without a gap?
fn counts(c: &Container) -> bool {
    let before = c.counted();
    within(Duration::from_secs(3), || (c.counted() > before).then_some(())).is_some()
}

#[test]
fn a_killed_checkpoint_leaves_a_container_or_an_image() {
    criu!();
    davit_only!("runc is known to leave mounts");
    let _alone = alone();
    let (mut usual, mut seed, mut bad) = (None, seed(), Vec::new());
    let (mut runs_on, mut restored) = (0, 0);
    for round in 0..few() {
        let c = Container::counter();
        c.up();
        let before = c.counts_beyond(1);
        let took = killed(&c, c.checkpoint_call(&[]), usual, &mut seed);
        usual = Some(usual.unwrap_or(took));
        let status = status(&c);
        let what = format!("round {round} after {took:?} of {usual:?}, {status:?}");
        if status.as_deref() == Some("running") && counts(&c) {
            runs_on += 1;
            bad.extend(left(&c).into_iter().map(|left| format!("{what}: {left}")));
        } else {
            bad.extend(left(&c).into_iter().map(|left| format!("{what}: {left}")));
            let again = c.restore_call(&c.image(), &["--detach"]).silent().done();
            if again.code == 0 && c.counts_beyond(before) > before {
                restored += 1;
            } else {
                bad.push(format!("{what}: lost: {:?}", c.criu_errors()));
            }
            bad.extend(left(&c).into_iter().map(|left| format!("{what}, restored: {left}")));
        }
    }
    println!("SIGKILL of checkpoint: {runs_on} run on, {restored} restored");
    assert!(bad.is_empty(), "{bad:#?}");
}

/// An image of a checkpoint that was killed is whole, or is refused.
#[test]
fn a_half_made_image_is_refused() {
    criu!();
    davit_only!("runc is known to leave mounts");
    let _alone = alone();
    let (mut usual, mut seed) = (None, seed());
    let (mut whole, mut refused) = (0, 0);
    for round in 0..few() {
        let c = Container::counter();
        c.up();
        if round % 2 == 1 {
            // There is a whole one, which is written over.
            c.checkpoint(&["--leave-running"]);
        }
        let before = c.counts_beyond(1);
        let took = killed(&c, c.checkpoint_call(&["--leave-running"]), usual, &mut seed);
        usual = Some(usual.unwrap_or(took));
        let rest = left(&c);
        assert!(rest.is_empty(), "{rest:#?}");
        let again = c.restore_call(&c.image(), &["--detach"]).silent().done();
        if again.code == 0 {
            whole += 1;
            c.counts_beyond(if round % 2 == 1 { 0 } else { before });
        } else {
            refused += 1;
        }
        let rest = left(&c);
        assert!(rest.is_empty(), "{rest:#?}");
    }
    println!("SIGKILL of checkpoint: {whole} images are whole, {refused} were refused");
}

#[test]
fn a_killed_restore_leaves_a_container_or_nothing() {
    criu!();
    davit_only!("runc is known to leave mounts");
    let _alone = alone();
    let (mut usual, mut seed, mut bad) = (None, seed(), Vec::new());
    let (mut running, mut gone) = (0, 0);
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(1);
    c.checkpoint(&[]);
    for round in 0..few() {
        let call = c.restore_call(&c.image(), &["--detach"]).silent();
        let took = killed(&c, call, usual, &mut seed);
        usual = Some(usual.unwrap_or(took));
        let status = status(&c);
        let what = format!("round {round} after {took:?} of {usual:?}, {status:?}");
        if status.as_deref() == Some("running") {
            running += 1;
            if !counts(&c) {
                bad.push(format!("{what}: it stands still"));
            }
        } else {
            gone += 1;
        }
        bad.extend(left(&c).into_iter().map(|left| format!("{what}: {left}")));
    }
    println!("SIGKILL of restore: {running} run, {gone} do not");
    assert!(bad.is_empty(), "{bad:#?}");
    c.restore(&[]).counts_beyond(before);
}
