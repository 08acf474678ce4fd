//! Limits proven by their effect, on cgroup v2, not by reading files back. Those of memory and of
//! CPU time are in limits_memory.rs and limits_cpu.rs.

use std::time::{Duration, Instant};

use integration::limits::limited;
use integration::*;

const FORKS: &str = "for n in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; echo all";

#[test]
fn processes_are_counted() {
    spec!();
    pure_v2!();
    let few = limited(FORKS, json!({ "pids": { "limit": 4 } })).run();
    assert!(few.out.is_empty() && few.err.contains("fork"), "{few:?}");
    assert_eq!(limited(FORKS, json!({ "pids": { "limit": 20 } })).run().out, "all\n");
}

#[test]
fn an_update_counts_who_is_there() {
    spec!();
    pure_v2!();
    // Its first process forks no more, so that it does not run out of space.
    let c = limited("exec tail -f /dev/null", json!({ "pids": { "limit": 50 } }));
    c.create().start();
    assert_eq!(c.ask(FORKS), "all\n");
    c.call(&["update", "--pids-limit", "4", &c.id]).done().ok();
    let few = c.exec(&["sh", "-c", FORKS]);
    assert!(few.out.is_empty() && few.err.contains("fork"), "{few:?}");
}

/// Four MiB past the page cache.
const WRITE: &str = "dd if=/dev/zero of=/file bs=256k count=16 oflag=direct 2>&1";

fn throttle() -> Option<Value> {
    let (major, minor) = limits::disk()?;
    let rate = json!([{ "major": major, "minor": minor, "rate": 1 << 20 }]);
    Some(json!({ "blockIO": { "throttleWriteBpsDevice": rate } }))
}

#[test]
fn a_disk_is_slowed_down() {
    spec!();
    pure_v2!();
    let throttle = throttle();
    skip_if!(throttle.is_none().then_some("no whole disk under the temporary directory"));
    let took = |resources: Value| {
        let begun = Instant::now();
        limited(WRITE, resources).run().ok();
        begun.elapsed()
    };
    let (free, slow) = (took(json!({})), took(throttle.expect("a disk")));
    assert!(slow > Duration::from_secs(3), "4 MiB at 1 MiB a second in {slow:?}");
    assert!(free < slow, "{free:?} without a limit, {slow:?} with one");
}

#[test]
fn a_disk_is_slowed_down_by_an_update() {
    spec!();
    fails_with!("crun", "reads no resources from stdin");
    pure_v2!();
    let throttle = throttle();
    skip_if!(throttle.is_none().then_some("no whole disk under the temporary directory"));
    let c = Container::sleeper();
    c.create().start();
    let resources = throttle.expect("a disk").to_string();
    c.call(&["update", "-r", "-", &c.id]).input(&resources).done().ok();
    let begun = Instant::now();
    c.ask(WRITE);
    assert!(begun.elapsed() > Duration::from_secs(3), "4 MiB at 1 MiB a second");
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
