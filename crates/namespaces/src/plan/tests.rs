//! Tests of the planner.

use serde_json::{Value, json};

use super::*;

fn spec(linux: Value) -> Spec {
    serde_json::from_value(json!({ "ociVersion": "1.3.0", "linux": linux })).unwrap()
}

fn host(joined: &[(Kind, bool)]) -> Host {
    let joined = joined.iter().enumerate().map(|(slot, (kind, owned_by_current_userns))| Joined {
        kind: *kind,
        slot: slot as u16,
        owned_by_current_userns: *owned_by_current_userns,
    });
    Host { joined: joined.collect(), net_devices: Vec::new(), map_writer: MapWriter::Direct }
}

fn new(kind: &str) -> Value {
    json!({ "type": kind })
}

fn by_path(kind: &str) -> Value {
    json!({ "type": kind, "path": "/proc/1/ns/x" })
}

fn text(plan: &Plan) -> String {
    let clone_namespaces: Vec<_> = match plan.clone_namespaces.as_slice() {
        [] => vec!["-"],
        clone_namespaces => clone_namespaces.iter().map(|kind| kind.name()).collect(),
    };
    let ops = |ops: &[Op]| match ops {
        [] => "-".to_owned(),
        ops => ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    format!(
        "clone_namespaces: {}\nlaunch: {}\nenter: {}\nconfigure: {}",
        clone_namespaces.join(" "),
        ops(&plan.launch),
        ops(&plan.enter),
        ops(&plan.configure)
    )
}

fn maps() -> Value {
    json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }])
}

#[test]
fn the_rule_of_the_second_process() {
    for (joins_pid, new_time, new_pid, late, second) in [
        (false, false, false, false, false),
        (false, false, false, true, false),
        (false, false, true, false, false),
        (false, false, true, true, true),
        (false, true, false, false, true),
        (false, true, false, true, true),
        (false, true, true, false, true),
        (false, true, true, true, true),
        (true, false, false, false, true),
        (true, false, false, true, true),
        (true, true, false, false, true),
        (true, true, false, true, true),
    ] {
        let needs = needs_second_process(joins_pid, new_time, new_pid, late);
        assert_eq!(needs, second, "{joins_pid} {new_time} {new_pid} {late}");
    }
}

#[test]
fn a_default_container_is_created_in_all_its_namespaces() {
    let list = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(new);
    let plan = plan(&spec(json!({ "namespaces": list })), &host(&[])).unwrap();
    insta::assert_snapshot!(text(&plan), @r"
    clone_namespaces: network ipc uts mount pid
    launch: -
    enter: -
    configure: new namespaces: cgroup; loopback up
    ");
}

#[test]
fn a_new_user_namespace_is_mapped_before_the_exec() {
    let linux = json!({
        "namespaces": [new("user"), new("pid"), new("mount")],
        "uidMappings": maps(), "gidMappings": maps(),
    });
    let plan = plan(&spec(linux), &host(&[])).unwrap();
    insta::assert_snapshot!(text(&plan), @r"
    clone_namespaces: user mount pid
    launch: wait for the id maps of the user namespace; become root of the user namespace
    enter: -
    configure: -
    ");
    assert!(plan.id_maps.is_some());
}

#[test]
fn namespaces_of_the_host_are_joined_before_a_new_user_namespace() {
    let linux = json!({
        "namespaces": [new("user"), new("pid"), new("mount"), by_path("network")],
        "uidMappings": maps(), "gidMappings": maps(),
    });
    let plan = plan(&spec(linux), &host(&[(Kind::Network, true)])).unwrap();
    insta::assert_snapshot!(text(&plan), @r#"
    clone_namespaces: -
    launch: linux.namespaces[3].path "/proc/1/ns/x": join the network namespace; new namespaces: user; wait for the id maps of the user namespace; become root of the user namespace
    enter: new namespaces: mount; continue in a second process, new namespaces: pid
    configure: -
    "#);
}

#[test]
fn a_joined_user_namespace_owns_namespaces_created_after_it() {
    let list = [by_path("user"), by_path("network"), by_path("ipc"), new("pid"), new("mount")];
    let joined = [(Kind::User, true), (Kind::Network, true), (Kind::Ipc, false)];
    let plan = plan(&spec(json!({ "namespaces": list })), &host(&joined)).unwrap();
    insta::assert_snapshot!(text(&plan), @r#"
    clone_namespaces: -
    launch: -
    enter: linux.namespaces[1].path "/proc/1/ns/x": join the network namespace; linux.namespaces[0].path "/proc/1/ns/x": join the user namespace; become root of the user namespace; linux.namespaces[2].path "/proc/1/ns/x": join the ipc namespace; new namespaces: mount; continue in a second process, new namespaces: pid
    configure: -
    "#);
}

#[test]
fn a_time_namespace_takes_a_second_process() {
    let linux = json!({
        "namespaces": [new("time"), new("pid"), new("mount")],
        "timeOffsets": { "monotonic": { "secs": 5 }, "boottime": { "secs": -1, "nanosecs": 3 } },
    });
    let plan = plan(&spec(linux), &host(&[])).unwrap();
    insta::assert_snapshot!(text(&plan), @r"
    clone_namespaces: mount
    launch: -
    enter: new namespaces: time; linux.timeOffsets: boottime -1 3, monotonic 5 0; continue in a second process, new namespaces: pid
    configure: -
    ");
}

#[test]
fn bad_fields_are_named() {
    let uts = json!([new("uts")]);
    for (spec, expected) in [
        (json!({ "linux": { "namespaces": [new("pid"), new("pid")] } }), "linux.namespaces[1]"),
        (
            json!({ "linux": { "namespaces": [{ "type": "pid", "path": "x" }] } }),
            "linux.namespaces[0].path: \"x\" is not an absolute path",
        ),
        (json!({ "hostname": "x" }), "hostname: needs a uts namespace"),
        (json!({ "linux": { "namespaces": [new("user")] } }), "linux.uidMappings: a new user"),
        (json!({ "linux": { "uidMappings": maps() } }), "linux.uidMappings: needs a user"),
        (
            json!({ "linux": { "timeOffsets": { "monotonic": { "secs": 1 } } } }),
            "linux.timeOffsets: needs a time namespace",
        ),
        (
            json!({ "hostname": "x".repeat(65), "linux": { "namespaces": uts } }),
            "hostname: is longer than 64 bytes",
        ),
    ] {
        let mut whole = json!({ "ociVersion": "1.3.0" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let error = plan(&serde_json::from_value(whole).unwrap(), &host(&[])).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn exec_forks_only_for_a_pid_namespace() {
    assert_eq!(join_running(&[], 0), []);
    let flags = Kind::Mount.flag();
    assert_eq!(join_running(&[Kind::Mount], 7), [Op::JoinProcess { slot: 7, flags }]);
    assert_eq!(join_running(&[Kind::Pid], 7).last(), Some(&Op::Vfork));
}
