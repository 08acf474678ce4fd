//! What the schema of the specification is tested with, for Linux: what is good is taken as far as
//! this host goes, what is bad is refused at its field. The inputs are our own, after the subjects
//! of its files.

use integration::*;

/// What comes of it.
enum Verdict {
    /// It runs.
    Runs,
    /// It can be created; to start it a process is missing.
    Created,
    /// It is good, but for this field, of which this host has not what is asked for; there it would
    /// be created.
    Unless(&'static str),
    /// It is bad, and each of these texts is in the error.
    Bad(&'static [&'static str]),
}

use Verdict::{Bad, Created, Runs, Unless};

/// config.json with these members beside those that every file has.
fn file(members: Value) -> Value {
    let mut file = json!({ "ociVersion": "1.0.0", "root": { "path": "rootfs" } });
    file.as_object_mut().expect("object").extend(members.as_object().expect("object").clone());
    file
}

/// With a part of `linux.resources`.
fn resources(name: &str, value: Value) -> Value {
    file(json!({ "linux": { "resources": { name: value } } }))
}

/// With network devices, and a namespace for them.
fn net_devices(devices: Value) -> Value {
    file(json!({ "linux": { "namespaces": [{ "type": "network" }], "netDevices": devices } }))
}

fn process(members: Value) -> Value {
    let mut process =
        json!({ "cwd": "/", "args": ["sh", "-c", "exit 0"], "user": { "uid": 0, "gid": 0 } });
    process.as_object_mut().expect("object").extend(members.as_object().expect("object").clone());
    file(json!({ "process": process }))
}

fn cases() -> Vec<(&'static str, Value, Verdict)> {
    let ports =
        json!({ "mlx5_0": { "hcaHandles": 7, "hcaObjects": 2000 }, "rxe0": { "hcaObjects": 9 } });
    let rates = json!([{ "major": 8, "minor": 0, "rate": 1_000_000 }]);
    vec![
        ("minimal", file(json!({})), Created),
        ("minimal for start", process(json!({})), Runs),
        ("rdma", resources("rdma", ports), Unless("linux.resources.rdma")),
        (
            "rdma, a list",
            resources("rdma", json!([{ "device": "mlx5_0" }])),
            Bad(&["linux.resources.rdma: is an array"]),
        ),
        (
            "rdma, a text",
            resources("rdma", json!({ "mlx5_0": { "hcaHandles": "many" } })),
            Bad(&["linux.resources.rdma.mlx5_0.hcaHandles: invalid type: string"]),
        ),
        (
            "rdma, beyond 32 bits",
            resources("rdma", json!({ "mlx5_0": { "hcaObjects": 4_294_967_296_u64 } })),
            Bad(&["linux.resources.rdma.mlx5_0.hcaObjects"]),
        ),
        (
            "network devices",
            net_devices(json!({ "none0": { "name": "uplink0" }, "none1": {} })),
            Unless("linux.netDevices"),
        ),
        (
            "network devices, a number",
            net_devices(json!({ "none0": { "name": 23 } })),
            Bad(&["linux.netDevices.none0.name: invalid type: integer"]),
        ),
        (
            "network devices, a long name",
            net_devices(json!({ "none0": { "name": "sixteen-letters!" } })),
            Bad(&["linux.netDevices"]),
        ),
        (
            "network devices, a member that there is not",
            net_devices(json!({ "none0": { "name": "uplink0", "mtu": "many" } })),
            Bad(&["linux.netDevices.none0.mtu: unknown field", "linux.netDevices[\"none0\"]"]),
        ),
        (
            "network devices, a list",
            net_devices(json!([{ "name": "none0" }])),
            Bad(&["linux.netDevices: is an array"]),
        ),
        (
            "huge pages",
            resources(
                "hugepageLimits",
                json!([{ "pageSize": "2MB", "limit": 4_194_304 }, { "pageSize": "64KB", "limit": 65536 }]),
            ),
            Unless("linux.resources.hugepageLimits"),
        ),
        (
            "huge pages, another spelling",
            resources("hugepageLimits", json!([{ "limit": 65536, "pageSize": "64kB" }])),
            Bad(&["linux.resources.hugepageLimits[0].pageSize: \"64kB\""]),
        ),
        (
            "huge pages, an object",
            resources("hugepageLimits", json!({ "2MB": 1 })),
            Bad(&["linux.resources.hugepageLimits"]),
        ),
        (
            "intelRdt",
            file(json!({ "linux": { "intelRdt": { "closID": "fast", "schemata": ["L3:0=f"] } } })),
            Unless("linux.intelRdt"),
        ),
        (
            "block devices",
            resources("blockIO", json!({ "throttleReadBpsDevice": rates })),
            Unless("linux.resources.blockIO"),
        ),
        (
            "block devices without a rate",
            resources("blockIO", json!({ "throttleReadBpsDevice": [{ "major": 8, "minor": 0 }] })),
            Bad(&["linux.resources.blockIO.throttleReadBpsDevice[0]: missing field `rate`"]),
        ),
        (
            "memory",
            resources("memory", json!({ "limit": 536_870_912, "reservation": 268_435_456 })),
            Unless("linux.resources.memory"),
        ),
        (
            "memory, a text",
            resources("memory", json!({ "limit": "512m" })),
            Bad(&["linux.resources.memory.limit: invalid type"]),
        ),
        ("tasks without a limit", resources("pids", json!({})), Created),
        ("no version", json!({ "root": { "path": "rootfs" } }), Bad(&["ociVersion: is missing"])),
        (
            "before 1.0",
            json!({ "ociVersion": "0.5.0-dev", "root": { "path": "rootfs" } }),
            Bad(&["ociVersion: \"0.5.0-dev\""]),
        ),
        ("no root", json!({ "ociVersion": "1.0.0" }), Bad(&["root: is missing"])),
        ("a root without a path", file(json!({ "root": {} })), Bad(&["root.path"])),
        (
            "arguments that are one text",
            process(json!({ "args": "sh" })),
            Bad(&["process.args: invalid type: string"]),
        ),
        (
            "a limit that there is not",
            process(json!({ "rlimits": [{ "type": "RLIMIT_NONE", "soft": 1, "hard": 1 }] })),
            Bad(&["process.rlimits[0].type: unknown variant `RLIMIT_NONE`"]),
        ),
        (
            "a hook without a path",
            file(json!({ "hooks": { "poststart": [{ "args": ["x"] }] } })),
            Bad(&["hooks.poststart[0]: missing field `path`"]),
        ),
        (
            "a mount without a destination",
            file(json!({ "mounts": [{ "type": "tmpfs" }] })),
            Bad(&["mounts[0]: missing field `destination`"]),
        ),
        (
            "a namespace that there is not",
            file(json!({ "linux": { "namespaces": [{ "type": "net" }] } })),
            Bad(&["linux.namespaces[0].type: unknown variant `net`"]),
        ),
        (
            "a filter without an action",
            file(json!({ "linux": { "seccomp": { "syscalls": [] } } })),
            Bad(&["linux.seccomp: missing field `defaultAction`"]),
        ),
        (
            "an annotation that is a number",
            file(json!({ "annotations": { "a": 1 } })),
            Bad(&["annotations.a: invalid type"]),
        ),
        ("the example", example(), Runs),
    ]
}

