//! config.json in, steps out: on imagined hosts, without root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use davit_cgroups::{
    Cgroup, Hierarchy, Host, IfMissing, Layout, Op, Request, Unified, plan, plan_resources,
};
use oci_spec::runtime::LinuxResources;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn v2() -> Layout {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let unified = Unified { mountpoint: "/cg".into(), controllers: words(&controllers) };
    Layout { unified: Some(unified), hierarchies: Vec::new() }
}

fn v1() -> Layout {
    let trees: [&[&str]; 11] = [
        &["cpu", "cpuacct"],
        &["cpuset"],
        &["memory"],
        &["devices"],
        &["freezer"],
        &["blkio"],
        &["pids"],
        &["hugetlb"],
        &["net_cls", "net_prio"],
        &["rdma"],
        &["name=systemd"],
    ];
    let hierarchies = trees
        .iter()
        .map(|names| Hierarchy {
            mountpoint: Path::new("/cg").join(names.join(",").replace("name=", "")),
            controllers: words(names),
        })
        .collect();
    Layout { unified: None, hierarchies }
}

fn hybrid() -> Layout {
    let mut layout = v1();
    layout.hierarchies.retain(|tree| {
        ["memory", "devices", "name=systemd"].contains(&tree.controllers[0].as_str())
    });
    let mountpoint = "/cg/unified".into();
    layout.unified = Some(Unified { mountpoint, controllers: words(&["hugetlb"]) });
    layout
}

