//! Whatever config.json, the command line or the state directory hold: a non-zero exit, one clear
//! line, nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use integration::*;

fn shell(script: &str) {
    let done = Command::new("sh").args(["-c", script]).status().expect("sh");
    assert!(done.success(), "{script}");
}

/// Runs with a config.json that the closure writes; expects one line with `says`, in time, and
/// nothing left.
fn config_file(what: &str, says: &[&str], write: impl FnOnce(&str, &Value)) {
    let c = Container::new(&["true"]);
    c.write();
    let file = c.path("bundle/config.json");
    fs::remove_file(&file).expect("rm");
    write(&file, &c.config);
    let bundle = c.path("bundle");
    for command in ["run", "create"] {
        let run =
            c.call(&[command, "--bundle", &bundle, &c.id]).within(Duration::from_secs(10)).done();
        assert_ne!(run.code, 0, "{what} is accepted");
        run.refuses(says);
        c.assert_nothing_left();
    }
}

#[test]
fn config_json_as_a_file() {
    davit_only!("other runtimes read devices, and files of any size");
    let valid = |config: &Value| serde_json::to_string(config).expect("json");
    config_file("missing", &["config.json", "no such file or directory"], |_, _| ());
    config_file("a directory", &["config.json"], |file, _| fs::create_dir(file).expect("mkdir"));
    config_file("a device", &["config.json"], |file, _| shell(&format!("mknod {file} c 1 5")));
    config_file("a link to a device", &["config.json"], |file, _| {
        shell(&format!("ln -s /dev/zero {file}"))
    });
    config_file("a socket", &["config.json"], |file, _| {
        std::os::unix::net::UnixListener::bind(file).expect("bind");
    });
    config_file("empty", &["config.json"], |file, _| fs::write(file, "").expect("write"));
    config_file("more than 16 MiB", &["config.json", "16"], |file, config| {
        fs::write(file, format!("{}{}", valid(config), " ".repeat(17 << 20))).expect("write");
    });
    config_file("1 TiB of holes", &["config.json"], |file, _| {
        shell(&format!("truncate -s 1T {file}"))
    });
    config_file("not UTF-8", &["config.json"], |file, config| {
        let text = valid(config).replace("\"davit\"", "\"da\u{1}it\"").into_bytes();
        let bytes: Vec<u8> = text.iter().map(|b| if *b == 1 { 0xff } else { *b }).collect();
        fs::write(file, bytes).expect("write");
    });
    config_file("trailing bytes", &["config.json"], |file, config| {
        fs::write(file, valid(config) + "{}").expect("write")
    });
    config_file("truncated", &["config.json"], |file, config| {
        let text = valid(config);
        fs::write(file, &text[..text.len() / 2]).expect("write");
    });
    config_file("null", &["config.json"], |file, _| fs::write(file, "null").expect("write"));
    config_file("a list", &["config.json"], |file, _| fs::write(file, "[]").expect("write"));
    config_file("nested deeply", &["config.json"], |file, config| {
        let deep = format!("{{\"deep\":{}{}}}", "[".repeat(129), "]".repeat(129));
        let text = valid(config);
        fs::write(file, format!("{},{}", &text[..text.len() - 1], &deep[1..])).expect("write");
    });
    config_file("nested very deeply", &["config.json"], |file, _| {
        fs::write(file, "[".repeat(1 << 20)).expect("write");
    });
    config_file("a duplicate key", &["config.json", "process"], |file, config| {
        let text = valid(config);
        fs::write(file, format!("{},\"process\":{}}}", &text[..text.len() - 1], config["process"]))
            .expect("write");
    });
    config_file("a duplicate key inside", &["noNewPrivileges"], |file, config| {
        let text = valid(config).replace(
            "\"noNewPrivileges\":true",
            "\"noNewPrivileges\":true,\"noNewPrivileges\":false",
        );
        fs::write(file, text).expect("write");
    });
}

