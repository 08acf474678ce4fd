//! The command line: spellings of options, and what is printed by the commands that print.

use std::fs;

use integration::*;

fn plain(args: &[&str]) -> Outcome {
    let c = Container::new(&["true"]);
    let mut all = vec![runtime::runtime().path.to_str().expect("utf-8").to_owned()];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    c.host(&all.iter().map(String::as_str).collect::<Vec<_>>()).done()
}

#[test]
fn version() {
    let run = plain(&["--version"]).ok();
    let lines = run.lines();
    let name = &runtime::runtime().name;
    assert!(lines[0].starts_with(&format!("{name} version ")), "{run:?}");
    assert!(lines[1].starts_with("commit: "), "{run:?}");
    assert!(lines.iter().any(|line| line.starts_with("spec: 1.")), "{run:?}");
    if runtime::runtime().is_davit() {
        assert!(lines[2].starts_with("spec: 1.3"), "{run:?}");
        assert_eq!(lines[3], "state: format 1", "docs/state.md");
        let features = lines[4];
        assert!(features.starts_with('+') && features.contains("+SECCOMP"), "{run:?}");
        // Test suites of others look for these words of crun's, and skip without them.
        for word in ["+SYSTEMD", "+SELINUX", "+APPARMOR", "+CAP", "+SECCOMP", "+EBPF", "+CRIU"] {
            assert!(features.split(' ').any(|feature| feature == word), "{word}: {run:?}");
        }
        assert_eq!(plain(&["-v"]).ok().out, run.out);
    }
}

#[test]
fn help() {
    let whole = plain(&["--help"]).ok();
    for command in ["create", "start", "run", "exec", "kill", "delete", "state", "list", "spec"] {
        assert!(whole.out.contains(command), "{command}: {whole:?}");
        let own = plain(&[command, "--help"]).ok();
        assert!(own.out.contains(command), "{own:?}");
    }
    if runtime::runtime().is_davit() {
        assert!(whole.out.contains("explain"));
        for command in
            ["create", "start", "run", "exec", "kill", "delete", "state", "list", "spec", "explain"]
        {
            assert!(plain(&[command, "-h"]).ok().out.contains("davit"), "{command}");
        }
        assert!(whole.out.lines().all(|line| line.len() <= 120), "fits a terminal");
        let create = plain(&["create", "--help"]).ok();
        for option in [
            "--bundle",
            "--pid-file",
            "--console-socket",
            "--preserve-fds",
            "--no-pivot",
            "--no-new-keyring",
            "--ephemeral",
        ] {
            assert!(create.out.contains(option), "{option}: {create:?}");
        }
        let run = plain(&["run", "--help"]).ok();
        for option in ["--bundle", "--detach", "--keep"] {
            assert!(run.out.contains(option), "{option}: {run:?}");
        }
        let exec = plain(&["exec", "--help"]).ok();
        for option in [
            "--process",
            "--tty",
            "--console-socket",
            "--cwd",
            "--env",
            "--user",
            "--additional-gids",
            "--cap",
            "--no-new-privs",
            "--cgroup",
            "--pid-file",
            "--detach",
            "--preserve-fds",
            "--ignore-paused",
            "--process-label",
            "--apparmor",
        ] {
            assert!(exec.out.contains(option), "{option}: {exec:?}");
        }
    }
}

#[test]
fn nonsense_is_refused() {
    for args in [
        vec!["nosuchcommand"],
        vec!["--nosuchflag", "list"],
        vec!["state"],
        vec!["kill"],
        vec!["delete"],
        vec!["start"],
        vec!["run"],
    ] {
        let run = plain(&args);
        if runtime::runtime().is_davit() {
            run.refuses(&[]);
        } else {
            // runc prints its usage for no command at all, and some of these go to stdout.
            let _ = run;
        }
    }
    if runtime::runtime().is_davit() {
        plain(&["state", "--nosuchflag", "x"]).refuses(&["--nosuchflag"]);
        plain(&["nosuchcommand"]).refuses(&["nosuchcommand"]);
        plain(&["list", "extra"]).refuses(&["extra"]);
        plain(&["state", "a", "b"]).refuses(&["b"]);
        plain(&["run", "--bundle"]).refuses(&["--bundle"]);
        plain(&["create", "--preserve-fds", "x", "id"]).refuses(&["--preserve-fds"]);
        plain(&["create", "--preserve-fds=-1", "id"]).refuses(&["--preserve-fds"]);
        plain(&["run", "--detach=maybe", "id"]).refuses(&["--detach"]);
    }
}

