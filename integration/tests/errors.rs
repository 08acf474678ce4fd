//! Errors as a product: the words that engines match, on stderr and as exactly one JSON object in
//! `--log`.

use std::fs;

use integration::*;

/// The objects in a log.
fn objects(text: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    stream.map(|object| object.expect("JSON")).collect()
}

fn rfc3339(time: &str) -> bool {
    let b = time.as_bytes();
    b.len() >= 20
        && b[4] == b'-'
        && b[10] == b'T'
        && b[13] == b':'
        && (time.ends_with('Z') || b[b.len() - 6] == b'+' || b[b.len() - 6] == b'-')
}

/// Runs a failing command with a JSON log and returns what was said where.
fn fail(c: &Container, args: &[&str]) -> (Outcome, Vec<Value>) {
    let file = c.path("log.json");
    let _ = fs::remove_file(&file);
    let mut all = vec!["--log", &file, "--log-format=json"];
    all.extend(args);
    let run = c.call(&all).done();
    (run, objects(&fs::read_to_string(&file).unwrap_or_default()))
}

#[test]
fn the_log_says_what_stderr_says() {
    davit_only!("the other runtimes' texts differ in details");
    let c = Container::new(&["nosuch"]);
    c.write();
    let bundle = c.path("bundle");
    for args in [
        vec!["run", "--bundle", &bundle, &c.id],
        vec!["create", "--bundle", "/nosuch", &c.id],
        vec!["start", "nosuch"],
        vec!["kill", "nosuch", "9"],
        vec!["exec", "nosuch", "true"],
        vec!["delete", "nosuch"],
        vec!["create", "--bundle", "/", "id"],
        vec!["create", "bad/id"],
        vec!["nosuchcommand"],
        vec!["state", "--nosuchflag", "x"],
        vec!["state"],
    ] {
        let (run, logged) = fail(&c, &args);
        let run = run.refuses(&[]);
        assert_eq!(logged.len(), 1, "{args:?}: {logged:?}");
        assert_eq!(logged[0]["level"], "error");
        assert!(rfc3339(logged[0]["time"].as_str().expect("time")), "{logged:?}");
        let msg = logged[0]["msg"].as_str().expect("msg");
        let line = run.err.lines().next().expect("a line");
        assert!(
            line.contains(msg) || msg.contains(line.trim_start_matches("davit: ")),
            "{msg:?} {line:?}"
        );
        assert_eq!(
            logged[0].as_object().expect("object").len(),
            3,
            "level, msg and time: {logged:?}"
        );
    }
}

#[test]
fn nothing_is_logged_on_success() {
    spec!();
    let c = Container::sh("exit 3");
    let file = c.path("log.json");
    let c = c.global(&["--log", &file, "--log-format", "json"]);
    c.create().start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "");
}

#[test]
fn a_log_is_appended_to() {
    spec!();
    let c = Container::new(&["true"]);
    let file = c.path("log.json");
    for _ in 0..2 {
        c.call(&["--log", &file, "--log-format", "json", "state", "nosuch"]).done().refuses(&[]);
    }
    let logged = objects(&fs::read_to_string(&file).expect("log"));
    let errors = logged.iter().filter(|object| object["level"] == "error").count();
    assert_eq!(errors, 2);
}

#[test]
fn a_text_log() {
    davit_only!("each has a format of its own");
    let c = Container::new(&["true"]);
    let file = c.path("log.txt");
    c.call(&["--log", &file, "state", "nosuch"]).done().refuses(&[]);
    let text = fs::read_to_string(&file).expect("log");
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.contains("container does not exist"), "{text:?}");
    c.call(&["--log", &file, "--log-format", "bogus", "state", "x"])
        .done()
        .refuses(&["log-format", "bogus"]);
}

#[test]
fn a_log_that_cannot_be_opened_does_not_hide_the_error() {
    davit_only!("runc says the log's error alone");
    let c = Container::new(&["true"]);
    let run = c
        .call(&["--log", "/no/such/dir/log", "--log-format", "json", "state", "nosuch"])
        .done()
        .fails();
    assert!(
        run.err.contains("container does not exist") || run.err.contains("/no/such/dir/log"),
        "{run:?}"
    );
}

