//! runtime.md, bundle.md, features.md: clauses that no command's own tests prove.

use std::collections::BTreeSet;
use std::fs;

use integration::config::{add_mount, drop_namespace};
use integration::*;

/// The name of a property, and what its value may be.
type Property = (&'static str, fn(&Value) -> bool);

/// The properties of an object are among these (so it says the schema, or davit's manual), with
/// these types.
#[track_caller]
fn has_shape(object: &Value, required: &[&str], types: &[Property]) {
    let object = object.as_object().expect("an object");
    for name in required {
        assert!(object.contains_key(*name), "no {name}: {object:?}");
    }
    for (name, value) in object {
        let fits = types.iter().find(|(known, _)| known == name);
        assert!(fits.is_some_and(|(_, fits)| fits(value)), "{name}: {value}");
    }
}

fn is_strings(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(Value::is_string))
}

fn is_map_of_strings(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(Value::is_string))
}

fn is_version(value: &Value) -> bool {
    let parts: Vec<&str> = value.as_str().unwrap_or_default().split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

/// schema/state-schema.json, and the fields that runc adds and engines read.
#[test]
fn the_state_has_the_shape_of_the_schema() {
    davit_only!("each other runtime adds fields of its own");
    let c = Container::sleeper().with(|c| c["annotations"] = json!({ "org.example.key": "value" }));
    let check = |status: &str| {
        let state = c.state();
        has_shape(
            &state,
            &["ociVersion", "id", "status", "pid", "bundle"],
            &[
                ("ociVersion", is_version),
                ("id", Value::is_string),
                ("status", Value::is_string),
                ("pid", Value::is_u64),
                ("bundle", Value::is_string),
                ("annotations", is_map_of_strings),
                ("rootfs", Value::is_string),
                ("created", Value::is_string),
                ("owner", Value::is_string),
            ],
        );
        assert_eq!(state["status"], status);
    };
    c.create();
    check("created");
    c.start();
    check("running");
    c.kill("KILL").ok();
    c.until_status("stopped");
    check("stopped");
}

/// schema/features-schema.json and features-linux.json of 1.3.0.
#[test]
fn features_has_the_shape_of_the_schema() {
    davit_only!("the other runtimes' documents are of other versions");
    let document = Container::new(&["true"]).call(&["features"]).done().ok().json();
    has_shape(
        &document,
        &["ociVersionMin", "ociVersionMax"],
        &[
            ("ociVersionMin", is_version),
            ("ociVersionMax", is_version),
            ("hooks", is_strings),
            ("mountOptions", is_strings),
            ("annotations", is_map_of_strings),
            ("potentiallyUnsafeConfigAnnotations", is_strings),
            ("linux", Value::is_object),
        ],
    );
    has_shape(
        &document["linux"],
        &[],
        &[
            ("namespaces", is_strings),
            ("capabilities", is_strings),
            ("cgroup", Value::is_object),
            ("seccomp", Value::is_object),
            ("apparmor", Value::is_object),
            ("selinux", Value::is_object),
            ("intelRdt", Value::is_object),
            ("memoryPolicy", Value::is_object),
            ("mountExtensions", Value::is_object),
            ("netDevices", Value::is_object),
        ],
    );
    assert_eq!(document["linux"]["mountExtensions"], json!({ "idmap": { "enabled": true } }));
    let version = |key: &str| {
        let text = document[key].as_str().expect("a version");
        text.split('.').map(|part| part.parse::<u32>().expect("a number")).collect::<Vec<_>>()
    };
    assert!(version("ociVersionMin") <= version("ociVersionMax"));
    let empty =
        document["annotations"].as_object().expect("an object").keys().any(String::is_empty);
    assert!(!empty, "{document}");
}

#[test]
fn create_needs_an_id_and_a_bundle() {
    spec!();
    let c = Container::new(&["true"]);
    c.write();
    c.call(&["create", "--bundle", &c.path("bundle")]).done().fails();
    // The bundle that is not named is the working directory, which is none here.
    c.call(&["create", &c.id]).dir(c.dir()).done().says(&["config.json"]);
    c.call(&["create", "--bundle", &c.path("nosuch"), &c.id]).done().fails();
    c.call(&["state", &c.id]).done().fails();
}

#[test]
fn the_bundle_has_its_config() {
    spec!();
    let c = Container::new(&["true"]);
    c.write();
    fs::rename(c.bundle().join("config.json"), c.bundle().join("other.json")).expect("rename");
    c.call(&["create", "--bundle", &c.path("bundle"), &c.id]).done().says(&["config.json"]);
    assert!(!c.state_root().join(&c.id).exists());
}

/// Everything but the program is there: its hostname, its mounts, its cgroup, its limits.
#[test]
fn nothing_of_the_program_runs_before_start() {
    spec!();
    let c = Container::sh("touch /tmp/ran; sleep 100");
    c.create();
    let pid = c.pid();
    assert_ne!(host::namespace_of(pid, "uts"), host::namespace("uts"));
    assert!(!leftovers::cgroups(&c.id).is_empty());
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    assert!(mounts.contains(" /dev/mqueue "), "{mounts}");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!c.rootfs().join("tmp/ran").exists());
    c.start();
    let ran = call::within(call::DEADLINE, || c.rootfs().join("tmp/ran").exists().then_some(()));
    assert!(ran.is_some());
}

/// Mounts below the root, made by others before the container shared their mount namespace.
#[test]
fn what_others_made_stays() {
    spec!();
    fails_with!("runc", "leaves its own mounts below the root too");
    fails_with!("crun", "leaves its own mounts below the root too");
    let c = Container::sh("true").with(|c| {
        drop_namespace(c, "mount");
        add_mount(c, "/mnt", "tmpfs", "tmpfs", &[]);
    });
    // In a mount namespace of the test's own, which its end clears.
    let root = c.rootfs();
    let script = format!(
        "mount -t tmpfs others {0}/var && mount | grep -c {0}; \"$@\" && mount | grep {0} | cut -d' ' -f1",
        root.display()
    );
    let before = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    let run = c.through_with_bundle(&before, "run", &[]).done().ok();
    let lines: BTreeSet<&str> = run.out.lines().collect();
    assert_eq!(lines, BTreeSet::from(["1", "others"]), "{run:?}");
}
