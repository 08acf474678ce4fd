//! create, start, state, kill, delete: the life of a container, and every step out of turn.

use std::fs;
use std::path::Path;
use std::time::Duration;

use integration::call::within;
use integration::leftovers::is_dead;
use integration::*;

#[test]
fn created_running_stopped_gone() {
    spec!();
    let c = Container::sh("echo ran > /proof; trap 'exit 0' TERM; while :; do sleep 0.05; done");
    c.create();
    assert_eq!(c.status(), "created");
    assert!(!c.rootfs().join("proof").exists(), "the user's program must not run before start");
    c.start();
    assert_eq!(c.status(), "running");
    assert!(
        within(Duration::from_secs(5), || c.rootfs().join("proof").exists().then_some(()))
            .is_some()
    );
    let pid = c.pid();
    c.kill("TERM").ok();
    c.until_status("stopped");
    assert!(is_dead(pid));
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
    c.call(&["state", &c.id]).done().refuses(&["does not exist"]);
}

#[test]
fn state_has_the_fields_of_the_spec() {
    spec!();
    let c = Container::sleeper()
        .with(|c| c["annotations"] = json!({ "org.example.key": "a \"value\" é" }));
    c.create();
    let state = c.state();
    assert_eq!(state["id"], c.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], c.bundle().to_str().expect("utf-8"));
    assert_eq!(state["annotations"]["org.example.key"], "a \"value\" é");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    let pid = state["pid"].as_i64().expect("pid");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert_ne!(host::namespace_of(pid, "mnt"), host::namespace("mnt"));
    let created = state["created"].as_str().expect("created");
    assert!(created.len() >= 20 && created.as_bytes()[10] == b'T', "RFC 3339: {created}");
}

#[test]
fn a_stopped_container_has_no_pid_of_a_stranger() {
    spec!();
    let c = Container::new(&["true"]);
    c.create().start();
    c.until_status("stopped");
    let pid = c.state()["pid"].as_i64().unwrap_or(0);
    assert!(pid == 0 || is_dead(pid), "pid {pid}");
}

#[test]
fn bundle_defaults_to_the_current_directory() {
    spec!();
    let c = Container::sh("echo here");
    c.write();
    let run = c.call(&["run", &c.id]).dir(c.bundle()).done().ok();
    assert_eq!(run.out, "here\n");
}

#[test]
fn a_relative_bundle_is_shown_absolute() {
    spec!();
    let c = Container::sleeper();
    c.write();
    c.call(&["create", "-b", "bundle", &c.id]).dir(c.dir()).done().ok();
    assert_eq!(c.state()["bundle"], c.bundle().to_str().expect("utf-8"));
}

#[test]
fn config_is_read_once() {
    spec!();
    let mut c = Container::sh("echo old");
    c.create();
    c.config["process"]["args"] = json!(["echo", "new"]);
    c.write();
    c.start();
    assert_eq!(c.until_output("\n"), "old\n");
}

#[test]
fn pid_file_holds_the_pid() {
    spec!();
    let c = Container::sleeper();
    c.create_call(&["--pid-file", &c.path("pid")]).done().ok();
    let text = fs::read_to_string(c.path("pid")).expect("pid file");
    assert_eq!(text.trim(), c.pid().to_string());
}

#[test]
fn pid_file_replaces_an_old_one() {
    spec!();
    let c = Container::sleeper();
    fs::write(c.path("pid"), "99999999999999999999").expect("write");
    c.create_call(&["--pid-file", &c.path("pid")]).done().ok();
    assert_eq!(fs::read_to_string(c.path("pid")).expect("pid file").trim(), c.pid().to_string());
}

#[test]
fn out_of_turn_is_refused_and_changes_nothing() {
    spec!();
    let c = Container::sleeper();
    let say = |command: &str| c.call(&[command, &c.id]).done();
    for command in ["start", "state", "kill", "delete"] {
        say(command).refuses(&["does not exist"]);
    }
    c.create();
    c.create_call(&[]).done().refuses(&["exist"]);
    assert_eq!(c.status(), "created");
    c.start();
    let pid = c.pid();
    say("start").refuses(&[]);
    say("delete").refuses(&[]);
    c.create_call(&[]).done().refuses(&["exist"]);
    c.run_call(&[]).done().refuses(&["exist"]);
    assert_eq!((c.status().as_str(), c.pid()), ("running", pid), "nothing of this did anything");
    c.kill("KILL").ok();
    c.until_status("stopped");
    say("start").refuses(&[]);
    c.kill("TERM").refuses(&["not running"]);
    c.exec(&["true"]).refuses(&[]);
    assert_eq!(c.status(), "stopped");
}

