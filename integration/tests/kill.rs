//! `kill`: signals by name and number, to one process and to all.

use integration::*;

fn trapper() -> Container {
    let script = "for s in HUP INT QUIT USR1 USR2 TERM WINCH CONT; do trap \"echo got $s\" $s; done; \
                  trap 'echo got 34' 34; echo ready; while :; do sleep 0.05; done";
    let c = Container::sh(script);
    c.create().start();
    c.until_output("ready\n");
    c
}

#[test]
fn names_and_numbers() {
    spec!();
    peer_fails!("crun", "1.8 knows no names in lower case");
    let c = trapper();
    let spellings = ["USR1", "SIGUSR1", "10", "usr1", "sigusr1"];
    for (times, signal) in spellings.iter().enumerate() {
        c.kill(signal).ok();
        c.until_output(&"got USR1\n".repeat(times + 1));
    }
    for (signal, name) in [("1", "HUP"), ("SIGQUIT", "QUIT"), ("WINCH", "WINCH"), ("12", "USR2")] {
        c.kill(signal).ok();
        c.until_output(&format!("got {name}\n"));
    }
    c.call(&["kill", &c.id]).done().ok();
    c.until_output("got TERM\n");
}

#[test]
fn realtime_signals() {
    spec!();
    peer_fails!("runc", "1.1 knows no real-time names");
    peer_fails!("crun", "1.8 knows no RTMIN without an offset");
    let c = trapper();
    for (times, signal) in ["34", "RTMIN", "SIGRTMIN", "RTMIN+0"].iter().enumerate() {
        c.kill(signal).ok();
        c.until_output(&"got 34\n".repeat(times + 1));
    }
}

#[test]
fn garbage_is_refused() {
    davit_only!("the peers read 9x as 9 and 4294967305 as 9");
    let c = trapper();
    let before = c.output();
    for signal in
        ["9x", "4294967305", "0x9", "SIG", "FOO", "", " 9", "1e1", "65", "1000", "-1", "+9"]
    {
        let kill = c.call(&["kill", &c.id, signal]).done();
        assert_ne!(kill.code, 0, "{signal:?}");
    }
    for signal in ["9x", "4294967305", "FOO", "65"] {
        c.kill(signal).refuses(&["signal", signal]);
    }
    c.kill("").refuses(&["signal"]);
    c.call(&["kill", &c.id, "TERM", "more"]).done().refuses(&["more"]);
    assert_eq!(c.output(), before, "no signal was sent");
    assert_eq!(c.status(), "running");
}

#[test]
fn all_is_accepted_everywhere() {
    spec!();
    let c = Container::sh("sleep 100 & sleep 100 & wait");
    c.create().start();
    c.call(&["kill", "--all", &c.id, "9"]).done().ok();
    c.until_status("stopped");
    // podman and containerd do this to make sure.
    c.call(&["kill", "--all", &c.id, "9"]).done().exits(0);
    c.call(&["kill", "-a", &c.id, "KILL"]).done().exits(0);
}

#[test]
fn all_reaches_processes_of_a_shared_pid_namespace() {
    spec!();
    let c = Container::sh("sleep 100 & echo $!; wait").with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    c.until_output("\n");
    c.call(&["kill", "--all", &c.id, "KILL"]).done().ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}

#[test]
fn a_created_one_can_be_killed() {
    spec!();
    let c = Container::sleeper();
    c.create();
    c.kill("KILL").ok();
    c.until_status("stopped");
}

#[test]
fn works_without_any_environment() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    c.call(&["kill", &c.id, "KILL"]).without_env().done().ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).without_env().done().ok();
    c.assert_nothing_left();
}
