//! Warnings: printed where they do not disturb engines (D1).

use std::fs;

use integration::*;

/// A config.json with a typo at each depth, and an unknown capability.
fn typos(c: &mut Value) {
    c["proces"] = json!({});
    c["linux"]["resources"]["memry"] = json!({ "limit": 1 });
    c["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_NOSUCH"]);
}

const TYPOS: [&str; 3] = [
    "proces: unknown field, ignored (did you mean \"process\"?)",
    "linux.resources.memry: unknown field, ignored (did you mean \"memory\"?)",
    "process.capabilities.bounding: unknown capability \"CAP_NOSUCH\"",
];

/// What podman does with a log: the whole file is one JSON object (libpod, readConmonPipeData).
fn as_podman(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// What containerd does with a log: a stream of objects, of which the last with level "error"
/// counts (go-runc).
fn as_containerd(text: &str) -> Option<String> {
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let entries = stream.map(|entry| entry.expect("JSON"));
    let errors = entries.filter(|entry| entry["level"] == "error");
    errors.last().map(|entry| entry["msg"].as_str().expect("msg").to_owned())
}

#[test]
fn they_are_on_standard_error_without_a_log() {
    davit_only!("other runtimes say nothing of unknown fields");
    let c = Container::sh("echo out; echo err >&2").with(typos);
    let run = c.run().exits(0);
    assert_eq!(run.out, "out\n");
    let mut lines: Vec<&str> = run.err.lines().collect();
    lines.retain(|line| *line != "err");
    for (line, typo) in lines.iter().zip(["linux.resources.memry", "proces", "process.capabil"]) {
        assert!(line.starts_with("davit: warning: "), "{run:#?}");
        assert!(TYPOS.iter().any(|text| line.ends_with(text)), "{typo}: {run:#?}");
    }
    assert_eq!(lines.len(), TYPOS.len(), "{run:#?}");
    // No other warning is printed.
    let c = c.global(&["--log-level", "error"]);
    assert_eq!(c.run().exits(0).err, "err\n");
}

#[test]
fn create_exec_and_update_have_them_too() {
    davit_only!("other runtimes say nothing of unknown fields");
    let c = Container::sleeper().with(typos);
    c.create_call(&[]).done().warns(&TYPOS);
    c.start();
    let process = c.path("process.json");
    let text = json!({
        "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0, "umsk": 7 }, "envv": [],
        "capabilities": { "bounding": ["CAP_NOSUCH"] }
    });
    fs::write(&process, text.to_string()).expect("write");
    let said = ["user.umsk", "(did you mean \"umask\"?)", "envv", "\"env\"", "CAP_NOSUCH"];
    c.call(&["exec", "--process", &process, &c.id]).done().warns(&said);
    let resources = json!({ "memry": { "limit": 1 }, "pids": { "limt": 5 } }).to_string();
    let update = c.call(&["update", "-r", "-", &c.id]).input(&resources).done();
    update.warns(&["memry: unknown field", "\"memory\"", "pids.limt: unknown field", "\"limit\""]);
}

/// The specification wants both logged (config.md, "Linux Process"; runtime.md, "Lifecycle", step
/// 13).
#[test]
fn what_the_specification_wants_logged_is_logged() {
    davit_only!("the other runtimes' words differ");
    // There is no capability that a container of root's cannot have, but for those that the caller
    // has dropped.
    let c = Container::new(&["true"]).by(&[
        "setpriv",
        "--bounding-set",
        "-sys_time",
        "--inh-caps",
        "-sys_time",
    ]);
    let c = c.with(|c| config::set_capabilities(c, &["CAP_SYS_TIME"]));
    let run = c.run();
    run.warns(&["process.capabilities: SYS_TIME cannot be granted here"]);
    let c = Container::new(&["true"]).with(|c| {
        c["hooks"]["poststop"] = json!([{ "path": "/bin/false" }]);
    });
    c.create().start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().warns(&["hooks.poststop[0]", "/bin/false"]);
    c.run().warns(&["hooks.poststop[0]"]);
}

#[test]
fn a_failure_is_one_object_with_them_in_it() {
    davit_only!("other runtimes write none");
    let c = Container::new(&["/nosuch"]).with(typos);
    let log = c.path("log.json");
    let c = c.global(&["--log", &log, "--log-format", "json"]);
    for (command, options) in [("create", &[][..]), ("run", &[]), ("run", &["--detach"])] {
        let _ = fs::remove_file(&log);
        let failed = c.through_with_bundle(&[], command, options).done().fails();
        // Standard error has the error alone: engines show it to people.
        assert!(!failed.err.contains("warning"), "{failed:#?}");
        let text = fs::read_to_string(&log).expect("log");
        let object = as_podman(&text);
        assert_eq!(object["level"], "error", "{text}");
        let warnings: Vec<&str> = object["warnings"]
            .as_array()
            .expect("warnings")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for typo in TYPOS {
            assert!(warnings.contains(&typo), "{command}: {warnings:#?}");
        }
        assert!(as_containerd(&text).is_some_and(|msg| msg.contains("nosuch")), "{text}");
        c.assert_nothing_left();
    }
}

#[test]
fn a_failure_without_a_log_is_told_before_them() {
    davit_only!("other runtimes write none");
    let c = Container::new(&["/nosuch"]).with(typos);
    let failed = c.create_call(&[]).done().fails();
    let lines: Vec<&str> = failed.err.lines().collect();
    assert!(lines[0].starts_with("davit: create "), "{failed:#?}");
    let (error, warnings) = lines.split_at(lines.len() - TYPOS.len());
    assert!(!error.iter().any(|line| line.contains("warning")), "{failed:#?}");
    assert!(warnings.iter().all(|line| line.starts_with("davit: warning: ")), "{failed:#?}");
}

#[test]
fn success_is_an_object_each() {
    davit_only!("other runtimes write none");
    for format in ["json", "text"] {
        let c = Container::sh("true").with(typos);
        let log = c.path("log");
        let c = c.global(&["--log", &log, "--log-format", format]);
        c.run().ok();
        let text = fs::read_to_string(&log).expect("log");
        assert_eq!(text.lines().count(), TYPOS.len(), "{text}");
        for (index, line) in text.lines().enumerate() {
            match format {
                "json" => {
                    let entry: Value = serde_json::from_str(line).expect("JSON");
                    assert_eq!(entry["level"], "warning");
                    assert!(
                        TYPOS.contains(&entry["msg"].as_str().expect("msg")),
                        "{index}: {line}"
                    );
                }
                _ => assert!(line.contains(" level=warning msg=\""), "{line}"),
            }
        }
        assert_eq!(as_containerd(if format == "json" { &text } else { "" }), None);
    }
}

/// containerd reads both streams of `ps` as one, CRI-O those of `features`: not a byte may be
/// added.
#[test]
fn commands_that_only_ask_have_none() {
    davit_only!("other runtimes write none");
    let c = Container::sleeper().with(typos);
    c.create_call(&[]).done().warns(&TYPOS);
    c.start();
    for words in [
        &["ps", "--format", "json", &c.id][..],
        &["state", &c.id],
        &["list"],
        &["features"],
        &["--version"],
        &["events", "--stats", &c.id],
        &["kill", &c.id, "CONT"],
    ] {
        c.call(words).done().ok();
    }
}

#[test]
fn a_flood_of_unknown_fields_is_cut_short() {
    davit_only!("other runtimes say nothing of unknown fields");
    let c = Container::new(&["true"]).with(|c| {
        for number in 0..1000 {
            c["linux"][format!("{}{number}", "x".repeat(1000))] = number.into();
        }
    });
    let run = c.run().warns(&["more unknown fields"]);
    assert!(run.err.lines().count() < 20 && run.err.len() < 5000, "{}", run.err.len());
}
