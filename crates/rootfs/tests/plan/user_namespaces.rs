//! What a user namespace changes: nodes that are made outside, ids of mounts, and when sources are
//! copied.

use serde_json::{Value, json};

use super::{config, host, listing, one_mount, try_plan};

/// The lines of a plan that hold one of these words.
fn lines(config: &Value, host: &davit_rootfs::Host, words: &[&str]) -> Vec<String> {
    let listing = listing(config, host);
    let lines = listing.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    lines.map(|line| line.trim().to_owned()).collect()
}

fn in_user_namespace() -> davit_rootfs::Host {
    davit_rootfs::Host { user_namespace: true, ..host() }
}

fn with_devices() -> Value {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    let mut config = config(&json!([]));
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["devices"] = json!([
        { "type": "c", "path": "/dev/modem", "major": 4, "minor": 64, "fileMode": 0o660, "uid": 7, "gid": 20 },
        { "type": "p", "path": "/dev/fifo" },
        { "type": "b", "path": "/dev/disk", "major": 8, "minor": 0, "gid": 5000 },
    ]);
    config
}

/// C6: crun makes them before it enters the namespace.
#[test]
fn listed_devices_are_made_before_a_user_namespace_is_entered() {
    let config = with_devices();
    let listing = lines(&config, &in_user_namespace(), &["tmpfs in", "slot 9", "/dev/fifo"]);
    assert_eq!(
        listing,
        [
            "linux.devices create in a tmpfs in slot 9: char 4:64 mode 0660 owner 100007:100020, block 8:0 mode 0666 owner 100000:0",
            "linux.devices attach slot 9 over \"/\"",
            "linux.devices[0] bind char 4:64 0 of slot 9 -> \"/dev/modem\" nosuid,noexec",
            "linux.devices[1] fifo \"/dev/fifo\" mode 0666",
            "linux.devices[2] bind block 8:0 1 of slot 9 -> \"/dev/disk\" nosuid,noexec",
            "linux.devices detach slot 9",
        ]
    );
}

#[test]
fn where_none_can_be_made_it_is_the_hosts() {
    let config = with_devices();
    for host in [
        davit_rootfs::Host { makes_nodes: false, ..in_user_namespace() },
        davit_rootfs::Host { privileged_parent: false, ..in_user_namespace() },
    ] {
        let listing = lines(&config, &host, &["/dev/modem", "tmpfs"]);
        assert_eq!(
            listing,
            ["linux.devices[0] bind char 4:64 \"/dev/modem\" -> \"/dev/modem\" nosuid,noexec"]
        );
    }
}

fn mapped(option: &str) -> Value {
    json!({ "destination": "/mnt", "source": "/s", "type": "bind", "options": ["bind", option] })
}

fn maps(option: &str) -> Result<String, String> {
    let maps = json!([{ "containerID": 0, "hostID": 0, "size": 1 }, { "containerID": 1, "hostID": 2, "size": 1000 }]);
    let mut config = config(&json!([mapped(option)]));
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
    let ops = try_plan(&config, &host()).map_err(|error| error.to_string())?;
    let mut lines = ops.iter().map(|op| op.action.to_string());
    Ok(lines.find(|line| line.starts_with("idmap") || line.starts_with("ridmap")).unwrap())
}

