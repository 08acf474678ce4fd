//! `hooks`: six kinds, when and where they run, their state on stdin, and what happens when they
//! fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use integration::config::shell_hook;
use integration::*;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[test]
fn all_kinds_in_their_order() {
    spec!();
    fails_with!("crun", "runs poststart beside startContainer");
    fails_with!("runc", "1.1 runs poststart at the end of create");
    let c = Container::sh("echo process >>$LOG; sleep 0.3").with_log();
    let log = c.path("log/all");
    let c = c.with(|c| {
        config::push(&mut c["process"]["env"], format!("LOG={log}").into());
        for kind in KINDS {
            c["hooks"][kind] = json!([
                shell_hook(&format!("echo {kind} 1 >>{log}")),
                shell_hook(&format!("echo {kind} 2 >>{log}"))
            ]);
        }
    });
    c.create();
    let before = fs::read_to_string(&log).expect("log");
    assert_eq!(
        before,
        "prestart 1\nprestart 2\ncreateRuntime 1\ncreateRuntime 2\ncreateContainer 1\ncreateContainer 2\n"
    );
    c.start();
    c.until_status("stopped");
    let after = fs::read_to_string(&log).expect("log");
    let after = &after[before.len()..];
    assert!(after.starts_with("startContainer 1\nstartContainer 2\n"), "{after}");
    // The process and poststart run at the same time.
    let (process, hooks): (Vec<&str>, _) = after.lines().partition(|line| *line == "process");
    assert_eq!(process, ["process"]);
    assert_eq!(hooks[2..], ["poststart 1", "poststart 2"]);
    c.call(&["delete", &c.id]).done().ok();
    assert!(fs::read_to_string(&log).expect("log").ends_with("poststop 1\npoststop 2\n"));
}

#[test]
fn run_runs_them_too() {
    spec!();
    fails_with!("runc", "1.1 runs poststart before startContainer");
    let c = Container::sh("sleep 0.2").with_log();
    let log = c.path("log/all");
    let c = c.with(|c| {
        for kind in KINDS {
            c["hooks"][kind] = json!([shell_hook(&format!("echo {kind} >>{log}"))]);
        }
    });
    c.run().ok();
    let seen = fs::read_to_string(&log).expect("log");
    assert_eq!(seen.lines().collect::<Vec<_>>(), KINDS);
}

#[test]
fn namespaces_they_run_in() {
    spec!();
    let c = Container::sh("sleep 0.2").with_log();
    let log = c.path("log");
    let c = c.with(|c| {
        for kind in KINDS {
            c["hooks"][kind] = json!([shell_hook(&format!(
                "(readlink /proc/self/ns/mnt; readlink /proc/self/ns/net) >{log}/{kind}"
            ))]);
        }
    });
    c.create();
    let pid = c.pid();
    let inside = [host::namespace_of(pid, "mnt"), host::namespace_of(pid, "net")];
    c.start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    for kind in KINDS {
        let seen = fs::read_to_string(c.dir().join("log").join(kind)).expect(kind);
        let seen: Vec<&str> = seen.lines().collect();
        let in_container = ["createContainer", "startContainer"].contains(&kind);
        if in_container {
            assert_eq!(seen, inside, "{kind}");
        } else {
            let outside = if runtime::runtime().name == "crun" {
                seen[0].to_owned()
            } else {
                host::namespace("mnt")
            };
            assert_eq!(seen, [outside, host::namespace("net")], "{kind}");
        }
    }
}

#[test]
fn create_container_sees_the_hosts_root_and_start_container_its_own() {
    spec!();
    let c = Container::sh("true").with_log();
    let log = c.path("log");
    let c = c.with(|c| {
        for kind in ["createContainer", "startContainer"] {
            // busybox's own directory: only the container's root has it.
            c["hooks"][kind] = json!([shell_hook(&format!("test -e /bin/busybox -a -e /home/bob && echo container >{log}/{kind} || echo host >{log}/{kind}"))]);
        }
    });
    c.run().ok();
    let seen = |kind: &str| fs::read_to_string(c.dir().join("log").join(kind)).expect(kind);
    assert_eq!(
        (seen("createContainer").as_str(), seen("startContainer").as_str()),
        ("host\n", "container\n")
    );
}

