//! State that another version of davit wrote (docs/state.md): members that this one does not know,
//! formats that it does not know, and directories that were kept.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::config::shell_hook;
use integration::*;

/// A container whose poststop hook writes to the file `log/stopped`.
fn with_poststop() -> Container {
    let c = Container::sleeper().with_log();
    let hook = shell_hook(&format!("echo called >>{}", c.path("log/stopped")));
    c.with(|config| config["hooks"]["poststop"] = json!([hook]))
}

fn poststop_calls(c: &Container) -> usize {
    fs::read_to_string(c.path("log/stopped")).map_or(0, |text| text.lines().count())
}

fn record_path(c: &Container) -> PathBuf {
    c.state_root().join(&c.id).join("record.json")
}

fn record(c: &Container) -> Value {
    serde_json::from_slice(&fs::read(record_path(c)).expect("record")).expect("JSON")
}

/// Edits the record as another version would have written it.
fn rewrite(c: &Container, edit: impl FnOnce(&mut Value)) {
    let mut record = record(c);
    edit(&mut record);
    fs::write(record_path(c), record.to_string()).expect("write");
}

#[test]
fn members_of_a_later_version_are_ignored_and_stay() {
    davit_only!("files of davit");
    let c = with_poststop();
    c.create();
    rewrite(&c, |record| {
        record["newer"] = json!({ "any": ["thing"] });
        record["init"]["newer"] = json!(true);
    });
    assert_eq!(c.status(), "created");
    c.start();
    assert_eq!(c.status(), "running");
    assert_eq!(c.ask("echo $((6 * 7))"), "42\n");
    for command in ["pause", "resume", "ps"] {
        c.call(&[command, &c.id]).done().ok();
    }
    c.kill("TERM").ok();
    c.until_status("stopped");
    assert_eq!(record(&c)["newer"], json!({ "any": ["thing"] }));
    c.call(&["delete", &c.id]).done().ok();
    assert_eq!(poststop_calls(&c), 1);
    c.assert_nothing_left();
}

/// `start` removes the FIFOs, and leaves the record as it is.
#[test]
fn only_the_command_that_makes_the_container_writes_its_record() {
    davit_only!("files of davit");
    let c = Container::sleeper();
    c.create();
    let before = fs::read(record_path(&c)).expect("record");
    c.start();
    c.call(&["update", "--pids-limit", "50", &c.id]).done().ok();
    assert_eq!(fs::read(record_path(&c)).expect("record"), before);
    assert_eq!(c.status(), "running");
    let list = c.call(&["list", "--format", "json"]).done().ok().json();
    assert_eq!(list[0]["status"], "running");
    c.call(&["start", &c.id]).done().refuses(&["container is running already"]);
}

#[test]
fn an_unknown_format_is_refused_by_name_and_can_still_be_deleted() {
    davit_only!("files of davit");
    let c = with_poststop();
    c.create().start();
    rewrite(&c, |record| {
        record["format"] = 4.into();
        record["davit"] = "0.9.0".into();
        record["stage"] = json!({ "of": "another kind" });
    });
    let pid = record(&c)["init"]["pid"].to_string();
    let before = fs::read(record_path(&c)).expect("record");
    let refused = ["written by davit 0.9.0, format 4; this is davit ", ", format 1"];
    for words in [
        &["state", &c.id][..],
        &["start", &c.id],
        &["kill", &c.id, "KILL"],
        &["exec", &c.id, "true"],
        &["ps", &c.id],
        &["pause", &c.id],
        &["resume", &c.id],
        &["events", "--stats", &c.id],
        &["update", "--pids-limit", "5", &c.id],
        &["delete", &c.id],
    ] {
        c.call(words).done().refuses(&refused);
    }
    let list = c.call(&["list"]).done().ok().out;
    assert!(list.contains("unknown format (record.json: written by davit 0.9.0"), "{list}");
    assert!(list.contains("delete --force of this one ends the container too"), "{list}");
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "", "it runs");
    assert_eq!(fs::read(record_path(&c)).expect("record"), before);
    assert!(Path::new("/proc").join(&pid).exists());
    assert_eq!(poststop_calls(&c), 0);
    c.delete().warns(&["unknown format (record.json: written by davit 0.9.0", "1 poststop hooks"]);
    assert_eq!(poststop_calls(&c), 1);
    c.assert_nothing_left();
}

/// Its record has other members, so that the links lead to its processes.
#[test]
fn a_container_of_davit_0_1_is_ended() {
    davit_only!("files of davit");
    let c = with_poststop();
    c.create().start();
    rewrite(&c, |record| {
        let members = record.as_object_mut().expect("object");
        members.retain(|name, _| !["format", "davit", "cgroup", "init"].contains(&name.as_str()));
        members.insert("version".to_owned(), 1.into());
    });
    c.call(&["state", &c.id]).done().refuses(&["written by a davit before 0.2, without a format"]);
    c.delete().warns(&["written by a davit before 0.2"]);
    c.assert_nothing_left();
}

