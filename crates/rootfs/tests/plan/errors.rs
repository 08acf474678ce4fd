//! What is refused, and that the message begins with the field.

use serde_json::{Value, json};

use super::{config, host, one_mount, try_plan};

fn error(config: &Value) -> String {
    try_plan(config, &host()).unwrap_err().to_string()
}

#[test]
fn mounts_that_cannot_be() {
    let refused = |mount: Value| one_mount(mount, &host()).unwrap_err().to_string();
    let bind = |destination: &str, options: &[&str]| json!({ "destination": destination, "source": "/s", "type": "bind", "options": options });
    let idmap = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    let table = [
        (bind("/", &[]), r#"mounts[0].destination: "/": nothing can be mounted over the root"#),
        (
            bind("/a/../.", &[]),
            r#"mounts[0].destination: "/": nothing can be mounted over the root"#,
        ),
        (bind("", &[]), "mounts[0].destination: missing"),
        (bind("/proc/self", &[]), r#"mounts[0].destination: "/proc/self": is inside /proc"#),
        (bind("/x/../proc//1", &[]), r#"mounts[0].destination: "/proc/1": is inside /proc"#),
        (
            json!({ "destination": "/proc", "type": "tmpfs" }),
            r#"mounts[0].destination: "/proc": only a procfs can be mounted over /proc"#,
        ),
        (
            bind("/a", &["ro", "mode=755,nosiud"]),
            r#"mounts[0].options[1]: "mode=755,nosiud": is not an option of a bind mount"#,
        ),
        (
            bind("/a", &["sync"]),
            r#"mounts[0].options[0]: "sync": belongs to the whole file system: a bind mount cannot have it"#,
        ),
        (bind("/a", &["tmpcopyup"]), r#"mounts[0].options: "tmpcopyup": is only for tmpfs"#),
        (
            bind("/a", &["rbind", "ridmap"]),
            r#"mounts[0].uidMappings: "[]": id-mapped mounts need mappings, of their own or of the container"#,
        ),
        (
            json!({ "destination": "/a", "type": "tmpfs", "options": ["idmap"] }),
            r#"mounts[0].uidMappings: "tmpfs": ids are mapped for bind mounts only"#,
        ),
        (
            json!({ "destination": "/a", "source": "/s", "type": "bind", "uidMappings": idmap }),
            r#"mounts[0].gidMappings: "[]": id-mapped mounts need mappings, of their own or of the container"#,
        ),
        (
            json!({ "destination": "/a", "source": "/s", "type": "bind", "gidMappings": idmap }),
            r#"mounts[0].uidMappings: "[]": id-mapped mounts need mappings, of their own or of the container"#,
        ),
        (json!({ "destination": "/a", "type": "bind" }), "mounts[0].source: missing"),
        (json!({ "destination": "/a", "source": "/s" }), "mounts[0].type: missing"),
        (json!({ "destination": "/a", "type": "none" }), "mounts[0].type: missing"),
        (
            json!({ "destination": "/a", "type": "overlay", "options": ["upperdir=/u"] }),
            "mounts[0].options: lowerdir: missing",
        ),
    ];
    for (mount, message) in table {
        assert_eq!(refused(mount.clone()), message, "{mount}");
    }
}

#[test]
fn nul_bytes_in_mounts_are_refused() {
    let refused = |mount: Value| one_mount(mount, &host()).unwrap_err().to_string();
    let table = [
        (
            json!({ "destination": "/a\0b", "type": "tmpfs" }),
            r#"mounts[0].destination: "/a\0b": contains a NUL byte"#,
        ),
        (
            json!({ "destination": "/a", "type": "tmpfs", "options": ["size=1\0"] }),
            r#"mounts[0].options[0]: "1\0": contains a NUL byte"#,
        ),
    ];
    for (mount, message) in table {
        assert_eq!(refused(mount.clone()), message, "{mount}");
    }
}

#[test]
fn a_cgroup_mount_needs_cgroups() {
    let mut host = host();
    host.cgroups = None;
    let mount = json!({ "destination": "/cg", "type": "cgroup" });
    let error = one_mount(mount, &host).unwrap_err().to_string();
    assert_eq!(error, "mounts[0]: no cgroup hierarchy is mounted on this host");
}

#[test]
fn other_fields_that_cannot_be() {
    let table = [
        (
            "/linux/rootfsPropagation",
            json!("sharde"),
            r#"linux.rootfsPropagation: "sharde": must be shared, slave, private or unbindable, optionally with the prefix r"#,
        ),
        (
            "/linux/maskedPaths",
            json!(["/proc/kcore", "proc/keys"]),
            r#"linux.maskedPaths[1]: "proc/keys": must be an absolute path"#,
        ),
        (
            "/linux/readonlyPaths",
            json!(["sys"]),
            r#"linux.readonlyPaths[0]: "sys": must be an absolute path"#,
        ),
        ("/root", json!({ "path": "" }), "root.path: missing"),
        (
            "/annotations",
            json!({ "run.davit.root.layers": "/a::/b" }),
            r#"annotations["run.davit.root.layers"]: "/a::/b": has an empty directory name"#,
        ),
        (
            "/annotations",
            json!({ "run.davit.root.ephemeral": "yes" }),
            r#"annotations["run.davit.root.ephemeral"]: "yes": must be true or false"#,
        ),
    ];
    for (pointer, value, message) in table {
        let mut config = config(&json!([]));
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        assert_eq!(error(&config), message);
    }
}

#[test]
fn devices_that_cannot_be() {
    let table = [
        (
            json!({ "path": "dev/x", "type": "c" }),
            r#"[0].path: "dev/x": must be an absolute path of a file"#,
        ),
        (
            json!({ "path": "/", "type": "c" }),
            r#"[0].path: "/": must be an absolute path of a file"#,
        ),
        (json!({ "path": "/dev/x", "type": "a" }), r#"[0].type: "a": must be c, b, u or p"#),
        (
            json!({ "path": "/dev/x", "type": "c", "major": -1 }),
            r#"[0].major: "-1": is not a device number"#,
        ),
        (
            json!({ "path": "/dev/x", "type": "b", "major": 1, "minor": 1_048_576 }),
            r#"[0].minor: "1048576": is not a device number"#,
        ),
        (
            json!({ "path": "/dev/x", "type": "p", "uid": 4_294_967_295u32 }),
            r#"[0].uid: "4294967295": is not a valid id"#,
        ),
    ];
    for (device, message) in table {
        let mut config = config(&json!([]));
        config["linux"]["devices"] = json!([device]);
        assert_eq!(error(&config), format!("linux.devices{message}"));
    }
}

#[test]
fn without_a_mount_namespace_the_root_is_no_mount() {
    let table = [
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
        ("/root/readonly", json!(true), "root.readonly"),
        (
            "/annotations",
            json!({ "run.davit.root.ephemeral": "true" }),
            r#"annotations["run.davit.root.ephemeral"]"#,
        ),
    ];
    for (pointer, value, field) in table {
        let mut config = config(&json!([]));
        config["linux"]["namespaces"] = json!([{ "type": "pid" }]);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        let message = format!("{field}: needs a mount namespace in linux.namespaces");
        assert_eq!(error(&config), message);
    }
}

#[test]
fn values_for_a_file_system_have_no_effect_on_a_bind_mount() {
    let bind =
        json!({ "destination": "/a", "source": "/s", "options": ["ro", "mode=755", "bind"] });
    let tmpfs = json!({ "destination": "/b", "type": "tmpfs", "options": ["mode=755"] });
    let config = config(&json!([tmpfs, bind]));
    let spec = serde_json::from_value(config).unwrap();
    let expected = r#"mounts[1].options[1]: "mode=755" has no effect on a bind mount"#;
    assert_eq!(davit_rootfs::without_effect(&spec, &host()), [expected]);
}

#[test]
fn a_console_size_that_no_terminal_has() {
    let mut config = config(&json!([]));
    config["process"] = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "terminal": true,
        "consoleSize": { "height": 65536, "width": 1 } });
    let host = super::with_console(host());
    let error = try_plan(&config, &host).unwrap_err().to_string();
    assert_eq!(error, r#"process.consoleSize.height: "65536": is too large for a terminal"#);
}
