//! `podman exec`: one more process in a running container.

use integration::terminal::Screen;
use integration::*;

#[test]
fn options() {
    let p = podman!();
    p.sleeper("box", &["--env", "A=1", "--workdir", "/var", "--hostname", "box"]);
    for (options, script, out) in [
        (&[][..], "hostname; id -u; pwd; echo $A", "box\n0\n/var\n1\n"),
        (&["--user", "bob"], "id -u; id -g; echo $HOME", "1000\n1000\n/home/bob\n"),
        (&["--user", "7:8"], "id -u; id -g", "7\n8\n"),
        (&["--workdir", "/tmp"], "pwd", "/tmp\n"),
        (&["--env", "A=2", "--env", "B=3"], "echo $A $B", "2 3\n"),
        (&["--privileged"], "grep -c '^CapEff:\t0000000000000000' /proc/self/status || :", "0\n"),
    ] {
        let run = p.exec(options, "box", &["sh", "-c", script]).ok();
        assert_eq!(run.out, out, "{options:?}");
    }
}

/// It is confined as the container's first process is.
#[test]
fn as_confined_as_the_container() {
    let p = podman!();
    p.sleeper("box", &["--cap-drop", "all", "--cap-add", "chown", "--pids-limit", "50"]);
    let script = "grep -E '^(Cap(Prm|Eff|Bnd)|Seccomp|NoNewPrivs):' /proc/$1/status; \
                  for ns in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$ns; done; \
                  cat /proc/$1/cgroup";
    let of = |pid: &str| p.exec(&[], "box", &["sh", "-c", script, "sh", pid]).ok().out;
    assert_eq!(of("self"), of("1"));
    assert!(of("self").contains("CapEff:\t0000000000000001\n"), "{}", of("self"));
}

#[test]
fn exit_codes() {
    let p = podman!();
    p.sleeper("box", &[]);
    for (options, command, code, says) in [
        (&[][..], &["true"][..], 0, ""),
        (&[], &["sh", "-c", "exit 42"], 42, ""),
        (&[], &["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["--nosuch"], &["true"], 125, "unknown flag"),
        (&[], &["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        (&[], &["/etc"], 126, "exec: \"/etc\": is a directory: permission denied"),
        (&[], &["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&[], &["/no/such"], 127, "no such file or directory"),
    ] {
        let run = p.exec(options, "box", command);
        assert!(run.code == code && run.err.contains(says), "{code} {says:?}: {run:#?}");
    }
    p.exec(&[], "nosuch", &["true"]).exits(125);
    p.podman(&["kill", "box"]).ok();
    p.wait("box");
    let stopped = p.exec(&[], "box", &["true"]).fails();
    assert!(stopped.err.contains("container state improper"), "{stopped:?}");
    p.assert_nothing_left();
}

#[test]
fn stdin_and_both_outputs() {
    let p = podman!();
    p.sleeper("box", &[]);
    let call = p.call(&["exec", "--interactive", "box", "sh", "-c", "cat; echo err >&2"]);
    let run = call.input("one\ntwo\n").done().exits(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("one\ntwo\n", "err\n"));
}

#[test]
fn a_terminal() {
    let p = podman!();
    p.sleeper("box", &[]);
    let mut screen = Screen::new(99, 33);
    let script = "tty; stty size; read word; echo said $word; exit 6";
    let call = p.call(&["exec", "--interactive", "--tty", "box", "sh", "-c", script]);
    let run = call.stdio(&screen.slave()).spawn();
    let seen = screen.until("33 99");
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    screen.type_in("hello\n");
    screen.until("said hello");
    run.wait().exits(6);
}

#[test]
fn a_terminal_beside_the_containers_own() {
    let p = podman!();
    p.start("box", &["--tty"], &["sleep", "1000"]);
    let mut screen = Screen::new(80, 25);
    let call = p.call(&["exec", "--tty", "box", "tty"]).stdio(&screen.slave());
    call.done().exits(0);
    screen.until("/dev/pts/1");
}

#[test]
fn in_the_background() {
    let p = podman!();
    p.sleeper("box", &[]);
    let session = p.exec(&["--detach"], "box", &["sh", "-c", "echo done >/done"]).ok();
    assert_eq!(session.out.trim().len(), 64, "{session:?}");
    let done = call::within(call::DEADLINE, || {
        (p.exec(&[], "box", &["cat", "/done"]).out == "done\n").then_some(())
    });
    assert!(done.is_some());
}

/// Many processes in turn and at once, and nothing of them stays.
#[test]
fn many() {
    let p = podman!();
    p.sleeper("box", &[]);
    let runs: Vec<Running> = (0..8)
        .map(|n| p.call(&["exec", "box", "sh", "-c", &format!("echo {n}; exit {n}")]).spawn())
        .collect();
    for (n, run) in runs.into_iter().enumerate() {
        let run = run.wait().exits(n.try_into().expect("small"));
        assert_eq!(run.out, format!("{n}\n"));
    }
    let ids = p.inspect("box", "{{.ExecIDs}}");
    assert_eq!(ids, "[]");
}

/// A process that joins a container with a user namespace has no more rights than the container.
#[test]
fn into_a_user_namespace() {
    let p = podman!();
    let map = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"];
    p.sleeper("mapped", &map);
    let run = p.exec(&[], "mapped", &["sh", "-c", "id -u; cat /proc/self/uid_map"]).ok();
    let words: Vec<&str> = run.out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536"]);
    p.exec(&["--user", "bob"], "mapped", &["touch", "/tmp/bobs"]).ok();
    let owner = p.exec(&[], "mapped", &["stat", "-c", "%u:%g", "/tmp/bobs"]).ok().out;
    assert_eq!(owner, "1000:1000\n");
}
