//! What the specification calls REQUIRED: without it config.json is refused by name.

use integration::*;

/// A part of config.json that may be added to what tests begin with, as a JSON pointer and its
/// value; and the fields in it that are REQUIRED.
type Part = (&'static str, fn() -> Value, &'static [&'static str]);

const PARTS: &[Part] = &[
    // `process` only when `start` is called (optional::process).
    ("", || json!({}), &["ociVersion", "root"]),
    ("/root", || json!({ "path": "rootfs" }), &["path"]),
    ("/process", || json!({ "cwd": "/", "args": ["true"] }), &["cwd", "args"]),
    ("/process/consoleSize", || json!({ "height": 1, "width": 1 }), &["height", "width"]),
    (
        "/process/rlimits/0",
        || json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }),
        &["type", "soft", "hard"],
    ),
    ("/process/scheduler", || json!({ "policy": "SCHED_OTHER" }), &["policy"]),
    (
        "/process/ioPriority",
        || json!({ "class": "IOPRIO_CLASS_BE", "priority": 4 }),
        &["class", "priority"],
    ),
    ("/mounts/0", || json!({ "destination": "/mnt", "type": "tmpfs" }), &["destination"]),
    ("/hooks/prestart/0", || json!({ "path": "/bin/true" }), &["path"]),
    ("/hooks/poststop/0", || json!({ "path": "/bin/true" }), &["path"]),
    ("/linux/namespaces/0", || json!({ "type": "pid" }), &["type"]),
    (
        "/linux/uidMappings/0",
        || json!({ "containerID": 0, "hostID": 100_000, "size": 10 }),
        &["containerID", "hostID", "size"],
    ),
    (
        "/linux/devices/0",
        || json!({ "type": "c", "path": "/dev/fuse", "major": 10, "minor": 229 }),
        &["type", "path", "major", "minor"],
    ),
    ("/linux/resources/devices/0", || json!({ "allow": false, "access": "rwm" }), &["allow"]),
    (
        "/linux/resources/blockIO/weightDevice/0",
        || json!({ "major": 8, "minor": 0, "weight": 100 }),
        &["major", "minor"],
    ),
    (
        "/linux/resources/blockIO/throttleReadBpsDevice/0",
        || json!({ "major": 8, "minor": 0, "rate": 1_000_000 }),
        &["major", "minor", "rate"],
    ),
    (
        "/linux/resources/blockIO/throttleWriteIOPSDevice/0",
        || json!({ "major": 8, "minor": 0, "rate": 1000 }),
        &["major", "minor", "rate"],
    ),
    (
        "/linux/resources/hugepageLimits/0",
        || json!({ "pageSize": "2MB", "limit": 0 }),
        &["pageSize", "limit"],
    ),
    (
        "/linux/resources/network/priorities/0",
        || json!({ "name": "lo", "priority": 1 }),
        &["name", "priority"],
    ),
    ("/linux/memoryPolicy", || json!({ "mode": "MPOL_DEFAULT" }), &["mode"]),
    ("/linux/seccomp", || json!({ "defaultAction": "SCMP_ACT_ALLOW" }), &["defaultAction"]),
    (
        "/linux/seccomp/syscalls/0",
        || json!({ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }),
        &["names", "action"],
    ),
    (
        "/linux/seccomp/syscalls/0/args/0",
        || json!({ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }),
        &["index", "value", "op"],
    ),
    ("/linux/personality", || json!({ "domain": "LINUX" }), &["domain"]),
];

/// Puts a value at a JSON pointer; what is on the way and is not there is made.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut at = config;
    for key in pointer.split('/').skip(1) {
        at = match key {
            "0" => {
                if at.as_array().is_none_or(Vec::is_empty) {
                    *at = json!([{}]);
                }
                &mut at[0]
            }
            key => &mut at[key],
        };
    }
    match (at.as_object_mut(), value) {
        (Some(object), Value::Object(more)) => object.extend(more),
        (_, value) => *at = value,
    }
}

/// The parts above them that some need to be right.
fn with_part(pointer: &str, part: Value) -> Value {
    let mut config = config::default(&["true"], "/davit-test-required");
    if pointer.starts_with("/linux/seccomp/syscalls/0") {
        put(&mut config, "/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
        let rule = json!({ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" });
        put(&mut config, "/linux/seccomp/syscalls/0", rule);
    }
    if pointer.starts_with("/linux/uidMappings") {
        config::set_userns(&mut config, 100_000, 10);
    }
    put(&mut config, pointer, part);
    config
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    davit_only!("each other runtime does without some of them");
    let c = Container::new(&["true"]);
    let bundle = c.path("bundle");
    let explained = |config: &Value| {
        std::fs::write(c.bundle().join("config.json"), config.to_string()).expect("write");
        c.call(&["explain", &bundle]).done()
    };
    let mut accepted = Vec::new();
    for (pointer, part, required) in PARTS {
        for field in *required {
            let mut config = with_part(pointer, part());
            let object = config.pointer_mut(pointer).and_then(Value::as_object_mut);
            let object = object.unwrap_or_else(|| panic!("{pointer}"));
            assert!(object.remove(*field).is_some(), "{pointer}: no {field} to remove");
            let run = explained(&config);
            if run.code == 0 {
                accepted.push(format!("{pointer} without {field}"));
                continue;
            }
            // serde names what is missing and the object; davit's own checks the whole path.
            let words: Vec<&str> =
                pointer.split('/').filter(|word| !word.is_empty() && *word != "0").collect();
            let around = words.last().copied().unwrap_or(field);
            if !(run.err.contains(field) && run.err.contains(around)) {
                accepted.push(format!("{pointer} without {field}: {}", run.err));
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
}