#[test]
fn state_on_stdin() {
    spec!();
    fails_with!("crun", "shows another bundle to startContainer");
    let c = Container::sh("sleep 0.2").with_log();
    let log = c.path("log");
    let c = c.with(|c| {
        c["annotations"] = json!({ "key": "value" });
        for kind in KINDS {
            c["hooks"][kind] = json!([shell_hook(&format!("cat >{log}/{kind}"))]);
        }
    });
    c.create();
    let pid = c.pid();
    c.start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    for kind in KINDS {
        let text = fs::read_to_string(c.dir().join("log").join(kind)).expect(kind);
        let state: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error}: {text:?}"));
        assert_eq!(state["id"], c.id, "{kind}");
        assert_eq!(state["bundle"], c.bundle().to_str().expect("utf-8"), "{kind}");
        assert_eq!(state["annotations"]["key"], "value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        if runtime::runtime().is_davit() {
            let status = match kind {
                "createRuntime" | "createContainer" => "creating",
                // Deprecated, and from a time when it ran at start: its users look for this.
                "prestart" | "startContainer" => "created",
                "poststart" => "running",
                _ => "stopped",
            };
            assert_eq!(state["status"], status, "{kind}");
        }
        match kind {
            "prestart" | "createRuntime" | "poststart" => assert_eq!(state["pid"], pid, "{kind}"),
            // As seen in the container's pid namespace: it is process 1 there.
            "createContainer" | "startContainer" if runtime::runtime().is_davit() => {
                assert_eq!(state["pid"], 1, "{kind}")
            }
            _ => {}
        }
    }
}

#[test]
fn environment_and_arguments_are_those_asked() {
    spec!();
    fails_with!("crun", "leaks a variable of its own");
    let c = Container::sh("true").with_log();
    let log = c.path("log/env");
    let c = c.with(|c| {
        c["hooks"]["createRuntime"] = json!([{
            "path": "/bin/sh", "args": ["name", "-c", format!("echo \"$0 $1\" >{log}; /usr/bin/env -u PWD -u _ -u SHLVL -u OLDPWD >>{log}"), "zero", "one"],
            "env": ["A=b c"],
        }]);
    });
    c.run_call(&[]).env("FROM_THE_CALLER", "1").done().ok();
    assert_eq!(fs::read_to_string(&log).expect("log"), "zero one\nA=b c\n");
}

#[test]
fn without_args_and_env() {
    spec!();
    let c = Container::sh("true").with_log();
    let script = c.path("hook");
    let log = c.path("log/env");
    fs::write(&script, format!("#!/bin/sh\necho $0 $# >{log}\n")).expect("write");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    let c = c.with(|c| c["hooks"]["createRuntime"] = json!([{ "path": script }]));
    c.run().ok();
    assert_eq!(fs::read_to_string(&log).expect("log"), format!("{script} 0\n"));
}

#[test]
fn fds_of_the_runtime_are_not_theirs() {
    spec!();
    fails_with!("runc", "1.1 leaks its socket, log pipe and FIFO into createContainer hooks");
    let c = Container::sh("true").with_log();
    let log = c.path("log");
    let c = c.with(|c| {
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            c["hooks"][kind] = json!([shell_hook(&format!("ls -l /proc/self/fd >{log}/{kind}"))]);
        }
    });
    let run = c
        .through_with_bundle(&["sh", "-c", "exec 7</etc/passwd 9</; exec \"$@\"", "sh"], "run", &[])
        .done();
    assert_eq!(run.code, 0);
    for kind in KINDS {
        let seen = fs::read_to_string(c.dir().join("log").join(kind)).unwrap_or_default();
        // ls has the directory itself open.
        let fds: Vec<&str> = seen
            .lines()
            .filter(|line| line.contains(" -> ") && !line.contains("-> /proc/"))
            .collect();
        assert!(!fds.is_empty(), "{kind}: {seen}");
        let known =
            |line: &&str| ["0", "1", "2"].iter().any(|fd| line.contains(&format!(" {fd} -> ")));
        assert!(fds.iter().all(known), "{kind}: {seen}");
    }
}

#[test]
fn a_failing_hook_stops_everything_and_its_words_are_shown() {
    spec!();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let c = Container::sh("echo must not run").with(|c| {
            c["hooks"][kind] =
                json!([shell_hook("echo said on stdout; echo said on stderr >&2; exit 3")]);
        });
        let run = c.run();
        assert!(!run.out.contains("must not run"), "{kind}");
        if runtime::runtime().is_davit() {
            run.refuses(&[&format!("hooks.{kind}[0]"), "/bin/sh", "3", "said on stderr"]);
        } else {
            assert_ne!(run.code, 0, "{kind}: {run:?}");
        }
    }
}

#[test]
fn later_hooks_do_not_run_after_a_failed_one() {
    spec!();
    let c = Container::sh("true").with_log();
    let log = c.path("log/later");
    let c = c.with(|c| {
        c["hooks"]["createRuntime"] =
            json!([shell_hook("exit 1"), shell_hook(&format!("touch {log}"))])
    });
    assert_ne!(c.run().code, 0);
    assert!(!c.dir().join("log/later").exists());
}

#[test]
fn a_failing_poststop_only_warns() {
    spec!();
    let c = Container::sh("exit 5")
        .with(|c| c["hooks"]["poststop"] = json!([shell_hook("echo the reason >&2; exit 1")]));
    let log = c.path("log.json");
    let c = if runtime::runtime().is_davit() {
        c.global(&["--log", &log, "--log-format", "json", "--log-level", "warning"])
    } else {
        c
    };
    c.run().exits(5);
    if runtime::runtime().is_davit() {
        let log = fs::read_to_string(&log).expect("log");
        assert!(log.contains("hooks.poststop[0]") && log.contains("the reason"), "{log}");
    }
}