#[test]
fn config_json_that_nobody_may_read() {
    davit_only!("as an unprivileged user");
    let c = Container::new(&["true"]);
    c.write();
    fs::set_permissions(c.bundle().join("config.json"), fs::Permissions::from_mode(0o000))
        .expect("chmod");
    let call = c.call_through(
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        &["explain", &c.path("bundle")],
    );
    let run = call.done();
    if run.err.contains("setpriv") {
        skip_if!(Some("other users cannot reach the binary"));
    }
    run.refuses(&["config.json", "permission denied"]);
}

/// Values of a wrong type for what was there.
fn wrong_types(right: &Value) -> Vec<Value> {
    let all = [
        json!(true),
        json!(-5),
        json!(1.5),
        json!("a string"),
        json!([7]),
        json!({ "a": {} }),
        json!([[]]),
    ];
    let same = |value: &Value| {
        matches!(
            (right, value),
            (Value::Bool(_), Value::Bool(_))
                | (Value::String(_), Value::String(_))
                | (Value::Array(_), Value::Array(_))
                | (Value::Object(_), Value::Object(_))
        )
    };
    all.into_iter().filter(|value| !same(value)).collect()
}

/// The members that get values of wrong types.
const FIELDS: &[&str] = &[
    "/ociVersion",
    "/root",
    "/root/path",
    "/root/readonly",
    "/hostname",
    "/process",
    "/process/terminal",
    "/process/user",
    "/process/user/uid",
    "/process/user/gid",
    "/process/args",
    "/process/args/0",
    "/process/env",
    "/process/env/0",
    "/process/cwd",
    "/process/capabilities",
    "/process/capabilities/bounding",
    "/process/rlimits",
    "/process/rlimits/0",
    "/process/rlimits/0/type",
    "/process/rlimits/0/hard",
    "/process/noNewPrivileges",
    "/mounts",
    "/mounts/0",
    "/mounts/0/destination",
    "/mounts/0/type",
    "/mounts/0/source",
    "/mounts/1/options",
    "/mounts/1/options/0",
    "/linux",
    "/linux/cgroupsPath",
    "/linux/resources",
    "/linux/resources/devices",
    "/linux/resources/devices/0",
    "/linux/resources/devices/0/allow",
    "/linux/resources/devices/0/access",
    "/linux/namespaces",
    "/linux/namespaces/0",
    "/linux/namespaces/0/type",
    "/linux/maskedPaths",
    "/linux/maskedPaths/0",
    "/linux/readonlyPaths",
];

#[test]
fn wrong_types_everywhere() {
    davit_only!("each has a parser of its own");
    for field in FIELDS {
        let c = Container::new(&["true"]);
        let right = c.config.pointer(field).unwrap_or_else(|| panic!("no {field}")).clone();
        for wrong in wrong_types(&right) {
            if matches!((&right, &wrong), (Value::Number(_), Value::Number(n)) if n.as_u64().is_some())
            {
                continue;
            }
            let mut config = c.config.clone();
            *config.pointer_mut(field).expect("field") = wrong.clone();
            fs::write(c.bundle().join("config.json"), config.to_string()).expect("write");
            let run = c.call(&["explain", &c.path("bundle")]).done();
            assert_ne!(run.code, 0, "{field} = {wrong} is accepted");
            // The field is named as far as the parser can: `process.rlimits[0].hard`, its parent,
            // or the key alone.
            let mut names = field.split('/').filter(|name| name.parse::<u32>().is_err());
            let first = names.nth(1).expect("a name");
            let last = names.next_back().unwrap_or(first);
            let run = run.refuses(&[]);
            let named = run.err.contains(&format!(" {first}")) || run.err.contains(last);
            assert!(named, "{field} = {wrong}: {run:?}");
        }
    }
}

