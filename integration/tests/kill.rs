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
    fails_with!("crun", "1.8 knows no names in lower case");
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
    fails_with!("runc", "1.1 knows no real-time names");
    fails_with!("crun", "1.8 knows no RTMIN without an offset");
    let c = trapper();
    for (times, signal) in ["34", "RTMIN", "SIGRTMIN", "RTMIN+0"].iter().enumerate() {
        c.kill(signal).ok();
        c.until_output(&"got 34\n".repeat(times + 1));
    }
}

/// No signal is sent: it is asked whether one could be.
#[test]
fn zero_asks_whether_it_is_alive() {
    spec!();
    let c = trapper();
    let before = c.output();
    c.kill("0").ok();
    if runtime::runtime().is_davit() {
        c.call(&["kill", "--all", &c.id, "0"]).done().ok();
    }
    assert_eq!(c.output(), before, "no signal was sent");
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    c.until_status("stopped");
    let ended = c.kill("0").fails();
    // crun 1.8: "kill container: No such process".
    assert!(runtime::runtime().name == "crun" || ended.err.contains("not running"), "{ended:?}");
    let c = Container::sleeper();
    c.create();
    c.kill("0").ok();
}

#[test]
fn garbage_is_refused() {
    davit_only!("other runtimes read 9x as 9 and 4294967305 as 9");
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

/// B16: a cgroup may be removed while it is killed, by systemd as soon as it is empty. What is open
/// of it then is no device, by the kernel's words.
#[test]
fn a_cgroup_that_goes_while_it_is_killed_has_gone() {
    davit_only!("other runtimes write to other files");
    skip_if!(fixture::missing(&["strace"]));
    for errno in ["ENODEV", "ENOENT"] {
        let c = Container::sleeper();
        c.create().start();
        let paths =
            ["unified/", ""].map(|tree| format!("/sys/fs/cgroup/{tree}{}/cgroup.kill", c.id));
        let has_file = paths.iter().any(|path| std::path::Path::new(path).exists());
        let [first, second] = &paths;
        let fail = format!("inject=write:error={errno}");
        let strace =
            ["strace", "-qq", "-o", &c.path("trace"), "-P", first, "-P", second, "-e", &fail];
        c.call_through(&strace, &["delete", "--force", &c.id]).done().ok();
        let trace = std::fs::read_to_string(c.path("trace")).expect("trace");
        assert_eq!(trace.contains(errno), has_file, "{trace}");
        c.assert_nothing_left();
    }
}