#[test]
fn delete_of_a_created_one() {
    // runc and crun kill it without --force; davit does as they do.
    spec!();
    let c = Container::sleeper();
    c.create();
    let pid = c.pid();
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
    assert!(within(Duration::from_secs(2), || is_dead(pid).then_some(())).is_some());
}

#[test]
fn delete_force_takes_a_running_one() {
    spec!();
    let c = Container::sh("trap '' TERM INT; while :; do sleep 0.05; done");
    c.create().start();
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn delete_force_of_an_unknown_one_is_fine() {
    spec!();
    let c = Container::new(&["true"]);
    c.delete().exits(0);
    c.call(&["delete", "-f", &c.id]).done().exits(0);
}

#[test]
fn an_id_can_be_used_again() {
    spec!();
    let c = Container::sh("echo once more");
    for _ in 0..3 {
        assert_eq!(c.run().ok().out, "once more\n");
    }
}

#[test]
fn ids() {
    spec!();
    let mut c = Container::new(&["echo", "ok"]);
    let long = "a".repeat(200);
    for id in ["a", "A.b_c-d+e", "0", "x..y", "-x", long.as_str()] {
        if id == "-x" && !runtime::runtime().is_davit() {
            continue;
        }
        id.clone_into(&mut c.id);
        c.write();
        let bundle = c.path("bundle");
        let run = c.call(&["run", "--bundle", &bundle, "--", id]).done();
        assert_eq!((run.code, run.out.as_str()), (0, "ok\n"), "{id}: {run:?}");
    }
    c.id = unique();
}

#[test]
fn two_starts_at_once_one_wins() {
    spec!();
    fails_with!("runc", "both may see the container as created: no lock");
    fails_with!("crun", "both may see the container as created: no lock");
    for _ in 0..10 {
        let c = Container::sh("echo started; while :; do sleep 0.05; done");
        c.create();
        let starts = [0, 1].map(|_| c.call(&["start", &c.id]).spawn());
        let codes = starts.map(|start| start.wait().code);
        assert!(codes.contains(&0) && codes.iter().any(|code| *code != 0), "one wins: {codes:?}");
        assert_eq!(c.until_output("started"), "started\n");
        assert_eq!(c.status(), "running");
    }
}

#[test]
fn a_start_that_was_killed_before_it_wrote_that_down() {
    davit_only!("the record of davit");
    let c = Container::sleeper();
    c.create();
    let record = c
        .path("state")
        .parse::<std::path::PathBuf>()
        .expect("path")
        .join(&c.id)
        .join("record.json");
    let created = fs::read(&record).expect("record");
    c.start();
    fs::write(&record, created).expect("record");
    assert_eq!(c.status(), "running");
    c.call(&["start", &c.id]).done().refuses(&["container is running already"]);
    c.call(&["delete", &c.id]).done().refuses(&["running"]);
    assert_eq!(c.ask("echo fine"), "fine\n");
}

#[test]
fn eight_creates_of_one_id_one_wins() {
    spec!();
    fails_with!("runc", "a loser may delete the state of the winner: no lock");
    let c = Container::sleeper();
    c.write();
    let bundle = c.path("bundle");
    let creates: Vec<_> =
        (0..8).map(|_| c.call(&["create", "--bundle", &bundle, &c.id]).spawn()).collect();
    let ends: Vec<_> = creates.into_iter().map(Running::wait).collect();
    assert_eq!(ends.iter().filter(|end| end.code == 0).count(), 1, "{ends:#?}");
    for end in ends.into_iter().filter(|end| end.code != 0) {
        end.refuses(&["exist"]);
    }
    assert_eq!(c.status(), "created");
    c.start();
    assert_eq!(c.ask("echo fine"), "fine\n");
}

#[test]
fn stdio_goes_to_the_container() {
    spec!();
    let c = Container::sh("cat; echo problem >&2; exit 3");
    let run = c.run_call(&[]).input("from outside\n").done().exits(3);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("from outside\n", "problem\n"));
}

#[test]
fn init_killed_before_start() {
    spec!();
    let c = Container::sleeper();
    c.create();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid()), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    c.until_status("stopped");
    c.call(&["start", &c.id]).done().refuses(&[]);
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}