/// Parts that a later version adds.
#[test]
fn unknown_parts_of_the_plan_are_ignored() {
    davit_only!("files of davit");
    let c = Container::sleeper();
    c.create().start();
    let path = c.state_root().join(&c.id).join("plan");
    let mut parts = plan_parts::read(&path);
    parts.insert(1, ("newer".to_owned(), b"anything".to_vec()));
    plan_parts::write(&path, &parts);
    assert_eq!(c.ask("echo in"), "in\n");
}

#[test]
fn kept_directories_are_listed_and_deleted() {
    davit_only!("files of davit");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/state");
    skip_if!((!kept.is_dir()).then_some("needs the source tree"));
    let c = Container::new(&["true"]);
    for format in fs::read_dir(&kept).expect("kept").filter_map(Result::ok) {
        if !format.path().is_dir() {
            continue;
        }
        let root = c.state_root();
        let copy = Command::new("cp").arg("-RP").arg(format.path()).arg(&root).status();
        assert!(copy.expect("cp").success());
        let chmod = Command::new("chmod").args(["-R", "go=,u+rwX"]).arg(&root).status();
        assert!(chmod.expect("chmod").success());
        let list = c.call(&["list", "--format", "json"]).done().ok().json();
        let states = list.as_array().expect("array");
        assert_eq!(states.len(), fs::read_dir(format.path()).expect("kept").count());
        for state in states {
            assert_eq!(state["status"], "stopped", "{state}");
            assert_eq!(state["bundle"], "/tmp/kept/bundle");
            let id = state["id"].as_str().expect("id");
            c.call(&["exec", id, "true"]).done().refuses(&["container not running"]);
        }
        for state in states {
            c.call(&["delete", state["id"].as_str().expect("id")]).done().warns(&[]);
        }
        fs::remove_dir(&root).expect("nothing is left in it");
    }
}

/// A stopped container without a cgroup, as after the end of a systemd scope.
fn without_cgroup(c: &Container) {
    c.create().start();
    c.kill("KILL").ok();
    c.until_status("stopped");
    for member in record(c)["cgroup"]["members"].as_array().expect("members") {
        let _ = fs::remove_dir(member["directory"].as_str().expect("path"));
    }
}

#[test]
fn gc_removes_what_has_no_process_and_no_cgroup() {
    davit_only!("davit alone has gc");
    skip_if!(skip::needs_root());
    let c = with_poststop();
    assert_eq!(c.call(&["gc"]).done().ok().out, "");
    without_cgroup(&c);
    let expected = format!("{}: stopped, and its cgroup is gone\n", c.id);
    assert_eq!(c.call(&["gc"]).done().ok().out, expected, "and does nothing");
    assert_eq!(c.call(&["gc"]).done().ok().out, expected);
    assert_eq!(poststop_calls(&c), 0);
    let deleted = format!("{}: deleted (stopped, and its cgroup is gone)\n", c.id);
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, deleted);
    assert_eq!(poststop_calls(&c), 1);
    c.assert_nothing_left();
}

#[test]
fn gc_leaves_what_runs_waits_or_is_being_made() {
    davit_only!("davit alone has gc");
    let c = Container::sleeper();
    c.create();
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "");
    c.start();
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "");
    // A damaged record: init and cgroup are found by the links.
    fs::write(record_path(&c), "{").expect("write");
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "");
    let list = c.call(&["list"]).done().ok().out;
    assert!(list.contains("damaged (record.json: "), "{list}");
    assert!(
        list.contains(&format!("davit delete --force {} removes what is left", c.id)),
        "{list}"
    );
    c.delete().warns(&["record was damaged"]);
    c.assert_nothing_left();
    // A directory whose command is at work holds the lock.
    let made = c.state_root().join("made");
    fs::create_dir(&made).expect("mkdir");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o700)).expect("chmod");
    let lock = fs::File::open(&made).expect("open");
    lock.lock().expect("lock");
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "");
    drop(lock);
    assert_eq!(c.call(&["gc", "--yes"]).done().ok().out, "", "it may not be locked yet");
    Call::new(&["touch", "-d", "1 minute ago", &c.path("state/made")].map(str::to_owned), c.dir())
        .done()
        .ok();
    let out = c.call(&["gc", "--yes"]).done().ok().out;
    assert!(out.starts_with("made: deleted (damaged: record.json: "), "{out}");
    assert!(!made.exists());
}

/// A `start` that speaks other messages gets an answer, not silence.
#[test]
fn init_answers_a_start_of_an_unknown_version() {
    davit_only!("files of davit");
    let c = Container::sleeper();
    c.create();
    let directory = c.state_root().join(&c.id);
    let mut answers = fs::File::open(directory.join("answer.fifo")).expect("open");
    fs::write(directory.join("start.fifo"), b"\x02\x0a").expect("write");
    // A read returns one packet.
    let mut answer = vec![0; 4096];
    let length = answers.read(&mut answer).expect("an answer");
    answer.truncate(length);
    assert_eq!(answer[0], 1, "{answer:?}");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("wait for start: read: protocol error"), "{text:?}");
    c.until_status("stopped");
}