#[test]
fn help_and_version_are_commands_too() {
    assert_eq!(plain(&["help"]).ok().out, plain(&["--help"]).ok().out);
    davit_only!("crun has neither");
    assert_eq!(plain(&["version"]).ok().out, plain(&["--version"]).ok().out);
    for command in ["create", "kill", "help", "version"] {
        assert_eq!(plain(&["help", command]).ok().out, plain(&[command, "--help"]).ok().out);
    }
    plain(&["help", "cretae"]).refuses(&["unknown command \"cretae\"", "mean \"create\"?"]);
    plain(&["help", "a", "b"]).refuses(&["unexpected argument \"b\"", "usage: davit help"]);
    plain(&["version", "x"]).refuses(&["unexpected argument \"x\""]);
}

#[test]
fn a_slip_of_the_finger_gets_the_name_that_was_meant() {
    davit_only!("other runtimes say that they do not know it");
    for (words, hint) in [
        (&["craete", "x"][..], "did you mean \"create\"?"),
        (&["dlete", "x"], "did you mean \"delete\"?"),
        (&["wholly-unknown"], "davit help lists the commands"),
        (&["--log-levle=debug", "list"], "did you mean \"--log-level\"?"),
        (&["delete", "--forse", "x"], "did you mean \"--force\"?"),
        (&["run", "--bundel", "x", "x"], "did you mean \"--bundle\"?"),
        (&["list", "--root", "/x"], "--root goes before the command"),
        (&["list", "--rot", "/x"], "did you mean \"--root\"?"),
        (&["list", "--format", "jsn"], "did you mean \"json\"?"),
        (&["--cgroup-manager=sytemd", "list"], "did you mean \"systemd\"?"),
        (&["completion", "fihs"], "did you mean \"fish\"?"),
        (&["mounts", "ad", "x", "y"], "did you mean \"add\"?"),
        (&["kill", "x", "SIGTREM"], "did you mean \"TERM\"?"),
        (&["state"], "usage: davit state ID"),
        (&["delete", "a", "b"], "usage: davit delete [OPTIONS] ID"),
        (&["mounts", "add", "x"], "usage: davit mounts add ID FILE, or davit mounts remove"),
    ] {
        let refused = plain(words).fails();
        let last = refused.err.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("hint: {hint}")), "{words:?}: {refused:?}");
    }
    // Nothing is proposed that is far away.
    let refused = plain(&["delete", "--nonsense", "x"]).fails();
    assert_eq!(refused.err, "davit: delete: unknown option \"--nonsense\"\n");
}

/// Only a word that is an option of davit's is mended.
#[test]
fn what_follows_the_command_of_exec_stays_as_it_is() {
    davit_only!("about an option with one dash that engines give");
    let c = Container::sleeper();
    c.create().start();
    let run = c.call(&["exec", &c.id, "echo", "-no-subreaper", "--nonsense"]).done().ok();
    assert_eq!(run.out, "-no-subreaper --nonsense\n");
    c.kill("KILL").ok();
}

#[test]
fn options_before_and_after_the_id() {
    spec!();
    let c = Container::sh("echo fine");
    c.write();
    let bundle = c.path("bundle");
    let mut spellings =
        vec![vec!["run", "--bundle", &bundle, &c.id], vec!["run", "-b", &bundle, &c.id]];
    let equals = format!("--bundle={bundle}");
    spellings.push(vec!["run", &equals, &c.id]);
    if runtime::runtime().is_davit() {
        spellings.push(vec!["run", &c.id, "--bundle", &bundle]);
        spellings.push(vec!["run", &c.id, &equals]);
        spellings.push(vec!["run", "--no-pivot", &c.id, "-b", &bundle]);
        spellings.push(vec!["run", "--keep=false", &c.id, "-b", &bundle]);
        spellings.push(vec!["run", "-no-subreaper", &c.id, "-b", &bundle]);
    }
    for spelling in spellings {
        assert_eq!(c.call(&spelling).done().ok().out, "fine\n", "{spelling:?}");
    }
}

