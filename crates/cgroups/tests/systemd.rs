//! config.json in, steps for the systemd driver out: on imagined hosts, without root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::path::Path;

use davit_cgroups::{
    Address, Bus, Cgroup, Current, Hierarchy, Host, Layout, Op, Request, Systemd, Unified, Unit,
    plan, plan_update,
};
use oci_spec::runtime::LinuxResources;

fn v2() -> Layout {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned);
    let unified = Unified { mountpoint: "/cg".into(), controllers: controllers.to_vec() };
    Layout { unified: Some(unified), hierarchies: Vec::new() }
}

fn hybrid() -> Layout {
    let hierarchy = Hierarchy {
        mountpoint: "/cg/systemd".into(),
        controllers: vec!["name=systemd".to_owned()],
    };
    Layout { hierarchies: vec![hierarchy], ..v2() }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// A machine with cgroup v2, and a systemd that makes the cgroups.
fn with_systemd(version: u32) -> Host {
    let socket = Address::Path("/run/systemd/private".into());
    let bus = Bus { socket, direct: true, user: false };
    let systemd = Some(Systemd { bus, version, root: "".into() });
    Host { layout: v2(), writable: true, systemd, ..Host::default() }
}

#[test]
fn a_plan_for_systemd_reads_like_a_story() {
    let resources = resources(
        r#"{"pids":{"limit":2048},"memory":{"limit":1048576},"cpu":{"idle":1,"quota":5000},
            "unified":{"memory.high":"max"},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
    );
    let annotations = HashMap::from([
        ("org.systemd.property.TimeoutStopSec".to_owned(), "10".to_owned()),
        ("org.systemd.property.Description".to_owned(), "'mine'".to_owned()),
        ("org.example".to_owned(), "x".to_owned()),
    ]);
    let request = Request {
        resources: Some(&resources),
        path: Some(Path::new("machine.slice:libpod:web")),
        annotations: Some(&annotations),
        id: "web",
        owner: None,
        subgroup: None,
    };
    let ops = plan(&request, &with_systemd(257)).unwrap();
    let listing: Vec<String> = ops.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(listing.join("\n"), @r#"
    cgroup systemd unit "libpod-web.scope" at /cg/machine.slice/libpod-web.scope: Slice="machine.slice" Delegate=true MemoryAccounting=true CPUAccounting=true IOAccounting=true TasksAccounting=true MemoryMax=1048576 CPUWeight=0 CPUQuotaPerSecUSec=50000 CPUQuotaPeriodUSec=100000 TasksMax=2048 MemoryHigh=infinity DefaultDependencies=false Description="mine" TimeoutStopUSec=10000000
    cgroup enable below /cg: memory cpu pids hugetlb (for linux.resources.memory.limit, linux.resources.cpu.quota, linux.resources.pids.limit, linux.resources.hugepageLimits[0]) cpuset io (if possible)
    cgroup enable below /cg/machine.slice: memory cpu pids hugetlb (for linux.resources.memory.limit, linux.resources.cpu.quota, linux.resources.pids.limit, linux.resources.hugepageLimits[0]) cpuset io (if possible)
    linux.resources.memory.limit /cg/machine.slice/libpod-web.scope: memory.max = "1048576"
    linux.resources.cpu.idle /cg/machine.slice/libpod-web.scope: cpu.idle = "1"
    linux.resources.cpu.quota /cg/machine.slice/libpod-web.scope: cpu.max = "5000"
    linux.resources.pids.limit /cg/machine.slice/libpod-web.scope: pids.max = "2048"
    linux.resources.hugepageLimits[0] /cg/machine.slice/libpod-web.scope: hugetlb.2MB.max = "0"
    linux.resources.hugepageLimits[0] /cg/machine.slice/libpod-web.scope: hugetlb.2MB.rsvd.max = "0", if the kernel has the file
    linux.resources.unified["memory.high"] /cg/machine.slice/libpod-web.scope: memory.high = "max"
    linux.resources.devices /cg/machine.slice/libpod-web.scope: attach a filter of 54 instructions
    "#);
    let record = Cgroup::planned(&ops);
    assert_eq!(record.members[0].directory, Path::new("/cg/machine.slice/libpod-web.scope"));
    assert_eq!(record.unit.as_ref().map(|unit| unit.name.as_str()), Some("libpod-web.scope"));
    assert!(ops[0].needs_process() && !ops[1].needs_process());
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), record);
}

#[test]
fn a_users_systemd_has_its_own_part_of_the_tree() {
    let mut host = with_systemd(257);
    host.rootless = true;
    if let Some(systemd) = &mut host.systemd {
        systemd.bus.user = true;
        systemd.root = "user.slice/user-1000.slice/user@1000.service".into();
    }
    let request = Request { id: "web", ..Request::default() };
    let record = Cgroup::planned(&plan(&request, &host).unwrap());
    let place = "user.slice/user-1000.slice/user@1000.service/user.slice/davit-web.scope";
    assert_eq!(record.members[0].path, Path::new(place));
}

#[test]
fn what_systemd_cannot_do_is_refused() {
    let refused = |host: &Host, path: &str, key: &str, value: &str| {
        let annotations = HashMap::from([(key.to_owned(), value.to_owned())]);
        let path = Some(Path::new(path));
        let request =
            Request { path, annotations: Some(&annotations), id: "web", ..Request::default() };
        plan(&request, host).unwrap_err().to_string()
    };
    let slice = "org.systemd.property.Slice";
    assert_eq!(
        refused(&with_systemd(257), "", slice, "'x.slice'"),
        "annotations[\"org.systemd.property.Slice\"]: is set from the rest of config.json"
    );
    let pids = refused(&with_systemd(257), "", "org.systemd.property.PIDs", "[uint32 1]");
    assert!(pids.ends_with("is set from the rest of config.json"), "{pids}");
    assert!(refused(&with_systemd(257), "/a", "x", "").contains("is not slice:prefix:name"));
    let hybrid = Host { layout: hybrid(), ..with_systemd(257) };
    assert!(refused(&hybrid, "", "x", "").contains("needs a host with cgroup v2 alone"));
}

#[test]
fn an_update_tells_systemd_between_two_writes() {
    let unit = Unit {
        name: "x.scope".to_owned(),
        bus: with_systemd(257).systemd.unwrap().bus,
        version: 257,
    };
    let listing = |json: &str| {
        let current = Current { period: Some(50_000), ..Current::default() };
        let path = Path::new("s/x.scope");
        let ops = plan_update(&resources(json), path, Some(&unit), &v2(), current).unwrap();
        let ops = ops.iter().filter(|op| !matches!(op, Op::Enable { .. }));
        ops.map(ToString::to_string).collect::<Vec<_>>()
    };
    let write = "linux.resources.cpu.quota /cg/s/x.scope: cpu.max = \"5000\"";
    let tell =
        "cgroup systemd unit \"x.scope\": CPUQuotaPerSecUSec=100000 CPUQuotaPeriodUSec=50000";
    assert_eq!(listing(r#"{"cpu":{"quota":5000}}"#), [write, tell, write]);
    assert_eq!(listing(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#).len(), 2);
}
