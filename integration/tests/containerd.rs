//! The runtime under containerd, called through `ctr`: what its shim says to a runtime, and what it
//! reads back.

use integration::terminal::Screen;
use integration::*;

#[test]
fn runs() {
    let d = containerd!();
    let run = d.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    let missing = d.run(&[], &["nosuch"]);
    missing.says(&[
        "OCI runtime create failed: ",
        "exec: \"nosuch\": executable file not found in $PATH",
    ]);
    d.assert_nothing_left();
}

#[test]
fn life() {
    let d = containerd!();
    d.sleeper("box", &[]);
    let running = d.task("box");
    assert!(running.ends_with(" RUNNING"), "{running}");
    let pid = running.split(' ').next().expect("a pid");
    assert_eq!(d.exec(&[], "box", &["sh", "-c", "echo in; exit 4"]).exits(4).out, "in\n");
    let processes = d.ctr(&["task", "ps", "box"]).ok().out;
    let pids: Vec<&str> =
        processes.lines().skip(1).map(|line| line.split(' ').next().expect("a pid")).collect();
    assert!(pids.contains(&pid), "{pid}: {processes}");

    d.ctr(&["task", "pause", "box"]).ok();
    assert_eq!(d.task("box"), format!("{pid} PAUSED"));
    d.exec(&[], "box", &["true"]).fails();
    d.ctr(&["task", "resume", "box"]).ok();
    assert_eq!(d.task("box"), running);

    d.ctr(&["task", "kill", "--signal", "TERM", "box"]).ok();
    stopped(&d, "box");
    let again = d.ctr(&["task", "kill", "box"]);
    assert!(again.code != 0 && again.err.contains("not found"), "{again:?}");
    let deleted = d.ctr(&["task", "delete", "box"]).exits(0);
    assert!(deleted.err.contains("exit code 3"), "{deleted:?}");
    d.ctr(&["container", "delete", "box"]).ok();
    d.assert_nothing_left();
}

#[test]
fn removed_by_force() {
    let d = containerd!();
    // Two sleepers, one of them paused, and none of them willing to end.
    for name in ["stubborn", "paused"] {
        let script = "trap '' TERM; sleep 1000 & while :; do sleep 0.05; done";
        d.run_call(&["--detach"], name, &["sh", "-c", script]).done().ok();
    }
    d.ctr(&["task", "pause", "paused"]).ok();
    d.ctr(&["task", "kill", "--all", "--signal", "KILL", "stubborn"]).ok();
    stopped(&d, "stubborn");
    for name in ["stubborn", "paused"] {
        d.remove(name);
    }
    d.assert_nothing_left();
}

#[test]
fn metrics() {
    let d = containerd!();
    d.sleeper("box", &["--memory-limit", "67108864"]);
    let metrics = d.ctr(&["task", "metrics", "--format", "json", "box"]).ok().json();
    let memory = &metrics["memory"];
    let limit =
        if host::has_pure_cgroup_v2() { &memory["usage_limit"] } else { &memory["usage"]["limit"] };
    assert_eq!(*limit, 67_108_864, "{metrics}");
    assert!(metrics["pids"]["current"].as_u64() > Some(0), "{metrics}");
}