#[test]
fn a_failing_poststart_stops_the_container() {
    spec!();
    fails_with!("crun", "only warns, as older versions of the spec said");
    fails_with!("runc", "1.1 runs poststart at the end of create");
    // runtime.md, lifecycle, step 9: generate an error, stop the container, destroy it, run
    // poststop.
    let c = Container::sh("sleep 1000").with_log();
    let log = c.path("log/after");
    let c = c.with(|c| {
        c["hooks"]["poststart"] = json!([shell_hook("echo the reason >&2; exit 1")]);
        c["hooks"]["poststop"] = json!([shell_hook(&format!("touch {log}"))]);
    });
    c.run().refuses(&["hooks.poststart[0]", "the reason"]);
    assert!(c.dir().join("log/after").exists(), "poststop runs all the same");
    c.create();
    let pid = c.pid();
    c.call(&["start", &c.id]).done().refuses(&["hooks.poststart[0]", "the reason"]);
    let dead = call::within(Duration::from_secs(5), || leftovers::is_dead(pid).then_some(()));
    assert!(dead.is_some(), "it goes on running");
}

#[test]
fn all_poststop_hooks_run() {
    spec!();
    fails_with!("runc", "1.1 stops at the first that fails");
    let c = Container::sh("true").with_log();
    let log = c.path("log/all");
    let c = c.with(|c| {
        c["hooks"]["poststop"] =
            json!([shell_hook("exit 1"), shell_hook(&format!("echo second >>{log}"))])
    });
    c.run();
    assert_eq!(fs::read_to_string(&log).expect("log"), "second\n");
}

#[test]
fn timeout() {
    spec!();
    let c = Container::new(&["true"]);
    let child = c.path("child");
    let c = c.with(|c| {
        // runc waits for ever for grandchildren that hold its pipe.
        let script = match runtime::runtime().is_davit() {
            true => format!("sleep 100 & echo $! >{child}; wait"),
            false => "exec sleep 100".to_owned(),
        };
        let mut slow = shell_hook(&script);
        slow["timeout"] = 1.into();
        c["hooks"]["createRuntime"] = json!([slow]);
    });
    let begun = Instant::now();
    c.run().refuses(&["hooks.createRuntime[0]", "1 "]);
    assert!(begun.elapsed() < call::patient(Duration::from_secs(5)));
    // Only the hook itself is killed.
    if let Ok(pid) = fs::read_to_string(&child) {
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
    }
    let quick = Container::sh("echo ran").with(|c| {
        let mut slow = shell_hook("sleep 0.1");
        slow["timeout"] = 10.into();
        c["hooks"]["createRuntime"] = json!([slow]);
    });
    assert_eq!(quick.run().ok().out, "ran\n");
}

#[test]
fn wrong_hooks_are_refused() {
    davit_only!("other runtimes run relative paths, or take 0 for no timeout");
    for (entry, says) in [
        (json!({ "path": "bin/sh" }), "hooks.createRuntime[0]: path"),
        (json!({ "path": "/bin/sh", "timeout": 0 }), "hooks.createRuntime[0]: timeout"),
        (json!({ "path": "/bin/sh", "timeout": -1 }), "hooks.createRuntime[0]: timeout"),
        (json!({ "args": ["x"] }), "hooks.createRuntime[0]"),
        (json!({ "path": "/no/such/hook" }), "hooks.createRuntime[0]"),
        (json!({ "path": "/etc/passwd" }), "hooks.createRuntime[0]"),
        (json!({ "path": "/etc" }), "hooks.createRuntime[0]"),
    ] {
        let c = Container::new(&["true"]).with(|c| c["hooks"]["createRuntime"] = json!([entry]));
        c.run().refuses(&[says]);
    }
}

#[test]
fn a_hook_may_move_the_container_into_a_network() {
    spec!();
    // What CNI plugins do: find the namespace by the pid in the state.
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); nsenter -t $pid -n hostname >/dev/null && nsenter -t $pid -n ip link set lo mtu 1234";
    skip_if!((!std::path::Path::new("/usr/bin/nsenter").exists()).then_some("no nsenter"));
    let has_ip = ["/sbin/ip", "/usr/sbin/ip", "/bin/ip"]
        .iter()
        .any(|path| std::path::Path::new(path).exists());
    let script =
        if has_ip { script.to_owned() } else { script.replace("ip link", "busybox ip link") };
    let c = Container::sh("cat /sys/class/net/lo/mtu").with(|c| {
        let mut hook = shell_hook(&script);
        hook["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        c["hooks"]["createRuntime"] = json!([hook]);
    });
    assert_eq!(c.run().ok().out, "1234\n");
}