/// C8: the maps in the option of crun(1), which podman passes on.
#[test]
fn maps_in_an_option() {
    for (option, expected) in [
        ("idmap=uids=0-3000-10;gids=0-100-10", "idmap uids 0 3000 10; gids 0 100 10"),
        (
            "ridmap=uids=0-1-10#10-11-10;gids=0-100-10;",
            "ridmap uids 0 1 10, 10 11 10; gids 0 100 10",
        ),
        ("idmap=gids=0-1-1;uids=@1-3-10#@0-0-1", "idmap uids 1 4 10, 0 0 1; gids 0 1 1"),
        ("idmap=", "idmap uids 0 0 1, 1 2 1000; gids 0 0 1, 1 2 1000"),
        ("idmap", "idmap uids 0 0 1, 1 2 1000; gids 0 0 1, 1 2 1000"),
    ] {
        assert_eq!(maps(option).as_deref(), Ok(expected), "{option}");
    }
    let field = "mounts[0].options[1]";
    for (option, expected) in [
        ("idmap=uids=0-3000-10", "needs both uids and gids"),
        ("idmap=0-3000-10", "must be uids="),
        ("idmap=uids=0-3000;gids=0-1-1", "must have ranges FROM-TO-COUNT"),
        ("idmap=uids=0-3000-0;gids=0-1-1", "must have ranges FROM-TO-COUNT"),
        ("idmap=uids=0-x-1;gids=0-1-1", "must have ranges FROM-TO-COUNT"),
        ("idmap=uids=0-4294967296-1;gids=0-1-1", "must have ranges FROM-TO-COUNT"),
        ("idmap=uids=@0-1001-1;gids=0-1-1", "an id is not mapped in the user namespace"),
    ] {
        let error = maps(option).unwrap_err();
        assert!(error.starts_with(field) && error.contains(expected), "{option}: {error}");
    }
    let mut tmpfs = mapped("idmap=uids=0-1-1;gids=0-1-1");
    (tmpfs["type"], tmpfs["options"][0]) = ("tmpfs".into(), "rw".into());
    let error = one_mount(tmpfs, &host()).unwrap_err().to_string();
    assert!(error.contains("bind mounts only"), "{error}");
    // Fields are the specification's; the option is older.
    let mut both = mapped("idmap=uids=0-1-1;gids=0-1-1");
    both["uidMappings"] = json!([{ "containerID": 5, "hostID": 6, "size": 7 }]);
    both["gidMappings"] = both["uidMappings"].clone();
    assert!(one_mount(both, &host()).unwrap().contains(&"idmap uids 5 6 7; gids 5 6 7".to_owned()));
}

/// C9
#[test]
fn a_mount_without_mappings_has_those_of_the_namespace_that_is_joined() {
    let host = davit_rootfs::Host { joined_user_namespace: Some(4), ..in_user_namespace() };
    let ops = one_mount(mapped("idmap"), &host).unwrap();
    assert_eq!(ops[1], "idmap of the joined user namespace");
}

/// C10
#[test]
fn a_source_below_an_earlier_mount_is_copied_after_it() {
    let bind = |source: &str| json!({ "destination": "/to", "source": source, "type": "bind", "options": ["rbind"] });
    let tmpfs = json!({ "destination": "/a", "type": "tmpfs", "source": "t" });
    let remount = json!({ "destination": "/b", "type": "tmpfs", "options": ["remount", "ro"] });
    let source = |source: &str, before: &Value| {
        let mounts = json!([tmpfs, remount, bind(source), before]);
        let found = lines(&config(&mounts), &in_user_namespace(), &["mounts[2]"]);
        found.iter().any(|line| line.contains("of the new root"))
    };
    let later = json!({ "destination": "/later", "type": "tmpfs", "source": "t" });
    for (path, inside) in [
        ("/bundle/rootfs/a/sub", true),
        ("rootfs/a", true),
        ("rootfs/../rootfs//a/sub", true),
        ("rootfs/ab", false),
        ("rootfs/b/sub", false),
        ("rootfs", false),
        ("rootfs/later", false),
        ("/a/sub", false),
    ] {
        assert_eq!(source(path, &later), inside, "{path}");
    }
    let mut mapped = bind("rootfs/a/sub");
    mapped["options"] = json!(["bind", "idmap=uids=0-1-1;gids=0-1-1"]);
    let error = try_plan(&config(&json!([tmpfs, mapped])), &host()).unwrap_err().to_string();
    assert!(
        error.starts_with("mounts[1].source: \"/a/sub\": is below an earlier mount"),
        "{error}"
    );
}
