//! A container's life under podman, and what one can do with it meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use integration::call::patient;
use integration::podman::IMAGE;
use integration::runtime::runtime;
use integration::terminal::Screen;
use integration::*;

#[test]
fn stop_is_term() {
    let p = podman!();
    let script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    p.start("polite", &[], &["sh", "-c", script]);
    ready(&p, "polite");
    p.podman(&["stop", "--time", "20", "polite"]).ok();
    assert_eq!(p.inspect("polite", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4");
    assert_eq!(p.podman(&["logs", "polite"]).ok().out, "ready\nbye\n");
    p.assert_nothing_left();
}

#[test]
fn stop_is_kill_for_who_does_not_listen() {
    let p = podman!();
    p.start("deaf", &[], &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    ready(&p, "deaf");
    let begin = Instant::now();
    let stop = p.podman(&["stop", "--time", "1", "deaf"]).exits(0);
    let took = begin.elapsed();
    assert!(stop.err.contains("SIGKILL"), "podman says so: {stop:?}");
    let (least, most) = (Duration::from_secs(1), patient(Duration::from_secs(8)));
    assert!((least..most).contains(&took), "{took:?}");
    assert_eq!(p.inspect("deaf", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    p.assert_nothing_left();
}

#[test]
fn another_stop_signal() {
    let p = podman!();
    let script = "trap 'exit 6' HUP; echo ready; while :; do sleep 0.05; done";
    p.start("hup", &["--stop-signal", "HUP"], &["sh", "-c", script]);
    ready(&p, "hup");
    p.podman(&["stop", "--time", "20", "hup"]).ok();
    assert_eq!(p.inspect("hup", "{{.State.ExitCode}}"), "6");
}

#[test]
fn kill() {
    let p = podman!();
    for (signal, code) in [("KILL", 137), ("9", 137), ("SIGTERM", 43), ("USR1", 44)] {
        let script = "trap 'exit 43' TERM; trap 'exit 44' USR1; echo ready; \
                      while :; do sleep 0.05; done";
        p.start("target", &[], &["sh", "-c", script]);
        ready(&p, "target");
        p.podman(&["kill", "--signal", signal, "target"]).ok();
        assert_eq!(p.wait("target"), code, "{signal}");
        let again = p.podman(&["kill", "target"]).fails();
        assert!(again.err.contains("can only kill running containers"), "{again:?}");
        p.podman(&["rm", "target"]).ok();
    }
    p.assert_nothing_left();
}

/// All processes of a container end with it, the ones that left its session too.
#[test]
fn nobody_survives() {
    let p = podman!();
    let script = "setsid sleep 1000 & (sleep 1000 &) ; echo ready; exec sleep 1000";
    p.start("many", &["--pid=host"], &["sh", "-c", script]);
    ready(&p, "many");
    p.podman(&["rm", "--force", "--time", "0", "many"]).ok();
    p.assert_nothing_left();
}

#[test]
fn restart() {
    let p = podman!();
    let script = "echo again >>/log; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    p.start("phoenix", &["--init"], &["sh", "-c", script]);
    let first = p.inspect("phoenix", "{{.State.Pid}}");
    p.podman(&["restart", "--time", "20", "phoenix"]).ok();
    let second = p.inspect("phoenix", "{{.State.Pid}} {{.State.Running}}");
    assert!(second.ends_with(" true") && !second.starts_with(&first), "{first} {second}");
    // Its files stay its own.
    let log = call::within(call::DEADLINE, || {
        let log = p.exec(&[], "phoenix", &["cat", "/log"]).out;
        (log.lines().count() == 2).then_some(log)
    });
    assert_eq!(log.as_deref(), Some("again\nagain\n"));
    p.podman(&["stop", "--time", "20", "phoenix"]).ok();
    p.podman(&["start", "phoenix"]).ok();
    assert_eq!(p.inspect("phoenix", "{{.State.Running}}"), "true");
}

#[test]
fn restart_policy() {
    let p = podman!();
    let script = "echo x >>/count; test $(wc -l </count) -lt 3 && exit 1; exit 0";
    p.start("again", &["--restart", "on-failure:5"], &["sh", "-c", script]);
    let done = call::within(call::DEADLINE, || {
        let said = p.inspect("again", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}");
        (said == "exited 0 2").then_some(())
    });
    assert!(done.is_some(), "{}", p.inspect("again", "{{json .State}} {{.RestartCount}}"));
}

#[test]
fn created_and_then_started() {
    let p = podman!();
    let parent = p.cgroup_parent();
    p.podman(&["create", "--name", "c", &parent, IMAGE, "echo", "hello"]).ok();
    assert_eq!(p.inspect("c", "{{.State.Status}} {{.State.Pid}}"), "created 0");
    assert_eq!(p.podman(&["start", "--attach", "c"]).ok().out, "hello\n");
    // `init` makes it as far as the runtime's create.
    p.podman(&["init", "c"]).ok();
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "initialized");
    assert_eq!(p.podman(&["start", "--attach", "c"]).ok().out, "hello\n");
    p.podman(&["init", "c"]).ok();
    p.podman(&["rm", "--force", "--time", "0", "c"]).ok();
    p.assert_nothing_left();
}

#[test]
fn logs() {
    let p = podman!();
    p.start("talker", &[], &["sh", "-c", "echo one; echo two >&2; sleep 0.1; echo three"]);
    assert_eq!(p.wait("talker"), 0);
    let logs = p.podman(&["logs", "talker"]).exits(0);
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("one\nthree\n", "two\n"));
    assert_eq!(p.podman(&["logs", "--tail", "1", "talker"]).ok().out, "three\n");
}

#[test]
fn top() {
    let p = podman!();
    p.sleeper("busy", &["--user", "bob"]);
    let top = p.podman(&["top", "busy", "user", "pid", "comm", "seccomp", "capeff"]).ok().out;
    let first = top.lines().nth(1).unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(words, ["bob", "1", "sh", "filter", "none"], "{top}");
}

#[test]
fn inspect() {
    let p = podman!();
    p.sleeper("seen", &["--hostname", "abc"]);
    let template = "{{.OCIRuntime}} {{.State.Running}} {{.State.Status}} {{.Config.Hostname}}";
    assert_eq!(p.inspect("seen", template), format!("{} true running abc", runtime().name));
    let pid = p.inspect("seen", "{{.State.Pid}}");
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let path = p.inspect("seen", "{{.State.CgroupPath}}");
    assert!(path.contains("/libpod-") && cgroup.contains(&path), "{path}: {cgroup}");
    p.podman(&["kill", "seen"]).ok();
    p.wait("seen");
    assert_eq!(p.inspect("seen", "{{.State.Pid}} {{.State.ExitCode}}"), "0 137");
}

#[test]
fn files_in_and_out() {
    let p = podman!();
    p.sleeper("box", &[]);
    fs::write(p.path("in"), "hello\n").expect("write");
    p.podman(&["cp", &p.path("in"), "box:/tmp/in"]).ok();
    assert_eq!(p.exec(&[], "box", &["cat", "/tmp/in"]).ok().out, "hello\n");
    p.exec(&[], "box", &["sh", "-c", "echo bye >/tmp/out"]).ok();
    p.podman(&["cp", "box:/tmp/out", &p.path("out")]).ok();
    assert_eq!(fs::read_to_string(p.path("out")).expect("copied"), "bye\n");
    let diff = p.podman(&["diff", "box"]).ok().out;
    assert!(diff.contains("A /tmp/in\n") && diff.contains("A /tmp/out\n"), "{diff}");
}

#[test]
fn an_image_from_a_container() {
    let p = podman!();
    p.run_call(&["--name", "maker"], &["sh", "-c", "echo made >/made"]).done().ok();
    let commit =
        p.podman(&["commit", "--quiet", "--change", "CMD [\"cat\",\"/made\"]", "maker", "made"]);
    commit.ok();
    let parent = p.cgroup_parent();
    assert_eq!(p.podman(&["run", "--rm", &parent, "localhost/made"]).ok().out, "made\n");
    let exported = p.podman(&["export", "--output", &p.path("root.tar"), "maker"]);
    exported.ok();
    assert!(fs::metadata(p.path("root.tar")).expect("exported").len() > 1 << 20);
}

#[test]
fn ps_and_info() {
    let p = podman!();
    p.sleeper("up", &[]);
    p.start("down", &[], &["sh", "-c", "exit 3"]);
    p.wait("down");
    let running = p.podman(&["ps", "--format", "{{.Names}} {{.Image}}"]).ok().out;
    assert_eq!(running, format!("up {IMAGE}:latest\n"));
    let all = p.podman(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]).ok().out;
    assert!(all.contains("up Up ") && all.contains("down Exited (3) "), "{all}");
    let info = p.podman(&["info", "--format", "{{json .Host.OCIRuntime}}"]).ok().json();
    assert_eq!(info["name"], runtime().name.as_str());
    assert_eq!(info["path"], runtime().path.to_str().expect("utf-8"));
    let version = info["version"].as_str().expect("a version");
    assert!(version.starts_with(&format!("{} version ", runtime().name)), "{info}");
    assert!(version.contains("spec: 1."), "{info}");
}

#[test]
fn health() {
    let p = podman!();
    let options = ["--health-cmd", "test -e /well", "--health-interval", "disable"];
    p.sleeper("patient", &options);
    let first = p.podman(&["healthcheck", "run", "patient"]);
    assert_eq!(first.code, 1, "{first:?}");
    p.exec(&[], "patient", &["touch", "/well"]).ok();
    p.podman(&["healthcheck", "run", "patient"]).exits(0);
}

#[test]
fn attach() {
    let p = podman!();
    let mut screen = Screen::new(80, 25);
    let options = ["--detach", "--interactive", "--tty", "--name", "shell"];
    p.run_call(&options, &["sh"]).stdio(&screen.slave()).done().exits(0);
    let call = p.call(&["attach", "shell"]).stdio(&screen.slave()).spawn();
    screen.type_in("echo $((40 + 2)); exit 8\n");
    screen.until("42");
    call.wait();
    assert_eq!(p.wait("shell"), 8);
}

/// Several at once do not get into each other's way.
#[test]
fn ten_at_once() {
    let p = podman!();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let script = |name: &str| format!("echo {name}; hostname");
    let runs: Vec<Running> = names
        .iter()
        .map(|name| {
            let script = script(name);
            p.run_call(&["--rm", "--hostname", name], &["sh", "-c", &script]).spawn()
        })
        .collect();
    for (run, name) in runs.into_iter().zip(&names) {
        assert_eq!(run.wait().ok().out, format!("{name}\n{name}\n"));
    }
    p.assert_nothing_left();
}

/// Waits until the container has said `ready`.
#[track_caller]
fn ready(p: &podman::Podman, name: &str) {
    let said = call::within(Duration::from_secs(20), || {
        p.podman(&["logs", name]).out.contains("ready").then_some(())
    });
    assert!(said.is_some(), "{name} is not ready: {:?}", p.podman(&["logs", name]));
}
