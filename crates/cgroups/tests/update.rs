//! New limits for a cgroup that has some: what is written, and in which order. Without root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use davit_cgroups::{Current, Hierarchy, Layout, Op, Unified, plan_device_update, plan_update};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

fn v2() -> Layout {
    let controllers = ["cpuset", "cpu", "io", "memory", "pids"].map(str::to_owned).to_vec();
    let unified = Unified { mountpoint: "/cg".into(), controllers };
    Layout { unified: Some(unified), hierarchies: Vec::new() }
}

fn v1() -> Layout {
    let tree = |name: &str| Hierarchy {
        mountpoint: Path::new("/cg").join(name),
        controllers: vec![name.to_owned()],
    };
    let hierarchies = ["cpu", "memory", "devices", "pids"].map(tree).to_vec();
    Layout { unified: None, hierarchies }
}

fn writes(ops: Vec<Op>) -> String {
    let show = |op: Op| match op {
        Op::Write { file, values, .. } => Some(format!("{file}={}", values.join("|"))),
        Op::CheckUsage { limit, .. } => Some(format!("usage<={limit}")),
        Op::Devices { program, .. } => Some(format!("a filter of {}", program.len())),
        _ => None,
    };
    ops.into_iter().filter_map(show).collect::<Vec<_>>().join(" ")
}

fn update(layout: &Layout, current: Current, json: &str) -> String {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    match plan_update(&resources, Path::new("web"), None, layout, current) {
        Ok(ops) => writes(ops),
        Err(error) => error.to_string(),
    }
}

#[test]
fn memory_and_swap_of_v1_are_never_the_wrong_way_round() {
    let at = |memory, both| Current {
        memory: Some(memory),
        memory_and_swap: Some(both),
        ..Current::default()
    };
    let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    for (current, json, expected) in [
        (at(10, 20), r#"{"limit":30,"swap":40}"#, format!("{both}=40 {memory}=30")),
        (at(30, 40), r#"{"limit":10,"swap":20}"#, format!("{memory}=10 {both}=20")),
        (at(-1, -1), r#"{"limit":10,"swap":20}"#, format!("{memory}=10 {both}=20")),
        (at(10, 20), r#"{"limit":30,"swap":-1}"#, format!("{both}=-1 {memory}=30")),
        (at(10, 20), r#"{"limit":-1}"#, format!("{both}=-1 {memory}=-1")),
        (at(10, 20), r#"{"limit":15}"#, format!("{memory}=15")),
        (at(10, 20), r#"{"swap":15}"#, format!("{both}=15")),
        (at(10, 20), r#"{"swap":-1}"#, format!("{both}=-1")),
        (
            at(10, 20),
            r#"{"limit":30}"#,
            "linux.resources.memory.limit: is above the 20 bytes of memory and swap together: \
             linux.resources.memory.swap must be raised with it"
                .to_owned(),
        ),
        (
            at(10, 20),
            r#"{"swap":5}"#,
            "linux.resources.memory.swap: is memory and swap together: it cannot be below \
             linux.resources.memory.limit"
                .to_owned(),
        ),
    ] {
        assert_eq!(update(&v1(), current, &format!(r#"{{"memory":{json}}}"#)), expected, "{json}");
    }
}

#[test]
fn what_stays_counts_on_v2() {
    let current =
        Current { memory: Some(100), memory_and_swap: None, quota: Some(5000), period: None };
    for (json, expected) in [
        (r#"{"memory":{"limit":200}}"#, "memory.max=200"),
        (r#"{"memory":{"swap":150}}"#, "memory.swap.max=50"),
        (r#"{"memory":{"limit":0,"swap":150,"reservation":0,"kernel":0}}"#, "memory.swap.max=50"),
        // C17: as runc does, on v1 as well.
        (r#"{"memory":{"limit":-1}}"#, "memory.swap.max=max memory.max=max"),
        (r#"{"memory":{"limit":-1,"swap":0}}"#, "memory.swap.max=max memory.max=max"),
        (r#"{"memory":{"limit":200,"swap":200}}"#, "memory.swap.max=0 memory.max=200"),
        (
            r#"{"memory":{"limit":50,"swap":60,"checkBeforeUpdate":true}}"#,
            "usage<=50 memory.swap.max=10 memory.max=50",
        ),
        (r#"{"cpu":{"period":20000}}"#, "cpu.max=5000 20000"),
        (r#"{"cpu":{"quota":7000}}"#, "cpu.max=7000"),
        (r#"{"cpu":{"quota":-1}}"#, "cpu.max=max"),
        (
            r#"{"cpu":{"quota":7000,"burst":6000}}"#,
            "cpu.max.burst=0 cpu.max=7000 cpu.max.burst=6000",
        ),
        (r#"{"cpu":{},"memory":{},"blockIO":{}}"#, ""),
        (r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#, ""),
    ] {
        assert_eq!(update(&v2(), current, json), expected, "{json}");
    }
}

#[test]
fn device_rules_are_added_to_those_that_are_there() {
    let parse = |json: &str| serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap();
    let plan = |layout: &Layout, before: &str, more: &str| {
        let config = parse(r#"[{"allow":false,"access":"rwm"}]"#);
        let path = Path::new("web");
        match plan_device_update(&config, &parse(before), &parse(more), path, layout) {
            Ok(ops) => writes(ops),
            Err(error) => error.to_string(),
        }
    };
    let fuse = r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
    let no_fuse = r#"[{"allow":false,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
    assert_eq!(plan(&v1(), "[]", fuse), "devices.allow=c 10:229 rw");
    assert_eq!(plan(&v1(), fuse, fuse), "");
    assert_eq!(plan(&v1(), fuse, no_fuse), "devices.deny=c 10:229 rw");
    let hole = r#"[{"allow":false,"type":"c","major":136,"minor":1,"access":"r"}]"#;
    assert_eq!(
        plan(&v1(), "[]", hole),
        "device rule: cgroup v1 cannot take c 136:1 r out of c 136:* rwm"
    );
    assert!(plan(&v2(), "[]", fuse).starts_with("a filter of "));
    assert!(plan(&v2(), "[]", r#"[{"allow":true}]"#).starts_with("device rule[0].access: "));
}