/// The texts by which engines know what happened: docker, containerd and CRI-O match them
/// case-sensitively.
#[test]
fn texts_that_engines_match() {
    davit_only!("davit's texts follow runc's, with another nesting");
    let c = Container::sleeper();
    c.create().start();
    let missing = c.exec(&["nosuch"]);
    assert!(
        missing.err.contains("exec: \"nosuch\": executable file not found in $PATH"),
        "{missing:?}"
    );
    assert!(!missing.err.contains("no such file"), "{missing:?}");
    let denied = c.exec(&["/etc/passwd"]);
    assert!(denied.err.contains("exec: \"/etc/passwd\": permission denied"), "{denied:?}");
    let directory = c.exec(&["/etc"]);
    // docker knows the first, podman the second.
    let says = "exec: \"/etc\": is a directory: permission denied";
    assert!(directory.err.contains(says), "{directory:?}");
    for not in ["no such file", "not permitted"] {
        assert!(!directory.err.contains(not), "{directory:?}");
    }
    let unknown = c.call(&["state", "nosuch"]).done();
    assert!(unknown.err.contains("container does not exist"), "{unknown:?}");
    for command in [
        vec!["start", "nosuch"],
        vec!["delete", "nosuch"],
        vec!["kill", "nosuch"],
        vec!["exec", "nosuch", "x"],
    ] {
        let run = c.call(&command).done();
        assert!(run.err.contains("container does not exist"), "{run:?}");
    }
    c.kill("KILL").ok();
    c.until_status("stopped");
    let stopped = c.kill("TERM");
    assert!(stopped.err.contains("container not running"), "{stopped:?}");
    let exec = c.exec(&["true"]);
    assert!(exec.err.contains("container not running"), "{exec:?}");
}

/// podman takes 'no such file or directory' for 127 and 'permission denied' for 126, wherever they
/// stand.
#[test]
fn other_errors_do_not_look_like_a_missing_executable() {
    davit_only!("its own messages");
    let rows: &[fn(&mut Value)] = &[
        |c| c["process"]["args"] = json!([]),
        |c| c["process"]["cwd"] = "relative".into(),
        |c| c["linux"]["namespaces"] = json!([{ "type": "bogus" }]),
        |c| c["ociVersion"] = "7.0".into(),
        |c| config::add_mount(c, "/mnt", "nosuchfs", "x", &[]),
        |c| config::add_mount(c, "/mnt", "tmpfs", "x", &["nosuchoption"]),
    ];
    for edit in rows {
        let run = Container::new(&["true"]).with(edit).run().refuses(&[]);
        for word in [
            "no such file",
            "executable file not found",
            "open executable",
            "permission denied",
            "operation not permitted",
        ] {
            assert!(!run.err.to_lowercase().contains(word), "{run:?}");
        }
    }
}

#[test]
fn a_mount_error_says_everything() {
    davit_only!("its own messages");
    let c = Container::new(&["true"])
        .with(|c| config::add_mount(c, "/data", "bind", "/srv/no/such", &["bind"]));
    let run = c.run().refuses(&[]);
    for part in ["mounts[7]", "\"/srv/no/such\"", "\"/data\"", "no such file or directory"] {
        assert!(run.err.contains(part), "{part}: {run:?}");
    }
    assert!(run.err.starts_with("davit: "), "{run:?}");
}

#[test]
fn errors_are_one_line_even_when_names_are_not() {
    davit_only!("its own messages");
    let c = Container::new(&["true"]);
    c.call(&["state", "a\nb\u{1b}[31m"]).done().refuses(&[]);
    c.call(&["--no\nsuch", "x"]).done().refuses(&[]);
    let mount = Container::new(&["true"])
        .with(|c| config::add_mount(c, "/m\nnt", "bind", "/no\n/such", &["bind"]));
    let run = mount.run().refuses(&["mounts[7]"]);
    assert!(!run.err.contains('\u{1b}'));
}

/// The binary has no unwinding tables: an error that collected a backtrace would end in abort(3).
#[test]
fn a_request_for_backtraces_changes_no_error() {
    davit_only!("the errors of davit's own");
    let c = Container::new(&["true"]);
    let davit = runtime::runtime().path.to_str().expect("utf-8").to_owned();
    for (value, word, code) in [("1", "--nosuch", 1), ("full", "nosuch", 1), ("full", "-v", 0)] {
        let call = c.host(&[&davit, word]).env("RUST_BACKTRACE", value);
        let run = call.done().exits(code);
        assert!(run.err.lines().count() <= 2 && !run.err.contains("stack backtrace"), "{run:?}");
    }
}