#[test]
fn delete_and_kill_with_options_after_the_id() {
    davit_only!("urfave/cli ends at the first argument");
    let c = Container::sleeper();
    c.create().start();
    c.call(&["kill", &c.id, "--all", "KILL"]).done().ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id, "--force"]).done().ok();
    c.assert_nothing_left();
}

#[test]
fn global_options() {
    spec!();
    let c = Container::sh("echo fine").global(&["--debug"]);
    let log = c.path("log");
    let c = c.global(&["--log", &log]);
    assert_eq!(c.run_call(&[]).done().exits(0).out, "fine\n");
    let c = Container::sh("echo fine").global(&["--rootless=false"]);
    if runtime::runtime().name != "crun" {
        assert_eq!(c.run().ok().out, "fine\n");
    }
}

#[test]
fn list() {
    spec!();
    fails_with!("crun", "1.8 has another head");
    let c = Container::sleeper();
    let empty = c.call(&["list"]).done().ok();
    assert_eq!(empty.lines().len(), 1, "the head alone: {empty:?}");
    assert_eq!(
        empty.lines()[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!(c.call(&["list", "-q"]).done().ok().out, "");
    c.create();
    let table = c.call(&["list"]).done().ok();
    let words: Vec<&str> = table.lines()[1].split_whitespace().collect();
    let (pid, bundle) = (c.pid().to_string(), c.path("bundle"));
    assert_eq!(words[..4], [c.id.as_str(), &pid, "created", &bundle]);
    assert_eq!(words[5], "root");
    assert_eq!(c.call(&["list", "-q"]).done().ok().out.trim(), c.id);
    let json = c.call(&["list", "--format", "json"]).done().ok().json();
    let entry = &json.as_array().expect("an array")[0];
    assert_eq!(
        (&entry["id"], &entry["status"], &entry["pid"]),
        (&json!(c.id), &json!("created"), &json!(c.pid()))
    );
    assert_eq!(entry["bundle"], bundle.as_str());
    if runtime::runtime().is_davit() {
        assert_eq!(c.call(&["list", "-f=json"]).done().ok().json(), json);
        assert_eq!(c.call(&["list", "--quiet"]).done().ok().out.trim(), c.id);
        c.call(&["list", "--format", "bogus"]).done().refuses(&["format", "bogus"]);
    }
}

/// A container has one line, whatever is in the path of its bundle.
#[test]
fn list_escapes_what_would_break_its_lines() {
    davit_only!("other runtimes print it as it is");
    let c = Container::sleeper();
    c.write();
    let strange = c.path("bun\ndle\t\x1b[31m\u{e9} x");
    fs::rename(c.bundle(), &strange).expect("rename");
    c.call(&["run", "--detach", "--bundle", &strange, &c.id]).done().ok();
    let table = c.call(&["list"]).done().ok();
    assert_eq!(table.lines().len(), 2, "{table:?}");
    assert!(table.out.contains("/bun\\ndle\\t\\u{1b}[31m\u{e9} x   "), "{table:?}");
    // JSON has escapes of its own.
    let json = c.call(&["list", "--format", "json"]).done().ok().json();
    assert_eq!(json[0]["bundle"], strange.as_str());
    c.kill("KILL").ok();
    c.call(&["delete", "--force", &c.id]).done().ok();
    fs::rename(&strange, c.bundle()).expect("rename");
}

#[test]
fn list_of_none_as_json() {
    davit_only!("runc prints null");
    let c = Container::new(&["true"]);
    assert_eq!(c.call(&["list", "--format", "json"]).done().ok().json(), json!([]));
}

/// `list` reads less of a record than `state` does, unless that is long.
#[test]
fn list_tells_what_state_tells() {
    davit_only!("runc's list has other fields than its state");
    for long in [1, 20_000] {
        let c = Container::sleeper().with(|c| {
            c["annotations"] = json!({ "long": "x".repeat(long), "\"": "\u{e9}\n" });
        });
        let agree = |status: &str| {
            let state = c.call(&["state", &c.id]).done().ok().json();
            assert_eq!(state["status"], status);
            let list = c.call(&["list", "--format", "json"]).done().ok().json();
            assert_eq!(list, json!([state]), "{status}");
        };
        c.create();
        agree("created");
        c.start();
        agree("running");
        c.call(&["pause", &c.id]).done().ok();
        agree("paused");
        c.kill("KILL").ok();
        c.until_status("stopped");
        agree("stopped");
    }
}

#[test]
fn list_with_a_damaged_one() {
    davit_only!("other runtimes stop at it or pass it over");
    let c = Container::sleeper();
    c.create();
    fs::create_dir_all(c.state_root().join("damaged")).expect("mkdir");
    let run = c.call(&["list"]).done();
    assert!(run.out.contains(&c.id), "{run:?}");
    fs::remove_dir(c.state_root().join("damaged")).expect("rmdir");
}

#[test]
fn spec() {
    let c = Container::new(&["true"]);
    let run = c.call(&["spec", "--bundle", &c.path("bundle")]).done().ok();
    assert_eq!(run.out, "");
    let text = fs::read_to_string(c.bundle().join("config.json")).expect("config");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert!(config["linux"]["namespaces"].as_array().is_some_and(|all| all.len() >= 5));
    let again = c.call(&["spec", "--bundle", &c.path("bundle")]).done();
    let again = again.refuses(&["config.json", "exist"]);
    if runtime::runtime().is_davit() {
        let first = again.err.lines().next().unwrap_or_default();
        assert!(first.ends_with("bundle/config.json exists already"), "{again:?}");
    }
    let after = fs::read_to_string(c.bundle().join("config.json")).expect("config");
    assert_eq!(after, text, "it is never overwritten");
}

/// The keys of an object, in the order of the text.
fn keys(text: &str, indent: usize) -> Vec<&str> {
    let start = format!("{}\"", " ".repeat(indent));
    text.lines()
        .filter_map(|line| line.strip_prefix(&start)?.split_once("\":").map(|(key, _)| key))
        .collect()
}

/// No field is null, which the schema forbids, and they stand in the order that people know.
#[test]
fn what_spec_writes_is_in_order() {
    davit_only!("a file of davit");
    for (options, linux) in [
        (&[][..], &["resources", "namespaces", "maskedPaths", "readonlyPaths"][..]),
        (
            &["--rootless"],
            &["uidMappings", "gidMappings", "namespaces", "maskedPaths", "readonlyPaths"],
        ),
    ] {
        let c = Container::new(&["true"]);
        c.call(&[&["spec"], options].concat()).dir(c.bundle()).done().ok();
        let text = fs::read_to_string(c.bundle().join("config.json")).expect("config");
        assert!(!text.contains("null"), "{text}");
        let top = ["ociVersion", "process", "root", "hostname", "mounts", "linux"];
        assert_eq!(keys(&text, 2), top);
        let inner = keys(&text, 4);
        let process = [
            "terminal",
            "user",
            "args",
            "env",
            "cwd",
            "capabilities",
            "rlimits",
            "noNewPrivileges",
        ];
        assert_eq!(inner[..8], process);
        assert_eq!(inner[8..10], ["path", "readonly"]);
        assert_eq!(&inner[10..], linux);
        let mount = text.find("\"destination\": \"/dev\"").expect("a mount");
        assert_eq!(keys(&text[mount - 6..], 6)[..4], ["destination", "type", "source", "options"]);
    }
}

#[test]
fn what_spec_writes_runs() {
    spec!();
    let mut c = Container::new(&["true"]);
    c.call(&["spec"]).dir(c.bundle()).done().ok();
    let text = fs::read_to_string(c.bundle().join("config.json")).expect("config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["process"]["args"] = json!(["sh", "-c", "echo it runs as $(id -u)"]);
    config["process"]["terminal"] = false.into();
    config["linux"]["cgroupsPath"] = format!("/{}", c.id).into();
    c.config = config;
    assert_eq!(c.run().ok().out, "it runs as 0\n");
}

#[test]
fn spec_for_a_user() {
    fails_with!("crun", "1.8 keeps the network namespace");
    let c = Container::new(&["true"]);
    c.call(&["spec", "--rootless", "--bundle", &c.path("bundle")]).done().ok();
    let text = fs::read_to_string(c.bundle().join("config.json")).expect("config");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let kinds: Vec<&str> = config["linux"]["namespaces"]
        .as_array()
        .expect("namespaces")
        .iter()
        .filter_map(|n| n["type"].as_str())
        .collect();
    assert!(kinds.contains(&"user"), "{kinds:?}");
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
}

#[test]
fn explain_lists_the_operations() {
    davit_only!("a command of davit");
    let c = Container::new(&["sh"]).with(|c| {
        config::add_mount(c, "/data", "bind", "/etc", &["rbind", "ro", "nosuid"]);
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_ERRNO" }] });
        c["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] });
    });
    c.write();
    let text = c.call(&["explain", &c.path("bundle")]).done().ok();
    for word in [
        "mounts[7]",
        "\"/etc\"",
        "\"/data\"",
        "ro",
        "nosuid",
        "proc",
        "pivot",
        "seccomp",
        "hostname",
        "davit",
        "process.capabilities.bounding KILL",
        "/bin/true",
        "exec",
    ] {
        assert!(text.out.to_lowercase().contains(&word.to_lowercase()), "{word}: {}", text.out);
    }
    let json = c.call(&["explain", "--format", "json", &c.path("bundle")]).done().ok().json();
    assert!(json.is_object() || json.is_array());
    let again = c.call(&["explain", &c.path("bundle"), "--format=json"]).done().ok().json();
    assert_eq!(json, again, "the plan is the same each time");
    c.assert_nothing_left();
    assert!(!c.state_root().exists(), "it changes nothing");
    c.call(&["explain", "/nosuch"]).done().refuses(&["/nosuch"]);
    c.call(&["explain", "--format", "bogus", &c.path("bundle")]).done().refuses(&["bogus"]);
}

/// Each unknown field has a line of its own, whatever its name.
#[test]
fn explain_escapes_what_would_break_its_lines() {
    davit_only!("a command of davit");
    let c = Container::new(&["sh"]).with(|c| c["strange\nname"] = 1.into());
    c.write();
    let text = c.call(&["explain", &c.path("bundle")]).done().ok();
    let told = text.lines().iter().any(|line| line.starts_with("  strange\\nname"));
    assert!(told, "{text:?}");
}

#[test]
fn explain_needs_no_root() {
    skip_if!(skip::needs_davit("a command of davit"));
    // Neither a cgroup nor limits: those an unprivileged user could not have.
    let c = Container::new(&["sh"]).with(|c| {
        let linux = c["linux"].as_object_mut().expect("linux");
        linux.remove("cgroupsPath");
        linux.remove("resources");
        config::drop_mount(c, "/sys/fs/cgroup");
    });
    c.write();
    let run = if nix::unistd::geteuid().is_root() {
        skip_if!((!runtime_is_readable()).then_some("other users cannot reach the binary"));
        c.call_through(
            &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
            &["explain", &c.path("bundle")],
        )
        .done()
    } else {
        c.call(&["explain", &c.path("bundle")]).done()
    };
    assert!(run.ok().out.contains("mounts[0]"));
}

/// May any user execute the binary where it lies?
fn runtime_is_readable() -> bool {
    let test = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "test", "-x"])
        .arg(&runtime::runtime().path)
        .status();
    test.is_ok_and(|status| status.success())
}