#[test]
fn options() {
    let d = containerd!();
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:ro", d.place.path("io"));
    for (options, script, expected) in [
        (&["--cwd", "/home/bob", "--env", "A=b"][..], "pwd; echo $A", "/home/bob\nb\n"),
        (&["--read-only"], "{ echo >/f; } 2>&1 | grep -o 'Read-only.*'", "Read-only file system\n"),
        (
            &["--mount", &mount],
            "touch /mnt/x 2>&1 | grep -o 'Read-only.*'",
            "Read-only file system\n",
        ),
        (&["--seccomp"], "grep 'Seccomp:' /proc/self/status | tr -d '\\t'", "Seccomp:2\n"),
        (&[], "grep NoNewPrivs /proc/self/status | tr -d '\\t'", "NoNewPrivs:1\n"),
        (
            &["--allow-new-privs"],
            "grep NoNewPrivs /proc/self/status | tr -d '\\t'",
            "NoNewPrivs:0\n",
        ),
        (
            &["--cap-drop", "CAP_CHOWN"],
            "chown 1 /tmp 2>&1 | grep -o 'not permitted'",
            "not permitted\n",
        ),
        (&["--privileged"], "mount -t tmpfs none /mnt && stat -f -c %T /mnt", "tmpfs\n"),
        (&["--device", "/dev/full"], "echo >/dev/full 2>/dev/null || echo full", "full\n"),
        (&["--no-pivot"], "ls -d /etc", "/etc\n"),
    ] {
        assert_eq!(d.sh(options, script), expected, "{options:?}");
    }
    let host = d.sh(&["--net-host"], "readlink /proc/self/ns/net");
    assert_eq!(host.trim(), host::namespace("net"));
    d.assert_nothing_left();
}

/// The namespaces of a container that runs, as in a pod.
#[test]
fn joined_namespaces() {
    let d = containerd!();
    d.sleeper("one", &[]);
    let pid = d.task("one").split(' ').next().expect("a pid").to_owned();
    let joined = ["ipc", "network", "uts"].map(|kind| {
        let file = if kind == "network" { "net" } else { kind };
        format!("{kind}:/proc/{pid}/ns/{file}")
    });
    let options: Vec<&str> = joined.iter().flat_map(|with| ["--with-ns", with]).collect();
    let seen = d.sh(&options, "for n in ipc net uts; do readlink /proc/self/ns/$n; done");
    let expected = ["ipc", "net", "uts"].map(|kind| host::namespace_of(&pid, kind));
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn user_namespace() {
    let d = containerd!();
    let maps = ["--uidmap", "0:500000:65536", "--gidmap", "0:500000:65536"];
    let seen = d.sh(&maps, "id -u; tr -s ' ' </proc/self/uid_map; touch /new && stat -c %u /new");
    assert_eq!(seen, "0\n 0 500000 65536\n0\n");
    d.assert_nothing_left();
}

#[test]
fn a_terminal() {
    let d = containerd!();
    let mut screen = Screen::new(77, 22);
    let run = d.run_call(&["--rm", "--tty"], "once", &["sh"]).stdio(&screen.slave()).spawn();
    screen.until("# ");
    screen.type_in("tty; exit $((4 + 4))\n");
    screen.until("/dev/pts/0");
    run.wait().exits(8);

    d.sleeper("box", &[]);
    let run = d.exec_call(&["--tty"], "box", &["sh"]).stdio(&screen.slave()).spawn();
    screen.until("# ");
    // ctr tells the size when the shell runs already.
    screen.type_in("until stty size 2>/dev/null | grep '22 7[7]'; do :; done; exit 9\n");
    screen.until("22 77");
    run.wait().exits(9);
}

#[test]
fn survives_the_daemon() {
    let mut d = containerd!();
    d.sleeper("box", &[]);
    let task = d.task("box");
    d.stop_daemon();
    d.start_daemon();
    assert_eq!(d.task("box"), task);
    d.exec(&[], "box", &["true"]).ok();
    d.ctr(&["task", "kill", "box"]).ok();
    stopped(&d, "box");
}

#[test]
fn ten_at_once() {
    let d = containerd!();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let start = |name: &String| d.run_call(&["--rm"], name, &["echo", name]).spawn();
    let runs: Vec<Running> = names.iter().map(start).collect();
    for (run, name) in runs.into_iter().zip(&names) {
        assert_eq!(run.wait().ok().out, format!("{name}\n"));
    }
    d.assert_nothing_left();
}

/// Waits until containerd knows that the container's process has ended.
#[track_caller]
fn stopped(d: &containerd::Containerd, name: &str) {
    let ended = call::within(call::DEADLINE, || d.task(name).ends_with(" STOPPED").then_some(()));
    assert!(ended.is_some(), "{name} still runs: {}", d.task(name));
}
