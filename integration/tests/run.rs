//! `run`: exit codes, signals, --detach, --pid-file, --keep, --preserve-fds.

use std::fs;

use integration::*;
use nix::sys::signal::Signal;

#[test]
fn exit_codes() {
    spec!();
    for code in [0, 1, 2, 7, 125, 126, 127, 137, 255] {
        Container::sh(&format!("exit {code}")).run().exits(code);
    }
}

#[test]
fn a_deadly_signal_is_128_and_its_number() {
    spec!();
    for signal in ["KILL", "TERM", "SEGV"] {
        // Process 1 of a pid namespace is immune to what it does not catch: have the host send it.
        let c = Container::sh("echo ready; while :; do sleep 0.05; done");
        let mut run = c.run_call(&[]).spawn();
        run.until_out("ready");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid()), signal_named(signal))
            .expect("kill");
        if signal == "KILL" {
            assert_eq!(run.wait().code, 137);
        }
    }
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let c =
            Container::sh(&format!("kill -{signal} $$")).with(|c| config::drop_namespace(c, "pid"));
        c.run().exits(code);
    }
}

fn signal_named(name: &str) -> Signal {
    format!("SIG{name}").parse().expect("a signal")
}

#[test]
fn signals_are_forwarded() {
    spec!();
    let traps = "for s in HUP INT QUIT USR1 USR2 TERM WINCH CONT; do trap \"echo got $s\" $s; done";
    let c = Container::sh(&format!(
        "{traps}; trap 'exit 42' ALRM; echo ready; while :; do sleep 0.05; done"
    ));
    let mut run = c.run_call(&[]).spawn();
    run.until_out("ready\n");
    for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"] {
        run.signal(signal_named(name));
        run.until_out(&format!("got {name}\n"));
    }
    run.signal(Signal::SIGALRM);
    run.wait().exits(42);
    c.assert_nothing_left();
}

#[test]
fn detach_returns_once_it_runs() {
    spec!();
    for flag in ["--detach", "-d"] {
        let c = Container::sh("echo alive; while :; do sleep 0.05; done");
        c.run_call(&[flag, "--pid-file", &c.path("pid")]).done().exits(0);
        assert_eq!(c.status(), "running");
        assert_eq!(
            fs::read_to_string(c.path("pid")).expect("pid file").trim(),
            c.pid().to_string()
        );
        assert_eq!(c.until_output("\n"), "alive\n");
    }
}

#[test]
fn keep_keeps_the_container() {
    spec!();
    fails_with!("crun", "1.8 knows no --keep");
    let c = Container::sh("exit 5");
    c.run_call(&["--keep"]).done().exits(5);
    assert_eq!(c.status(), "stopped");
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}

#[test]
fn pid_file_in_the_foreground() {
    spec!();
    let c = Container::sh("echo ready; while :; do sleep 0.05; done");
    let mut run = c.run_call(&["--pid-file", &c.path("pid")]).spawn();
    run.until_out("ready");
    assert_eq!(fs::read_to_string(c.path("pid")).expect("pid file").trim(), c.pid().to_string());
    c.kill("KILL").ok();
    run.wait().exits(137);
}

#[test]
fn orphans_die_with_the_container() {
    spec!();
    let c =
        Container::sh("setsid sleep 1000 & setsid sh -c 'setsid sleep 1000 &' & sleep 0.1; exit 4");
    c.run().exits(4);
    fails_with!("crun", "1.8 waits for ever for the others of a shared pid namespace");
    let shared = Container::sh("setsid sleep 1000 & sleep 0.1; exit 4")
        .with(|c| config::drop_namespace(c, "pid"));
    shared.run().exits(4);
}

#[test]
fn preserve_fds() {
    spec!();
    fails_with!("runc", "refuses numbers that are not open");
    let c = Container::sh("cat <&3; cat <&4; ls /proc/self/fd | wc -l");
    fs::write(c.path("three"), "three\n").expect("write");
    fs::write(c.path("four"), "four\n").expect("write");
    let script =
        format!("exec 3<{} 4<{} 5</dev/null; exec \"$@\"", c.path("three"), c.path("four"));
    let run = |options: &[&str]| {
        c.through_with_bundle(&["sh", "-c", &script, "sh"], "run", options).done()
    };
    // ls prints 0 1 2 3 4, and the directory itself.
    let out = run(&["--preserve-fds", "2"]).ok().out;
    assert_eq!(out, "three\nfour\n6\n");
    let out = run(&["--preserve-fds=2"]).ok().out;
    assert_eq!(out, "three\nfour\n6\n");
    // Numbers that are not open are left out; 5 is.
    let out = run(&["--preserve-fds", "4"]).ok().out;
    assert_eq!(out, "three\nfour\n7\n");
    c.assert_nothing_left();
}

#[test]
fn listen_fds() {
    spec!();
    fails_with!("crun", "1.8 sets no LISTEN_PID");
    let c = Container::sh(
        "echo $LISTEN_FDS $LISTEN_PID; cat <&3; test -e /proc/self/fd/4 || echo no more",
    );
    fs::write(c.path("three"), "three\n").expect("write");
    // LISTEN_PID must be the runtime's own pid: the shell keeps its pid over exec.
    let script = format!(
        "exec 3<{} 4</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"",
        c.path("three")
    );
    let run = c.through_with_bundle(&["sh", "-c", &script, "sh"], "run", &[]).done().ok();
    assert_eq!(run.out, "1 1\nthree\nno more\n");
}

#[test]
fn a_missing_executable() {
    spec!();
    for (args, text) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $path"),
        ("/nosuch", "exec: \"/nosuch\": no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("etc", "exec: \"etc\": executable file not found in $path"),
    ] {
        Container::new(&[args]).run().refuses(&[text]);
    }
}

#[test]
fn interpreter_missing() {
    spec!();
    let c = Container::new(&["/bin/script"]).with_files(|root| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(root.join("bin/script"), "#!/no/such/interpreter\n").expect("write");
        fs::set_permissions(root.join("bin/script"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
    });
    c.run().refuses(&["/bin/script", "no such file or directory"]);
}

#[test]
fn create_start_reports_a_missing_executable() {
    spec!();
    let c = Container::new(&["/nosuch"]);
    let create = c.create_call(&[]).done();
    if create.code == 0 {
        c.call(&["start", &c.id]).done().refuses(&["/nosuch", "no such file or directory"]);
        c.until_status("stopped");
    } else {
        create.refuses(&["/nosuch", "no such file or directory"]);
        c.assert_nothing_left();
    }
}