#[test]
fn nul_in_any_string() {
    davit_only!("Go passes some of them on");
    let c = Container::new(&["true", "argument"]).with(|c| {
        c["annotations"] = json!({ "key": "value" });
        c["linux"]["sysctl"] = json!({ "net.core.somaxconn": "7" });
        c["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 }]);
        c["hooks"] =
            json!({ "poststop": [{ "path": "/bin/true", "args": ["true"], "env": ["A=b"] }] });
    });
    for field in [
        "/root/path",
        "/hostname",
        "/process/args/0",
        "/process/args/1",
        "/process/env/0",
        "/process/cwd",
        "/mounts/0/destination",
        "/mounts/0/type",
        "/mounts/1/source",
        "/mounts/1/options/0",
        "/linux/cgroupsPath",
        "/linux/maskedPaths/0",
        "/linux/readonlyPaths/0",
        "/linux/sysctl/net.core.somaxconn",
        "/linux/devices/0/path",
        "/hooks/poststop/0/path",
        "/hooks/poststop/0/args/0",
        "/hooks/poststop/0/env/0",
    ] {
        let mut config = c.config.clone();
        let place = config.pointer_mut(field).unwrap_or_else(|| panic!("no {field}"));
        *place = format!("{}\0x", place.as_str().expect("a string")).into();
        fs::write(c.bundle().join("config.json"), config.to_string()).expect("write");
        let run = c.call(&["run", "--bundle", &c.path("bundle"), &c.id]).done();
        assert_ne!(run.code, 0, "{field} with a NUL is accepted");
        run.refuses(&[field.trim_start_matches('/').split('/').next().expect("a name")]);
        c.assert_nothing_left();
    }
}

/// What is wrong, what the error must hold, and how config.json is made so.
type Row = (&'static str, &'static [&'static str], fn(&mut Value));

/// Configurations with values that cannot be applied.
const VALUES: &[Row] = &[
    ("uid -1", &["process.user.uid"], |c| c["process"]["user"]["uid"] = 4_294_967_295_u32.into()),
    ("gid -1", &["process.user.gid"], |c| c["process"]["user"]["gid"] = 4_294_967_295_u32.into()),
    ("a group -1", &["process.user.additionalGids[1]"], |c| {
        c["process"]["user"]["additionalGids"] = json!([5, 4_294_967_295_u32])
    }),
    ("too large a uid", &["process.user.uid"], |c| {
        c["process"]["user"]["uid"] = json!(4_294_967_296_u64)
    }),
    ("a umask of more than 0777", &["process.user.umask"], |c| {
        c["process"]["user"]["umask"] = 0o1000.into()
    }),
    ("empty args", &["process.args"], |c| c["process"]["args"] = json!([])),
    ("an empty program", &["process.args[0]"], |c| c["process"]["args"] = json!([""])),
    ("no args", &["process.args"], |c| {
        c["process"].as_object_mut().expect("object").remove("args");
    }),
    ("no process", &["process"], |c| {
        c.as_object_mut().expect("object").remove("process");
    }),
    ("no root", &["root"], |c| {
        c.as_object_mut().expect("object").remove("root");
    }),
    ("no version", &["ociVersion"], |c| {
        c.as_object_mut().expect("object").remove("ociVersion");
    }),
    ("another version", &["ociVersion", "2.0.0"], |c| c["ociVersion"] = "2.0.0".into()),
    ("no version at all", &["ociVersion"], |c| c["ociVersion"] = "bogus".into()),
    ("relative cwd", &["process.cwd", "tmp"], |c| c["process"]["cwd"] = "tmp".into()),
    ("empty cwd", &["process.cwd"], |c| c["process"]["cwd"] = "".into()),
    ("env without =", &["process.env[2]"], |c| {
        config::push(&mut c["process"]["env"], "NOVALUE".into())
    }),
    ("env without a name", &["process.env[2]"], |c| {
        config::push(&mut c["process"]["env"], "=x".into())
    }),
    ("unknown namespace", &["linux.namespaces[5].type", "bogus"], |c| {
        config::push(&mut c["linux"]["namespaces"], json!({ "type": "bogus" }))
    }),
    ("duplicate namespace", &["linux.namespaces[5]", "pid"], |c| {
        config::push(&mut c["linux"]["namespaces"], json!({ "type": "pid" }))
    }),
    ("duplicate rlimit", &["process.rlimits[1]", "RLIMIT_NOFILE"], |c| {
        config::push(
            &mut c["process"]["rlimits"],
            json!({ "type": "RLIMIT_NOFILE", "soft": 5, "hard": 5 }),
        );
    }),
    ("seccomp without names", &["linux.seccomp.syscalls[0].names"], |c| {
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": [], "action": "SCMP_ACT_ERRNO" }] });
    }),
    ("errnoRet with an action that has none", &["linux.seccomp.syscalls[0].errnoRet"], |c| {
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_KILL", "errnoRet": 1 }] });
    }),
    ("mount over /", &["mounts[7].destination"], |c| {
        config::add_mount(c, "/", "tmpfs", "tmpfs", &[])
    }),
    ("mount over / in disguise", &["mounts[7]"], |c| {
        config::add_mount(c, "/etc/..", "tmpfs", "tmpfs", &[])
    }),
    ("mount inside /proc", &["mounts[7].destination", "/proc"], |c| {
        config::add_mount(c, "/proc/self", "tmpfs", "tmpfs", &[])
    }),
    ("bind inside /proc", &["mounts[7].destination", "/proc"], |c| {
        config::add_mount(c, "/proc/sys/kernel", "bind", "/etc", &["bind"])
    }),
    ("empty destination", &["mounts[7].destination"], |c| {
        config::add_mount(c, "", "tmpfs", "tmpfs", &[])
    }),
    (".. in cgroupsPath", &["linux.cgroupsPath", ".."], |c| {
        c["linux"]["cgroupsPath"] = "/../../davit-test-x".into()
    }),
    (".. within cgroupsPath", &["linux.cgroupsPath", ".."], |c| {
        c["linux"]["cgroupsPath"] = "/davit-test-x/../y".into()
    }),
    ("the root of the cgroups", &["linux.cgroupsPath"], |c| c["linux"]["cgroupsPath"] = "/".into()),
    ("oomScoreAdj out of range", &["process.oomScoreAdj"], |c| {
        c["process"]["oomScoreAdj"] = 1001.into()
    }),
    ("personality", &["linux.personality.domain"], |c| {
        c["linux"]["personality"] = json!({ "domain": "BOGUS" })
    }),
    ("mappings that overlap", &["linux.uidMappings"], |c| {
        config::set_userns(c, 100_000, 10);
        config::push(
            &mut c["linux"]["uidMappings"],
            json!({ "containerID": 5, "hostID": 200_000, "size": 10 }),
        );
    }),
    ("an empty mapping", &["linux.uidMappings[0]", "size"], |c| config::set_userns(c, 100_000, 0)),
    ("a mapping beyond the last id", &["linux.uidMappings[0]"], |c| {
        config::set_userns(c, 4_294_967_290, 100)
    }),
    ("an empty hook path", &["hooks.prestart[0]", "path"], |c| {
        c["hooks"] = json!({ "prestart": [{ "path": "" }] })
    }),
    ("a sysctl of a path", &["linux.sysctl"], |c| {
        c["linux"]["sysctl"] = json!({ "net/../kernel/core_pattern": "x" })
    }),
    (
        "console size without a terminal is ignored by the spec, but a broken one is not",
        &["process.consoleSize"],
        |c| {
            c["process"]["consoleSize"] = json!({ "height": -1, "width": 5 });
        },
    ),
];

#[test]
fn values() {
    davit_only!("each other runtime accepts some of these");
    for (what, says, edit) in VALUES {
        let c = Container::new(&["true"]).with(edit);
        let run = c.run_call(&[]).done();
        assert_ne!(run.code, 0, "{what} is accepted");
        run.refuses(says);
        c.assert_nothing_left();
    }
}

#[test]
fn ids() {
    davit_only!("other runtimes take some of them");
    let c = Container::new(&["true"]);
    c.write();
    let bundle = c.path("bundle");
    let long = "a".repeat(1025);
    for id in [
        "../x",
        "",
        "a/b",
        "/",
        ".",
        "..",
        "a b",
        "a\n",
        "é",
        "a:b",
        "%",
        "a*",
        long.as_str(),
        "\u{1b}[2J",
    ] {
        for command in [
            vec!["run", "--bundle", &bundle, "--", id],
            vec!["create", "--bundle", &bundle, "--", id],
        ] {
            c.call(&command).done().refuses(&["id"]);
        }
        for command in ["start", "state", "delete", "kill"] {
            c.call(&[command, "--", id]).done().refuses(&[]);
        }
        c.call(&["delete", "--force", "--", id]).done().refuses(&[]);
        c.assert_nothing_left();
    }
    let left: Vec<_> =
        fs::read_dir(c.state_root()).map(|dir| dir.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

/// Command lines that are refused, and the words of the error. ID is a running container, BUNDLE a
/// bundle.
const COMMAND_LINES: &[(&[&str], &[&str])] = &[
    (&["kill", "ID", "9x"], &["9x"]),
    (&["kill", "ID", "-1"], &["-1"]),
    (&["kill", "ID", "4294967305"], &["4294967305"]),
    (&["exec", "--user", " 1", "ID", "true"], &["user", " 1"]),
    (&["exec", "--user", "-1", "ID", "true"], &["user", "-1"]),
    (&["exec", "--user", "1:", "ID", "true"], &["user", "1:"]),
    (&["exec", "--user", "4294967296", "ID", "true"], &["user", "4294967296"]),
    (&["exec", "--user=-1", "ID", "true"], &["user", "-1"]),
    (&["exec", "--additional-gids", "-1", "ID", "true"], &["additional-gids", "-1"]),
    (&["exec", "--additional-gids", "4294967295", "ID", "true"], &["4294967295"]),
    (&["exec", "--env", "NOVALUE", "ID", "true"], &["NOVALUE"]),
    (&["exec", "--preserve-fds", "4294967296", "ID", "true"], &["preserve-fds"]),
    (&["exec", "--nosuchflag", "ID", "true"], &["nosuchflag"]),
    (&["exec", "ID", ""], &[]),
    (&["start", "--nosuchflag", "ID"], &["nosuchflag"]),
    (&["--nosuchflag", "state", "ID"], &["nosuchflag"]),
    (
        &["create", "--bundle", "/no/such/bundle", "new"],
        &["/no/such/bundle", "no such file or directory"],
    ),
    (&["create", "--bundle", "/etc/passwd", "new"], &["/etc/passwd", "not a directory"]),
    (&["create", "--bundle", "", "new"], &["bundle"]),
    (
        &["create", "--pid-file", "/no/such/dir/pid", "--bundle", "BUNDLE", "new"],
        &["/no/such/dir/pid", "no such file or directory"],
    ),
    (
        &["create", "--console-socket", "/no/such/socket", "--bundle", "BUNDLE", "new"],
        &["console-socket"],
    ),
    (&["create", "--preserve-fds", "65537", "--bundle", "BUNDLE", "new"], &["preserve-fds"]),
    (&["create", "--bundle", "BUNDLE"], &["id"]),
    (&["list", "--format", "xml"], &["xml"]),
    (&["--root", "/", "list"], &["--root"]),
    (&["--root", "", "list"], &["--root"]),
    (&["--log-level", "bogus", "list"], &["bogus"]),
    (&["--rootless", "bogus", "list"], &["bogus"]),
];

#[test]
fn command_line() {
    davit_only!("each has a parser of its own");
    let c = Container::sleeper();
    c.create().start();
    let other = Container::sleeper();
    other.write();
    let bundle = other.path("bundle");
    for (words, says) in COMMAND_LINES {
        let words: Vec<&str> = words
            .iter()
            .map(|word| match *word {
                "ID" => c.id.as_str(),
                "BUNDLE" => bundle.as_str(),
                word => word,
            })
            .collect();
        let run = c.call(&words).done();
        assert_ne!(run.code, 0, "{words:?} is accepted");
        run.refuses(says);
    }
    let others: Vec<_> = fs::read_dir(c.state_root())
        .expect("state")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(others, [c.id.as_str()], "nothing else was made");
    assert_eq!(c.status(), "running");
}

#[test]
fn nonsense_bytes_on_the_command_line() {
    davit_only!("its own messages");
    use std::os::unix::ffi::OsStrExt;
    let c = Container::new(&["true"]);
    let garbage = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    for command in ["state", "start", "kill", "run", "nosuch", "--log-format"] {
        c.call(&[command]).arg(garbage).done().refuses(&[]);
    }
}
