//! A11: there is one devtmpfs, the host's. Nothing is made, removed or set in it.

use serde_json::{Value, json};

use super::{config, host, listing, try_plan, with_console};

fn devtmpfs(options: &Value) -> Value {
    json!({ "destination": "/dev", "type": "devtmpfs", "source": "devtmpfs", "options": options })
}

fn tmpfs(destination: &str) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" })
}

/// What of a plan makes something in /dev.
fn made(mounts: &Value) -> Vec<String> {
    let mut config = config(mounts);
    config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 },
        { "path": "/opt/null", "type": "c", "major": 1, "minor": 3 },
    ]);
    let text = listing(&config, &host());
    let made = text.lines().filter(|line| line.contains("default") || line.contains("devices["));
    made.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn nothing_is_made_in_it() {
    let elsewhere = |made: Vec<String>| made.len() == 1 && made[0].contains("/opt/null");
    let bind = json!({ "destination": "/dev/", "source": "/dev", "options": ["rbind"] });
    for mounts in [
        json!([devtmpfs(&json!([]))]),
        json!([devtmpfs(&json!(["ro", "nosuid"])), tmpfs("/dev/shm")]),
        json!([tmpfs("/dev"), devtmpfs(&json!(null))]),
        json!([bind]),
        json!([devtmpfs(&json!([])), { "destination": "/dev", "options": ["bind", "remount", "ro"] }]),
        // What covers one of the nodes does not make the rest ours.
        json!([devtmpfs(&json!([])), { "destination": "/dev/null", "source": "/x", "options": ["bind"] }]),
    ] {
        assert!(elsewhere(made(&mounts)), "{mounts}: {:#?}", made(&mounts));
    }
    for mounts in [
        json!([]),
        json!([tmpfs("/dev")]),
        json!([devtmpfs(&json!([])), tmpfs("/dev")]),
        // The options of a mount that is there already.
        json!([tmpfs("/dev"), { "destination": "/dev", "options": ["bind", "remount", "ro"] }]),
    ] {
        assert_eq!(made(&mounts).len(), 6 + 2 + 6, "{mounts}: {:#?}", made(&mounts));
    }
}

#[test]
fn nothing_is_made_in_a_dev_that_the_root_shares_with_the_host() {
    let shared = davit_rootfs::Host { shares_dev: true, ..host() };
    let made = |config: &Value| listing(config, &shared).matches("default").count();
    let plain = config(&json!([]));
    assert_eq!(made(&plain), 0);
    assert_eq!(made(&config(&json!([tmpfs("/dev/shm")]))), 0);
    assert_eq!(made(&config(&json!([tmpfs("/dev")]))), 12);
    let mut ephemeral = plain;
    ephemeral["annotations"] = json!({ "run.davit.root.ephemeral": "true" });
    assert_eq!(made(&ephemeral), 12);
}

/// How each destination of `mounts` is looked up.
fn policies(ops: &[davit_rootfs::Op]) -> Vec<String> {
    ops.iter()
        .filter(|op| op.origin.field.to_string().starts_with("mounts["))
        .map(|op| {
            let text = format!("{:?}", op.action);
            let at = text.find("policy: ").unwrap();
            text[at + 8..].split([',', ' ', '}']).next().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn destinations_in_that_of_a_running_container_must_be_there() {
    let spec = json!([
        tmpfs("/dev/new"),
        tmpfs("/dev/shm/new"),
        tmpfs("/dev/new/inner"),
        tmpfs("/devices"),
        tmpfs("/a b/x"),
    ]);
    let spec = serde_json::from_value(config(&spec)).unwrap();
    let mountinfo = b"22 27 0:21 / / rw - overlay none rw\n\
        23 22 0:6 / /dev rw,nosuid shared:7 - devtmpfs devtmpfs rw\n\
        24 23 0:22 / /dev/shm rw - tmpfs devtmpfs rw\n\
        25 22 0:6 / /a\\040b rw - devtmpfs none rw\n";
    let ops = davit_rootfs::plan_added(&spec, &host(), mountinfo).unwrap();
    let expected = ["MustExist", "OutsideProc", "OutsideProc", "OutsideProc", "MustExist"];
    assert_eq!(policies(&ops), expected);
    let covered = [&mountinfo[..], b"26 22 0:30 / /dev rw - tmpfs tmpfs rw\n"].concat();
    let ops = davit_rootfs::plan_added(&spec, &host(), &covered).unwrap();
    assert_eq!(policies(&ops)[0], "OutsideProc");
}

#[test]
fn destinations_in_it_must_be_there() {
    let mounts = json!([
        devtmpfs(&json!([])), tmpfs("/dev/shm"), tmpfs("/dev/shm/inner"), tmpfs("/devices"),
        { "destination": "/dev/x", "source": "/x", "options": ["bind"] },
    ]);
    let ops = try_plan(&config(&mounts), &with_console(host())).unwrap();
    assert_eq!(
        policies(&ops),
        ["OutsideProc", "MustExist", "OutsideProc", "OutsideProc", "MustExist"]
    );
    let console = ops.iter().find(|op| op.origin.field.to_string() == "process.terminal").unwrap();
    assert!(format!("{:?}", console.action).contains("MustExist"));
}

#[test]
fn its_options_stay_the_hosts() {
    let mounts = json!([devtmpfs(&json!(["mode=755", "size=64k", "nosuid"]))]);
    let ops = try_plan(&config(&mounts), &host()).unwrap();
    let text = format!("{ops:?}");
    assert!(!text.contains("64k") && !text.contains("755"), "{text}");
    let spec = serde_json::from_value(config(&mounts)).unwrap();
    let said = davit_rootfs::without_effect(&spec, &host());
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].contains("\"size=64k\" has no effect on a devtmpfs"), "{said:?}");
    for option in ["sync", "dirsync", "lazytime"] {
        let error = try_plan(&config(&json!([devtmpfs(&json!([option]))])), &host()).unwrap_err();
        assert!(error.to_string().contains("mounts[0].options[0]"), "{error}");
    }
    let remount = json!([devtmpfs(&json!([])), devtmpfs(&json!(["remount", "rw", "size=1k"]))]);
    let ops = try_plan(&config(&remount), &host()).unwrap();
    assert!(!format!("{ops:?}").contains("1k"));
}
