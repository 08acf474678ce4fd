//! events: statistics, once or repeatedly, and OOM kills.

use std::time::{Duration, Instant};

use integration::*;

fn stats(c: &Container) -> Value {
    let event = c.call(&["events", "--stats", &c.id]).done().ok().json();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], c.id.as_str());
    event["data"].clone()
}

#[track_caller]
fn number(data: &Value, pointer: &str) -> u64 {
    let value = data.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}: {data:#}"));
    value.as_u64().unwrap_or_else(|| panic!("{pointer}: {value}"))
}

fn events(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("one object on a line")).collect()
}

#[test]
fn figures_once() {
    spec!();
    controllers!();
    fails_with!("crun", "knows no events");
    let c = Container::sh("head -c 3000000 /dev/zero | md5sum >/dev/null; echo up; sleep 1000")
        .with(|c| {
            c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 96 << 20 });
            c["linux"]["resources"]["pids"] = json!({ "limit": 44 });
        });
    c.create().start();
    c.until_output("up");
    let data = stats(&c);
    assert_eq!(number(&data, "/memory/usage/limit"), 64 << 20);
    assert_eq!(number(&data, "/memory/swap/limit"), 96 << 20);
    assert!(number(&data, "/memory/usage/usage") > 0);
    assert!(number(&data, "/memory/usage/max") >= number(&data, "/memory/usage/usage"));
    assert!(number(&data, "/memory/raw/pgfault") > 0);
    assert_eq!(number(&data, "/pids/limit"), 44);
    assert!((1..10).contains(&number(&data, "/pids/current")), "{data:#}");
    assert!(number(&data, "/cpu/usage/total") > 1_000_000);
    if host::has_cgroup_v1() {
        let of_each = data["cpu"]["usage"]["percpu"].as_array().expect("percpu");
        let sum: u64 = of_each.iter().filter_map(Value::as_u64).sum();
        assert!(sum > 1_000_000, "{data:#}");
    }
    assert!(data["hugetlb"].is_object());
    assert!(data["intel_rdt"].is_object());
}

#[test]
fn throttling_and_pressure() {
    davit_only!("runc 1.1 knows no pressure");
    controllers!();
    let c = Container::sh("while :; do :; done")
        .with(|c| c["linux"]["resources"]["cpu"] = json!({ "quota": 2000, "period": 20000 }));
    c.create().start();
    let throttled = call::within(Duration::from_secs(10), || {
        let data = stats(&c);
        (number(&data, "/cpu/throttling/throttledPeriods") > 3).then_some(data)
    });
    let data = throttled.expect("throttled");
    assert!(number(&data, "/cpu/throttling/throttledTime") > 0);
    if std::path::Path::new("/proc/pressure/cpu").exists() {
        for pointer in ["/cpu/psi/some/total", "/memory/psi/full/total", "/blkio/psi/some/total"] {
            number(&data, pointer);
        }
        assert!(data.pointer("/cpu/psi/some/avg10").is_some_and(Value::is_f64));
    }
}

#[test]
fn figures_of_a_pure_v2_tree() {
    spec!();
    fails_with!("crun", "knows no events");
    fails_with!("runc", "1.1 fails where a controller is missing");
    // Some kernels share time out between user and system by samples, some hundred in a second.
    let c = Container::sh("head -c 100000000 /dev/zero | md5sum >/dev/null; echo up; sleep 1000")
        .by(&host::PURE_V2);
    c.create().start();
    c.until_output("up");
    let data = stats(&c);
    // The time is counted without any controller.
    assert!(number(&data, "/cpu/usage/total") > 1_000_000, "{data:#}");
    assert!(number(&data, "/cpu/usage/user") > 0);
}

