//! What the specification has as optional may be absent, empty, or null as Go writes what is nil.

use std::fs;

use integration::config::drop_mount;
use integration::*;

/// C5. Without `linux` there is no namespace: what is mounted is on the host until the container is
/// deleted.
#[test]
fn linux() {
    spec!();
    fails_with!("runc", "leaves its mounts on the host");
    fails_with!("crun", "1.8 wants it");
    for linux in [None, Some(Value::Null), Some(json!({}))] {
        let c = Container::sh("echo fine; test -e /proc/1 && test -c /dev/null").with(|c| {
            let fields = c.as_object_mut().expect("an object");
            fields.remove("hostname");
            fields.remove("linux");
            fields.extend(linux.clone().map(|linux| ("linux".to_owned(), linux)));
            // The masks are in `linux`; what is not mounted cannot be written to.
            for at in ["/sys/fs/cgroup", "/sys", "/dev/mqueue"] {
                drop_mount(c, at);
            }
        });
        assert_eq!(c.run().ok().out, "fine\n", "{linux:?}");
    }
}

/// An unprivileged user gets the user namespace that is needed.
#[test]
fn linux_for_an_unprivileged_user() {
    davit_only!("other runtimes want the namespaces listed");
    let c = Container::sh("id -u").with(|c| {
        let fields = c.as_object_mut().expect("an object");
        fields.remove("hostname");
        fields.remove("linux");
        c["mounts"] = json!([]);
    });
    c.give_to(54321);
    let before = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];
    c.write();
    let plan = c.call_through(&before, &["explain", &c.path("bundle")]).done();
    if plan.err.contains("setpriv") {
        skip_if!(Some("other users cannot reach the binary"));
    }
    // Nothing can be mounted for such a user without a mount namespace.
    plan.refuses(&["linux.namespaces"]);
}

#[test]
fn what_is_another_platforms() {
    davit_only!("its own messages");
    for other in ["solaris", "windows", "vm", "zos", "freebsd"] {
        let c = Container::new(&["true"]).with(|c| {
            c.as_object_mut().expect("an object").remove("linux");
            c[other] = match other {
                "vm" => json!({ "kernel": { "path": "/k" } }),
                "windows" => json!({ "layerFolders": ["c:\\"] }),
                _ => json!({}),
            };
        });
        c.run().refuses(&["linux: is missing", other]);
    }
}

/// C5. "REQUIRED when `start` is called": what is created can be seen, used by exec, and deleted.
#[test]
fn process() {
    davit_only!("runc 1.1 refuses it, crun 1.8 has an internal error");
    for process in [None, Some(Value::Null)] {
        let c = Container::new(&["true"]).with(|c| {
            let fields = c.as_object_mut().expect("an object");
            fields.remove("process");
            fields.extend(process.clone().map(|process| ("process".to_owned(), process)));
        });
        c.run().refuses(&["process: is missing"]);
        c.create();
        assert_eq!(c.status(), "created");
        assert_eq!(c.exec(&["/bin/sh", "-c", "echo in"]).ok().out, "in\n");
        c.call(&["start", &c.id]).done().refuses(&["process: is missing"]);
        assert_eq!(c.status(), "stopped");
        c.call(&["delete", &c.id]).done().ok();
        c.assert_nothing_left();
    }
}

/// Every optional member at once.
#[test]
fn null_is_absent() {
    spec!();
    fails_with!("crun", "1.8 reads null as a value here and there");
    let c = Container::sh("echo fine; id -u").with(|c| {
        for pointer in [
            "/process/terminal",
            "/process/rlimits",
            "/process/capabilities/bounding",
            "/root/readonly",
            "/mounts/0/options",
            "/linux/maskedPaths",
            "/linux/readonlyPaths",
        ] {
            *c.pointer_mut(pointer).expect(pointer) = Value::Null;
        }
        for (object, names) in [
            ("", &["domainname", "annotations", "solaris", "windows", "vm"][..]),
            ("/process", &["user", "consoleSize", "apparmorProfile", "selinuxLabel", "oomScoreAdj"]),
            ("/linux", &["sysctl", "devices", "seccomp", "uidMappings", "gidMappings", "intelRdt"]),
            ("/linux", &["rootfsPropagation", "mountLabel", "personality"]),
            ("/linux/resources", &["memory", "cpu", "pids", "blockIO", "network", "rdma"]),
            ("/linux/resources", &["hugepageLimits", "unified", "devices"]),
        ] {
            let object = c.pointer_mut(object).expect(object).as_object_mut().expect("an object");
            object.extend(names.iter().map(|name| ((*name).to_owned(), Value::Null)));
        }
        c["hooks"] = json!({ "prestart": null, "poststop": [{ "path": "/bin/true", "args": null, "env": null }] });
    });
    let run = c.run().ok();
    assert_eq!(run.out, "fine\n0\n");
}

#[test]
fn null_in_numbers_and_maps() {
    davit_only!("runc 1.1 knows no time namespace");
    let c = Container::sh("id -u; id -g").with(|c| {
        config::set_namespace(c, "time", None);
        c["linux"]["timeOffsets"] =
            json!({ "monotonic": null, "boottime": { "secs": 5, "nanosecs": null } });
        c["process"]["user"] =
            json!({ "uid": null, "gid": 7, "umask": null, "additionalGids": null });
        c["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": null, "flags": null });
    });
    assert_eq!(c.run().ok().out, "0\n7\n");
    let c = Container::sleeper();
    c.create().start();
    let file = c.path("process.json");
    let process = json!({ "cwd": "/", "args": ["id", "-u"], "user": { "uid": null }, "env": null });
    fs::write(&file, process.to_string()).expect("write");
    assert_eq!(c.call(&["exec", "--process", &file, &c.id]).done().ok().out, "0\n");
}

/// What is REQUIRED is missing where it is null.
#[test]
fn null_is_no_value() {
    davit_only!("for Go it is 0, or an empty string");
    type Row = (&'static str, fn(&mut Value));
    let rows: &[Row] = &[
        ("process: missing field `cwd`", |c| c["process"]["cwd"] = Value::Null),
        ("process.rlimits[0]: missing field `hard`", |c| {
            c["process"]["rlimits"][0]["hard"] = Value::Null;
        }),
        ("linux.uidMappings[0]: missing field `hostID`", |c| {
            config::set_userns(c, 100_000, 65536);
            c["linux"]["uidMappings"][0]["hostID"] = Value::Null;
        }),
        ("root.path: missing", |c| c["root"]["path"] = Value::Null),
        ("root: is missing", |c| c["root"] = Value::Null),
        ("ociVersion: is missing", |c| c["ociVersion"] = Value::Null),
        ("mounts[0]: missing field `destination`", |c| c["mounts"][0]["destination"] = Value::Null),
        ("linux.sysctl.net.ipv4.ip_forward: invalid type: null", |c| {
            c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": null });
        }),
        ("annotations.a: invalid type: null", |c| c["annotations"] = json!({ "a": null })),
    ];
    for (says, edit) in rows {
        Container::new(&["true"]).with(edit).run().refuses(&[says]);
    }
}
