//! Containers of the systemd driver: a restored one has a scope of its own again.

use integration::checkpoint::COUNTER;
use integration::systemd::{cgroup, container, property, read, scope};
use integration::*;

#[test]
fn a_scope_ends_with_the_checkpoint_and_is_made_again() {
    criu!();
    systemd!();
    let c = container(COUNTER).with(|c| {
        c["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 } });
    });
    c.up();
    let unit = scope(&c);
    let counted = c.counts_beyond(3);
    c.checkpoint(&[]);
    let gone = || (property(&unit, "LoadState") == "not-found").then_some(());
    assert!(call::within(call::DEADLINE, gone).is_some(), "the scope is still there");
    c.assert_nothing_left();
    c.restore(&[]);
    c.counts_beyond(counted);
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    let pids = read(&cgroup(&unit), "cgroup.procs");
    assert!(pids.lines().any(|pid| pid == c.pid().to_string()), "{pids}");
    c.call(&["pause", &c.id]).done().ok();
    c.call(&["resume", &c.id]).done().ok();
    c.call(&["delete", "--force", &c.id]).done().exits(0);
    assert!(call::within(call::DEADLINE, gone).is_some(), "the scope is still there");
}

/// The image has the path of the former scope, which is not made again.
#[test]
fn another_scope_for_another_id() {
    criu!();
    systemd!();
    let c = container(COUNTER);
    c.up();
    let counted = c.counts_beyond(3);
    c.checkpoint(&[]);
    let other = container(COUNTER);
    other.restore_from(&c.image(), &[]);
    other.counts_beyond(counted);
    let (former, own) = (scope(&c), scope(&other));
    assert_eq!(property(&former, "LoadState"), "not-found");
    let pids = read(&cgroup(&own), "cgroup.procs");
    assert!(pids.lines().any(|pid| pid == other.pid().to_string()), "{pids}");
    other.call(&["delete", "--force", &other.id]).done().exits(0);
}