#[test]
fn again_and_again_until_the_end() {
    spec!();
    controllers!();
    fails_with!("crun", "knows no events");
    let c = Container::sleeper();
    c.create().start();
    let mut watch = c.call(&["events", "--interval", "100ms", &c.id]).spawn();
    let seen =
        call::within(Duration::from_secs(10), || (watch.out().lines().count() >= 3).then_some(()));
    assert!(seen.is_some() && !watch.ended());
    c.kill("KILL").ok();
    let killed = Instant::now();
    if !runtime::runtime().is_davit() {
        // runc waits for the end of the cgroup.
        c.delete().ok();
    }
    let out = watch.wait().exits(0);
    assert!(killed.elapsed() < call::patient(Duration::from_secs(3)));
    for event in events(&out.out) {
        assert_eq!(event["type"], "stats", "{event}");
        assert!(number(&event["data"], "/pids/current") <= 10);
    }
}

#[test]
fn the_kernels_kills() {
    spec!();
    controllers!();
    fails_with!("crun", "knows no events");
    let script = "while [ ! -e /go ]; do sleep 0.02; done; \
                  head -c 100000000 /dev/zero | tail -c 90000000 | wc -c; echo over; \
                  while :; do sleep 0.05; done";
    let c = Container::sh(script).with(|c| {
        c["linux"]["resources"]["memory"] = json!({ "limit": 40 << 20, "swap": 40 << 20 });
    });
    c.create().start();
    let mut watch = c.call(&["events", "--interval", "200ms", &c.id]).spawn();
    watch.until_out("stats");
    std::fs::write(c.rootfs().join("go"), "").expect("write");
    c.until_output("over");
    let out = watch.until_out(r#""type":"oom""#);
    let oom = events(&out[..=out.rfind('\n').unwrap_or(0)])
        .into_iter()
        .find(|event| event["type"] == "oom")
        .expect("an event");
    assert_eq!(oom["id"], c.id.as_str());
    let data = stats(&c);
    assert!(number(&data, "/memory/usage/max") > 30 << 20, "{data:#}");
    if runtime::runtime().is_davit() {
        assert!(number(&data, "/memory/event_count/oom_kill") > 0);
    }
    c.delete().ok();
    let _ = watch.wait().exits(0);
}

#[test]
fn an_init_that_is_killed_for_memory() {
    davit_only!("runc may miss it");
    controllers!();
    let c =
        Container::sh("while [ ! -e /go ]; do sleep 0.02; done; exec tail -c 90000000 /dev/zero")
            .with(|c| {
                c["linux"]["resources"]["memory"] = json!({ "limit": 40 << 20, "swap": 40 << 20 });
            });
    c.create().start();
    let mut watch = c.call(&["events", "--interval", "100ms", &c.id]).spawn();
    watch.until_out("stats");
    std::fs::write(c.rootfs().join("go"), "").expect("write");
    let out = watch.wait().exits(0);
    assert!(events(&out.out).iter().any(|event| event["type"] == "oom"), "{out:?}");
    c.until_status("stopped");
}

#[test]
fn paused_and_created_ones_have_figures() {
    spec!();
    controllers!();
    fails_with!("crun", "knows no events");
    let c = Container::sleeper();
    c.create();
    stats(&c);
    c.start();
    c.call(&["pause", &c.id]).done().ok();
    assert!(number(&stats(&c), "/pids/current") > 0);
    c.call(&["resume", &c.id]).done().ok();
}

#[test]
fn bad_calls() {
    spec!();
    fails_with!("crun", "knows no events");
    let c = Container::new(&["true"]);
    c.call(&["events", "--stats", &c.id]).done().refuses(&["does not exist"]);
    c.create();
    for interval in ["0s", "x", "-1s"] {
        let events = c.call(&["events", "--interval", interval, &c.id]).done().fails();
        assert!(!runtime::runtime().is_davit() || events.err.contains("--interval"), "{events:?}");
    }
    c.start();
    c.until_status("stopped");
    c.call(&["events", "--stats", &c.id]).done().refuses(&["not running"]);
    c.call(&["events", &c.id]).done().refuses(&["not running"]);
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    davit_only!("runc goes on");
    let c = Container::sleeper();
    c.create().start();
    let script = "\"$@\" 2>/dev/null | head -n 1";
    let before = ["sh", "-c", script, "sh"];
    let out = c.call_through(&before, &["events", "--interval", "50ms", &c.id]).done().exits(0);
    assert_eq!(out.lines().len(), 1);
}