/// As many kinds of fields as can be had at once on most hosts.
fn example() -> Value {
    let mut file = config::default(&["sh", "-c", "test -c /dev/fuse"], "/x");
    let hook = |name: &str| json!([{ "path": "/bin/true", "args": ["true", name], "env": ["A=b"], "timeout": 5 }]);
    let hooks =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    file["hooks"] = hooks.iter().map(|name| ((*name).to_owned(), hook(name))).collect();
    file["annotations"] = json!({ "com.example.key1": "value1", "com.example.key2": "" });
    file["root"]["readonly"] = true.into();
    let process = &mut file["process"];
    process["user"] = json!({ "uid": 1, "gid": 1, "additionalGids": [5, 6] });
    process["oomScoreAdj"] = 100.into();
    process["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    process["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    let linux = &mut file["linux"];
    linux.as_object_mut().expect("object").remove("cgroupsPath");
    linux["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0 },
        { "path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 0 },
    ]);
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 32000 }]);
    (linux["uidMappings"], linux["gidMappings"]) = (maps.clone(), maps);
    linux["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "net.core.somaxconn": "256" });
    linux["rootfsPropagation"] = "slave".into();
    linux["timeOffsets"] = json!({ "monotonic": { "secs": 172_800, "nanosecs": 0 }, "boottime": { "secs": 604_800, "nanosecs": 0 } });
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["getcwd", "chmod"], "action": "SCMP_ACT_ERRNO" }],
    });
    for kind in ["user", "cgroup", "time"] {
        config::set_namespace(&mut file, kind, None);
    }
    file
}

#[test]
fn each_is_taken_or_refused_at_its_field() {
    davit_only!("other runtimes take less, and refuse with words of their own");
    for (name, file, verdict) in cases() {
        let c = Container::new(&["true"]).with(|c| *c = file);
        match verdict {
            Runs => assert_eq!(c.run().ok().out, "", "{name}"),
            Created => created(&c),
            Unless(field) => {
                let create = c.create_call(&[]).done();
                match create.code {
                    0 => created_already(&c),
                    _ => drop(create.refuses(&[field])),
                }
            }
            Bad(says) => {
                // What is unknown warns beside the error.
                let create = c.create_call(&[]).done().says(says);
                let wrong = |line: &&str| !line.starts_with("davit: warning: ");
                assert_eq!(create.err.lines().filter(wrong).count(), 1, "{name}: {create:#?}");
                c.assert_nothing_left();
            }
        }
    }
}

fn created(c: &Container) {
    c.run().refuses(&["process: is missing"]);
    c.create();
    created_already(c);
}

fn created_already(c: &Container) {
    assert_eq!(c.status(), "created");
    c.call(&["start", &c.id]).done().refuses(&["process: is missing"]);
    c.delete().ok();
    c.assert_nothing_left();
}

/// What is no JSON, and what is none any more.
#[test]
fn no_json() {
    davit_only!("its own messages");
    for text in
        ["{]", "{\"ociVersion\":\"1.0.0\",}", "{\"ociVersion\":\"1.0.0\"", "ociVersion: 1.0.0", ""]
    {
        let c = Container::new(&["true"]);
        let bundle = c.path("bundle");
        std::fs::write(format!("{bundle}/config.json"), text).expect("write");
        let create = c.call(&["create", "--bundle", &bundle, &c.id]).done();
        create.refuses(&["config.json: ", "line 1 column"]);
    }
}
