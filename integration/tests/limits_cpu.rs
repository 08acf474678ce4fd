//! Limits of processor time on cgroup v2, measured. A share of a clock is the same however slow the
//! host is.

use std::time::{Duration, Instant};

use integration::limits::{count, limited};
use integration::*;

const SPIN: &str = "while :; do :; done";

/// The share of a processor that each of these gets, while they all run.
fn shares(all: &[&Container]) -> Vec<f64> {
    let used = |c: &&Container| count(c, "cpu.stat", "usage_usec");
    // What they need to begin is not counted.
    let begun: Vec<u64> = all.iter().map(used).collect();
    for (c, begun) in all.iter().zip(begun) {
        let spins = || (used(c) > begun + 50_000).then_some(());
        call::within(Duration::from_secs(10), spins).expect("it spins");
    }
    let (begun, before) = (Instant::now(), all.iter().map(used).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_secs(3));
    let after: Vec<u64> = all.iter().map(used).collect();
    let took = begun.elapsed().as_micros() as f64;
    after.iter().zip(before).map(|(after, before)| (after - before) as f64 / took).collect()
}

#[test]
fn a_quota_is_a_share() {
    spec!();
    pure_v2!();
    let c = limited(SPIN, json!({ "cpu": { "quota": 20000, "period": 100_000 } }));
    c.create().start();
    let share = shares(&[&c])[0];
    assert!((0.05..0.3).contains(&share), "20 % were given, {share} taken");
    assert!(count(&c, "cpu.stat", "nr_throttled") > 0);
}

/// Two on one processor, of which one has a sixteenth of the other's shares.
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
fn an_idle_one_gives_way() {
    spec!();
    pure_v2!();
    let spin = |idle: u64| limited(SPIN, json!({ "cpu": { "idle": idle, "cpus": "0" } }));
    let (idle, usual) = (spin(1), spin(0));
    idle.create().start();
    usual.create().start();
    let got = shares(&[&idle, &usual]);
    assert!(got[1] > 5.0 * got[0], "{got:?}");
}

/// What was saved while it slept is spent at once: the kernel counts that.
#[test]
fn a_burst_is_used() {
    spec!();
    pure_v2!();
    let script = "while :; do timeout 1 sh -c 'while :; do :; done'; sleep 0.5; done";
    let cpu = |burst: u64| json!({ "cpu": { "quota": 20000, "period": 100_000, "burst": burst } });
    let (with, without) = (limited(script, cpu(20000)), limited(script, cpu(0)));
    for c in [&with, &without] {
        c.create().start();
    }
    let bursts = |c: &Container| count(c, "cpu.stat", "nr_bursts");
    let seen = call::within(Duration::from_secs(10), || (bursts(&with) > 0).then_some(()));
    assert!(seen.is_some(), "no burst");
    let throttled = || (count(&without, "cpu.stat", "nr_throttled") > 0).then_some(());
    assert!(call::within(Duration::from_secs(10), throttled).is_some(), "not throttled");
    assert_eq!(bursts(&without), 0);
}

#[test]
fn a_processor_of_its_own() {
    spec!();
    pure_v2!();
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    assert_eq!(limited(script, json!({ "cpu": { "cpus": "1" } })).run().ok().out, "1\n");
}

/// A change reaches the processes that are there.
#[test]
fn updates_are_felt() {
    spec!();
    pure_v2!();
    let c = limited(SPIN, json!({ "cpu": { "cpus": "0" } }));
    c.create().start();
    c.call(&["update", "--cpu-period", "100000", "--cpu-quota", "10000", &c.id]).done().ok();
    let share = shares(&[&c])[0];
    assert!((0.02..0.2).contains(&share), "10 % were given, {share} taken");
    c.call(&["update", "--cpuset-cpus", "1", &c.id]).done().ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("status");
    assert!(status.contains("Cpus_allowed_list:\t1\n"), "{status}");
}