fn root(layout: Layout) -> Host {
    Host { layout, writable: true, ..Host::default() }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// `file=value` of each write for these resources, the directory left out.
fn writes(layout: &Layout, json: &str) -> Result<Vec<String>, String> {
    let ops = plan_resources(Some(&resources(json)), Path::new("web"), layout)
        .map_err(|error| error.to_string())?;
    let show = |op: Op| match op {
        Op::Write { file, values, if_missing, .. } => Some(match if_missing {
            IfMissing::Fail => format!("{file}={}", values.join("|")),
            IfMissing::Ignore => format!("{file}={}?", values.join("|")),
            IfMissing::WriteInstead { file: other, values: others } => {
                format!("{file}={} else {other}={}", values.join("|"), others.join("|"))
            }
        }),
        Op::CheckUsage { limit, .. } => Some(format!("usage<={limit}")),
        _ => None,
    };
    Ok(ops.into_iter().filter_map(show).collect())
}

#[test]
fn a_plan_for_v2_reads_like_a_story() {
    let resources = resources(
        r#"{"pids":{"limit":2048},"memory":{"limit":1048576,"swap":2097152},
            "devices":[{"allow":false,"access":"rwm"}]}"#,
    );
    let path = Some(Path::new("/pod/web"));
    let request = Request {
        resources: Some(&resources),
        path,
        id: "web",
        owner: Some(1000),
        ..Request::default()
    };
    let listing: Vec<String> =
        plan(&request, &root(v2())).unwrap().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(listing.join("\n"), @r#"
    cgroup make /cg/pod/web
    cgroup enable below /cg: memory pids (for linux.resources.memory.limit, linux.resources.pids.limit) cpuset cpu io hugetlb rdma misc (if possible)
    cgroup enable below /cg/pod: memory pids (for linux.resources.memory.limit, linux.resources.pids.limit) cpuset cpu io hugetlb rdma misc (if possible)
    linux.resources.memory.swap /cg/pod/web: memory.swap.max = "1048576"
    linux.resources.memory.limit /cg/pod/web: memory.max = "1048576"
    linux.resources.pids.limit /cg/pod/web: pids.max = "2048"
    linux.resources.devices /cg/pod/web: attach a filter of 54 instructions
    cgroup give /cg/pod/web to uid 1000
    "#);
}

#[test]
fn a_plan_for_a_hybrid_host_uses_each_controller_where_it_is() {
    let resources = resources(
        r#"{"memory":{"limit":1048576},"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
    );
    let request = Request { resources: Some(&resources), id: "web", ..Request::default() };
    let ops = plan(&request, &root(hybrid())).unwrap();
    let listing: Vec<String> = ops.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(listing.join("\n"), @r#"
    cgroup make /cg/unified/web
    cgroup make /cg/memory/web (memory)
    cgroup make /cg/devices/web (devices)
    cgroup make /cg/systemd/web (name=systemd)
    cgroup enable below /cg/unified: hugetlb (for linux.resources.hugepageLimits[0])
    linux.resources.memory.limit /cg/memory/web: memory.limit_in_bytes = "1048576"
    linux.resources.hugepageLimits[0] /cg/unified/web: hugetlb.2MB.max = "0"
    linux.resources.hugepageLimits[0] /cg/unified/web: hugetlb.2MB.rsvd.max = "0", if the kernel has the file
    linux.resources.devices /cg/devices/web: devices.deny = "a"
    linux.resources.devices /cg/devices/web: devices.allow = "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 10:200 rwm", "c 136:* rwm"
    "#);
    let record = Cgroup::planned(&ops);
    assert_eq!(record.members.len(), 4);
    assert!(record.members[0].is_unified());
    assert_eq!(record.members[1].directory, Path::new("/cg/memory/web"));
}

/// Resources, and the files on cgroup v2 and on v1.
const LIMITS: &[(&str, &str, &str)] = &[
    ("{}", "", ""),
    (
        r#"{"memory":{"limit":100,"reservation":50,"swap":150}}"#,
        "memory.swap.max=50 memory.max=100 memory.low=50",
        "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=150 memory.soft_limit_in_bytes=50",
    ),
    (
        r#"{"memory":{"limit":100,"swap":100}}"#,
        "memory.swap.max=0? memory.max=100",
        "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=100",
    ),
    (
        r#"{"memory":{"limit":-1,"reservation":-1,"swap":-1}}"#,
        "memory.swap.max=max? memory.max=max memory.low=max",
        "memory.memsw.limit_in_bytes=-1? memory.limit_in_bytes=-1 memory.soft_limit_in_bytes=-1",
    ),
    (
        r#"{"memory":{"limit":-1}}"#,
        "memory.swap.max=max? memory.max=max",
        "memory.memsw.limit_in_bytes=-1? memory.limit_in_bytes=-1",
    ),
    (
        r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#,
        "usage<=100 memory.max=100",
        "memory.limit_in_bytes=100",
    ),
    (
        r#"{"memory":{"kernel":-1,"kernelTCP":-1,"disableOOMKiller":false,"useHierarchy":true}}"#,
        "",
        "memory.kmem.limit_in_bytes=-1 memory.kmem.tcp.limit_in_bytes=-1 memory.oom_control=0 \
             memory.use_hierarchy=1",
    ),
    (r#"{"cpu":{"shares":1024}}"#, "cpu.weight=100", "cpu.shares=1024"),
    (
        r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0,"kernelTCP":0,
                "swappiness":18446744073709551615,"checkBeforeUpdate":true}}"#,
        "",
        "",
    ),
    (
        r#"{"cpu":{"shares":0,"quota":0,"period":0,"realtimePeriod":0,"realtimeRuntime":0,
                "cpus":"","mems":""}}"#,
        "",
        "",
    ),
    (
        r#"{"cpu":{"quota":50000,"period":100000,"burst":1000}}"#,
        "cpu.max=50000 100000|cpu.max.burst=1000",
        "cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 cpu.cfs_burst_us=1000",
    ),
    (r#"{"cpu":{"quota":50000}}"#, "cpu.max=50000", "cpu.cfs_quota_us=50000"),
    (r#"{"cpu":{"quota":-1}}"#, "cpu.max=max", "cpu.cfs_quota_us=-1"),
    (r#"{"cpu":{"period":20000}}"#, "cpu.max=max 20000", "cpu.cfs_period_us=20000"),
    (
        r#"{"cpu":{"shares":2,"idle":1}}"#,
        "cpu.idle=0 cpu.weight=1 cpu.idle=1",
        "cpu.idle=0 cpu.shares=2 cpu.idle=1",
    ),
    (r#"{"cpu":{"shares":2,"idle":0}}"#, "cpu.idle=0 cpu.weight=1", "cpu.idle=0 cpu.shares=2"),
    (
        r#"{"cpu":{"cpus":"0-1,3","mems":"0"}}"#,
        "cpuset.cpus=0-1,3 cpuset.mems=0",
        "cpuset.cpus=0-1,3 cpuset.mems=0",
    ),
    (r#"{"pids":{"limit":5}}"#, "pids.max=5", "pids.max=5"),
    (r#"{"pids":{"limit":0}}"#, "", ""),
    (r#"{"pids":{"limit":-1}}"#, "pids.max=max", "pids.max=max"),
    (
        r#"{"blockIO":{"weight":100}}"#,
        "io.bfq.weight=100 else io.weight=910",
        "blkio.weight=100 else blkio.bfq.weight=100",
    ),
    (
        r#"{"blockIO":{"weight":0,"weightDevice":[{"major":8,"minor":1,"weight":10}]}}"#,
        "io.bfq.weight=8:1 10 else io.weight=8:1 1",
        "blkio.weight_device=8:1 10 else blkio.bfq.weight_device=8:1 10",
    ),
    (
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
                "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":1}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":300}]}}"#,
        "io.max=8:0 rbps=600|io.max=8:0 wbps=max|io.max=8:0 riops=1|io.max=8:16 wiops=300",
        "blkio.throttle.read_bps_device=8:0 600|blkio.throttle.write_bps_device=8:0 0|\
             blkio.throttle.read_iops_device=8:0 1|blkio.throttle.write_iops_device=8:16 300",
    ),
    (
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":209715200}]}"#,
        "hugetlb.2MB.max=209715200 hugetlb.2MB.rsvd.max=209715200?",
        "hugetlb.2MB.limit_in_bytes=209715200 hugetlb.2MB.rsvd.limit_in_bytes=209715200?",
    ),
    (
        r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"mlx4_0":{"hcaObjects":1}}}"#,
        "rdma.max=mlx4_0 hca_object=1|rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        "rdma.max=mlx4_0 hca_object=1|rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
    ),
    (r#"{"network":{"classID":0,"priorities":[]}}"#, "", ""),
];

#[test]
fn limits_become_these_files() {
    for &(json, expected_v2, expected_v1) in LIMITS {
        for (layout, expected) in [(v2(), expected_v2), (v1(), expected_v1)] {
            let found = writes(&layout, json).unwrap_or_else(|error| panic!("{json}: {error}"));
            let spaced = found.join(" ");
            assert!(spaced == expected || found.join("|") == expected, "{json}: {spaced}");
        }
    }
}

#[test]
fn some_limits_exist_on_one_version_only() {
    for (json, expected_v1, field) in [
        (r#"{"memory":{"kernel":5}}"#, "memory.kmem.limit_in_bytes=5", "memory.kernel"),
        (r#"{"memory":{"kernelTCP":5}}"#, "memory.kmem.tcp.limit_in_bytes=5", "memory.kernelTCP"),
        (r#"{"memory":{"swappiness":60}}"#, "memory.swappiness=60", "memory.swappiness"),
        (
            r#"{"memory":{"disableOOMKiller":true}}"#,
            "memory.oom_control=1",
            "memory.disableOOMKiller",
        ),
        (r#"{"memory":{"useHierarchy":false}}"#, "memory.use_hierarchy=0", "memory.useHierarchy"),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, "cpu.rt_runtime_us=5", "cpu.realtimeRuntime"),
        (r#"{"cpu":{"realtimePeriod":5}}"#, "cpu.rt_period_us=5", "cpu.realtimePeriod"),
        (r#"{"blockIO":{"leafWeight":10}}"#, "blkio.leaf_weight=10", "blockIO.leafWeight"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}"#,
            "blkio.leaf_weight_device=8:0 10",
            "blockIO.weightDevice[0].leafWeight",
        ),
        (r#"{"network":{"classID":1048577}}"#, "net_cls.classid=1048577", "network.classID"),
        (
            r#"{"network":{"priorities":[{"name":"eth0","priority":500},{"name":"lo","priority":1}]}}"#,
            "net_prio.ifpriomap=eth0 500|lo 1",
            "network.priorities",
        ),
    ] {
        assert_eq!(writes(&v1(), json).unwrap().join(" "), expected_v1);
        let error = format!("linux.resources.{field}: cgroup v2 has no equivalent of it");
        assert_eq!(writes(&v2(), json).unwrap_err(), error);
    }
}

#[test]
fn a_missing_controller_is_named_with_the_field() {
    let bare = Layout {
        unified: Some(Unified { mountpoint: "/cg".into(), controllers: words(&["hugetlb"]) }),
        hierarchies: Vec::new(),
    };
    for (json, field, controller) in [
        (r#"{"memory":{"reservation":1}}"#, "memory.reservation", "memory"),
        (r#"{"cpu":{"shares":2}}"#, "cpu.shares", "cpu"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpu.mems", "cpuset"),
        (r#"{"pids":{"limit":-1}}"#, "pids.limit", "pids"),
        (r#"{"blockIO":{"weight":10}}"#, "blockIO.weight", "io"),
        (r#"{"rdma":{"x":{"hcaHandles":3}}}"#, "rdma[\"x\"]", "rdma"),
        (r#"{"unified":{"memory.high":"1"}}"#, "unified[\"memory.high\"]", "memory"),
    ] {
        let error = format!("linux.resources.{field}: this host has no {controller} controller");
        assert_eq!(writes(&bare, json).unwrap_err(), error);
    }
    // Nobody asked: nothing is missed, on any host.
    for layout in [bare, Layout::default()] {
        assert!(plan(&Request { id: "web", ..Request::default() }, &root(layout)).is_ok());
    }
    let blkio = r#"{"blockIO":{"weight":10}}"#;
    assert_eq!(
        writes(&Layout::default(), blkio).unwrap_err(),
        "linux.resources.blockIO.weight: this host has no blkio controller"
    );
}

/// Invalid resources, and the errors.
const INVALID: &[(&str, &str)] = &[
    (
        r#"{"memory":{"limit":0,"swap":5}}"#,
        "memory.swap: needs linux.resources.memory.limit as well",
    ),
    (
        r#"{"memory":{"reservation":-2}}"#,
        "memory.reservation: must be a number of bytes, or -1 for no limit",
    ),
    (r#"{"memory":{"swap":5}}"#, "memory.swap: needs linux.resources.memory.limit as well"),
    (
        r#"{"memory":{"swap":5,"limit":-1}}"#,
        "memory.swap: needs linux.resources.memory.limit as well",
    ),
    (
        r#"{"memory":{"swap":5,"limit":6}}"#,
        "memory.swap: is memory and swap together: it cannot be below \
             linux.resources.memory.limit",
    ),
    (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: must be 0 to 100"),
    (r#"{"cpu":{"quota":-2}}"#, "cpu.quota: must be a number of microseconds, or -1 for no limit"),
    (
        r#"{"cpu":{"quota":1000,"burst":1001}}"#,
        "cpu.burst: cannot be above linux.resources.cpu.quota",
    ),
    (r#"{"cpu":{"idle":2}}"#, "cpu.idle: must be 0 or 1"),
    (r#"{"cpu":{"cpus":"0\n1"}}"#, "cpu.cpus: is not a list such as 0-3,7"),
    (r#"{"pids":{"limit":-2}}"#, "pids.limit: must be a number of tasks, or -1 for no limit"),
    (r#"{"blockIO":{"weight":9}}"#, "blockIO.weight: 9 is not in 10 to 1000"),
    (
        r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#,
        "blockIO.weightDevice[0]: needs weight or leafWeight",
    ),
    (
        r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":-1,"minor":0,"rate":1}]}}"#,
        "blockIO.throttleReadIOPSDevice[0]: -1:0 is not a device number",
    ),
    (
        r#"{"hugepageLimits":[{"pageSize":"2M","limit":1}]}"#,
        "hugepageLimits[0].pageSize: \"2M\" is not a page size such as 64KB, 2MB, 1GB",
    ),
    (
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#,
        "hugepageLimits[0].limit: must be a number of bytes",
    ),
    (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "rdma[\"a b\"]: \"a b\" is not a name"),
    (r#"{"rdma":{"a":{}}}"#, "rdma[\"a\"]: needs hcaHandles or hcaObjects"),
    (
        r#"{"network":{"priorities":[{"name":"","priority":1}]}}"#,
        "network.priorities[0].name: \"\" is not a name",
    ),
];

#[test]
fn invalid_values_name_the_field() {
    for &(json, error) in INVALID {
        for layout in [v1(), v2()] {
            assert_eq!(writes(&layout, json).unwrap_err(), format!("linux.resources.{error}"));
        }
    }
}

#[test]
fn unified_keys_are_file_names() {
    let found = writes(
        &v2(),
        r#"{"memory":{"limit":5},"unified":{"misc.max":"res_a 1","cgroup.max.depth":"3",
            "io.max":"259:0 rbps=1\n253:0 wiops=2\n"}}"#,
    );
    let expected = [
        "memory.max=5",
        "cgroup.max.depth=3",
        "io.max=259:0 rbps=1|253:0 wiops=2",
        "misc.max=res_a 1",
    ];
    assert_eq!(found.unwrap(), expected);
    for (key, reason) in [
        ("../cgroup.max.depth", "must be a file name, without `/` and `..`"),
        ("a/memory.max", "must be a file name, without `/` and `..`"),
        ("memory..max", "must be a file name, without `/` and `..`"),
        ("memory", "is not the name of a cgroup v2 file"),
        ("", "is not the name of a cgroup v2 file"),
        (".x", "is not the name of a cgroup v2 file"),
        ("memory.max\\n", "is not the name of a cgroup v2 file"),
        ("cgroup.procs", "moves processes, it is not a limit"),
        ("nosuch.max", "this host has no nosuch controller"),
    ] {
        let error = writes(&v2(), &format!(r#"{{"unified":{{"{key}":"1"}}}}"#)).unwrap_err();
        assert_eq!(error, format!("linux.resources.unified[\"{key}\"]: {reason}"));
    }
    assert_eq!(
        writes(&v1(), r#"{"unified":{"memory.max":"1"}}"#).unwrap_err(),
        "linux.resources.unified[\"memory.max\"]: needs cgroup v2, which this host does not have"
    );
    assert_eq!(
        writes(&v2(), r#"{"unified":{"memory.max":""}}"#).unwrap_err(),
        "linux.resources.unified[\"memory.max\"]: has no value"
    );
}

#[test]
fn a_privileged_container_has_no_filter() {
    let everything = resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    let request = Request { resources: Some(&everything), id: "web", ..Request::default() };
    for layout in [v1(), v2()] {
        let ops = plan(&request, &root(layout)).unwrap();
        let filtered = |op: &Op| matches!(op, Op::Devices { .. } | Op::Write { .. });
        assert!(!ops.iter().any(filtered));
    }
    // Without rules there is a filter: the devices of every container, nothing else.
    let ops = plan(&Request { id: "web", ..Request::default() }, &root(v2())).unwrap();
    assert!(matches!(ops.last(), Some(Op::Devices { optional: false, .. })));
    let denied = resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let request = Request { resources: Some(&denied), id: "web", ..Request::default() };
    assert_eq!(
        plan(&request, &root(Layout::default())).unwrap_err().to_string(),
        "linux.resources.devices: this host has no devices controller"
    );
}

#[test]
fn rootless_without_permission_has_no_cgroup_and_no_limits() {
    let host = |writable| Host { layout: v2(), rootless: true, writable, ..Host::default() };
    let denied = resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let request = Request { resources: Some(&denied), id: "web", ..Request::default() };
    assert!(plan(&request, &host(false)).unwrap().is_empty());
    assert!(Cgroup::planned(&[]).is_empty());

    let limited = resources(r#"{"pids":{"limit":5}}"#);
    let refused = Request { resources: Some(&limited), ..request };
    assert_eq!(
        plan(&refused, &host(false)).unwrap_err().to_string(),
        "linux.resources.pids.limit: this user cannot create cgroups here"
    );
    let refused = Request { path: Some(Path::new("/a")), ..request };
    assert_eq!(
        plan(&refused, &host(false)).unwrap_err().to_string(),
        "linux.cgroupsPath: this user cannot create cgroups here"
    );

    let ops = plan(&request, &host(true)).unwrap();
    assert!(matches!(ops.last(), Some(Op::Devices { optional: true, .. })));
}

/// C16: a limit gets a cgroup beside the caller's own, where that has been delegated.
#[test]
fn rootless_limits_go_beside_the_caller() {
    let above = "user.slice/user-1000.slice/user@1000.service/app.slice";
    let host = Host {
        layout: v2(),
        rootless: true,
        delegated_parent: Some(above.into()),
        ..Host::default()
    };
    let limited = resources(r#"{"pids":{"limit":5}}"#);
    let request = Request { resources: Some(&limited), id: "web", ..Request::default() };
    let record = Cgroup::planned(&plan(&request, &host).unwrap());
    assert_eq!(record.members[0].path, Path::new(above).join("web"));
    // Nothing needs one.
    let without = Request { resources: None, ..request };
    assert!(plan(&without, &host).unwrap().is_empty());
}

#[test]
fn steps_survive_storage_but_for_their_origin() {
    let limits = resources(r#"{"pids":{"limit":5},"blockIO":{"weight":10}}"#);
    let request = Request { resources: Some(&limits), id: "web", ..Request::default() };
    let ops = plan(&request, &root(v2())).unwrap();
    let json = serde_json::to_string(&ops).unwrap();
    assert!(!json.contains("linux.resources"));
    let back: Vec<Op> = serde_json::from_str(&json).unwrap();
    assert_eq!(back.len(), ops.len());
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}
