//! `podman run`: what the user gets back.

use std::fs;
use std::time::Duration;

use integration::call::within;
use integration::podman::Podman;
use integration::terminal::Screen;
use integration::*;

#[test]
fn output_error_and_exit_code_are_the_programs() {
    let p = podman!();
    let run = p.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    p.assert_nothing_left();
}

/// The codes that podman makes of what happened, with runc and so with us.
#[test]
fn exit_codes() {
    let p = podman!();
    for (options, command, code, says) in [
        (&[][..], &["true"][..], 0, ""),
        (&[], &["false"], 1, ""),
        (&[], &["sh", "-c", "exit 255"], 255, ""),
        // podman itself refuses.
        (&["--nosuch"], &["true"], 125, "unknown flag"),
        (&["--memory", "x"], &["true"], 125, "memory"),
        (&["--user", "nosuch"], &["true"], 126, "unable to find user nosuch"),
        (&["--workdir", "/no/dir"], &["true"], 126, "workdir \"/no/dir\" does not exist"),
        // The program cannot be executed.
        (&[], &["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        (&[], &["/etc"], 126, "exec: \"/etc\": "),
        // There is none.
        (&[], &["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&[], &["/no/such"], 127, "/no/such: no such file or directory"),
        (&[], &["./nosuch"], 127, "no such file or directory"),
        (&["--env", "PATH=/sbin"], &["sh"], 127, "exec: \"sh\": executable file not found"),
        // A warning of the runtime's is in the log that podman reads, which is one JSON object
        // still where it fails.
        (&["--pids-limit", "0"], &["nosuch"], 127, "exec: \"nosuch\": executable file not found"),
        (&["--pids-limit", "0"], &["true"], 0, ""),
        // A signal.
        (&["--init"], &["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["--init"], &["sh", "-c", "kill -TERM $$"], 143, ""),
    ] {
        let run = p.run(options, command);
        let err = run.err.replace("\": no such", ": no such");
        assert!(run.code == code && err.contains(says), "{code} {says:?}: {run:#?}");
        assert!(run.err.is_empty() || !says.is_empty(), "{run:#?}");
    }
    p.assert_nothing_left();
}

/// What fails on the way leaves no container that the next one stumbles over.
#[test]
fn a_container_that_cannot_start_leaves_nothing() {
    let p = podman!();
    for (options, command, says) in [
        (&["--sysctl", "kernel.msgmax=nonsense"][..], &["true"][..], "msgmax"),
        // systemd raises fs.nr_open to almost 2^31.
        (&["--ulimit", "nofile=4000000000:4000000000"], &["true"], "rlimit"),
        (&["--mount", "type=bind,src=/proc/self/exe,dst=/etc/passwd/x"], &["true"], "passwd/x"),
        (&[], &["nosuch"], "nosuch"),
    ] {
        let run = p.run(&[&["--name", "same"], options].concat(), command).fails();
        assert!((126..128).contains(&run.code), "{run:#?}");
        assert!(run.err.to_lowercase().contains(says), "{says:?}: {run:#?}");
        p.assert_nothing_left();
    }
    assert_eq!(p.podman(&["ps", "--all", "--quiet"]).ok().out, "");
}

#[test]
fn stdin_reaches_the_program() {
    let p = podman!();
    let options = ["--rm", "--interactive"];
    let cat = p.run_call(&options, &["cat"]).input("one\ntwo\n").done().ok();
    assert_eq!(cat.out, "one\ntwo\n");
    let without = p.run_call(&["--rm"], &["cat"]).input("one\n").done().ok();
    assert_eq!(without.out, "");
    // More than a pipe holds, both ways.
    let long = "0123456789abcdef\n".repeat(20_000);
    let cat = p.run_call(&options, &["cat"]).input(&long).done().ok();
    assert!(cat.out == long, "{} of {} bytes", cat.out.len(), long.len());
}

#[test]
fn a_terminal() {
    let p = podman!();
    let mut screen = Screen::new(101, 43);
    // podman may set the size only after the program has begun; until then there is none.
    let script =
        "tty; until stty size 2>/dev/null; do sleep 0.05; done; read word; echo said $word; exit 9";
    let call = p.run_call(&["--rm", "--interactive", "--tty"], &["sh", "-c", script]);
    let run = call.stdio(&screen.slave()).spawn();
    let seen = screen.until("43 101");
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    screen.type_in("hello\n");
    screen.until("said hello");
    run.wait().exits(9);
    p.assert_nothing_left();
}

#[test]
fn a_terminals_size_follows() {
    let p = podman!();
    let mut screen = Screen::new(80, 25);
    let script =
        "echo ready; until [ \"$(stty size)\" = '50 132' ]; do sleep 0.05; done; stty size";
    let (parent, image) = (p.cgroup_parent(), integration::podman::IMAGE);
    // SIGWINCH is for those whose terminal it is.
    let mut call = vec!["setsid", "--ctty", "podman", "run", &parent, "--rm"];
    call.extend(["--interactive", "--tty", image, "sh", "-c", script]);
    let run = p.on_the_host(&call).stdio(&screen.slave()).spawn();
    screen.until("ready");
    // podman may listen for SIGWINCH only after the program has begun: a change that it missed is
    // followed by another.
    let followed = within(Duration::from_secs(20), || {
        screen.resize(131, 49);
        screen.resize(132, 50);
        std::thread::sleep(Duration::from_millis(300));
        screen.rest().contains("50 132").then_some(())
    });
    assert!(followed.is_some(), "the size does not follow");
    run.wait().exits(0);
}

#[test]
fn a_terminal_without_anyone_at_it() {
    let p = podman!();
    p.start("alone", &["--tty"], &["sh", "-c", "test -t 0 && test -t 1 && tty"]);
    assert_eq!(p.wait("alone"), 0);
    assert_eq!(p.podman(&["logs", "alone"]).ok().out, "/dev/pts/0\r\n");
}

#[test]
fn signals_are_forwarded() {
    let p = podman!();
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    let mut run = p.run_call(&["--rm", "--name", "hears"], &["sh", "-c", script]).spawn();
    run.until_out("ready");
    // podman forwards signals only once it has noted for itself that the container runs.
    let noted = || (p.inspect("hears", "{{.State.Status}}") == "running").then_some(());
    assert!(within(call::DEADLINE, noted).is_some(), "podman never says that it runs");
    run.signal(nix::sys::signal::Signal::SIGUSR1);
    let run = run.wait().exits(5);
    assert_eq!(run.out, "ready\ngot it\n");
}

#[test]
fn in_the_background() {
    let p = podman!();
    p.start("short", &[], &["sh", "-c", "echo done; exit 3"]);
    assert_eq!(p.wait("short"), 3);
    assert_eq!(p.podman(&["logs", "short"]).ok().out, "done\n");
    assert_eq!(p.inspect("short", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
}

#[test]
fn the_ids_and_the_pid_go_to_files() {
    let p = podman!();
    let (id, pid) = (p.path("id"), p.path("pid"));
    p.sleeper("files", &["--cidfile", &id, "--pidfile", &pid]);
    let id = fs::read_to_string(id).expect("cidfile");
    let pid = fs::read_to_string(pid).expect("pidfile");
    assert_eq!(p.inspect("files", "{{.Id}} {{.State.Pid}}"), format!("{id} {pid}"));
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    assert_eq!(comm, "sh\n", "the pid is the container's first process");
}

/// Prints the descriptors of the shell. That of the directory is closed by the time it is looked
/// for.
const LIST: &str = "for fd in /proc/$$/fd/*; do [ -e $fd ] && printf '%s ' ${fd##*/}; done; true";

/// `podman WORDS... [IMAGE] COMMAND...`, called with these redirections of the shell.
fn with_open(p: &Podman, redirections: &str, words: &[&str]) -> String {
    let script = format!("exec podman \"$@\" {redirections}");
    p.on_the_host(&[&["sh", "-c", &script, "sh"], words].concat()).done().ok().out
}

#[test]
fn descriptors_are_handed_on() {
    let p = podman!();
    for name in ["three", "four"] {
        fs::write(p.path(name), format!("{name}\n")).expect("write");
    }
    let (parent, image) = (p.cgroup_parent(), integration::podman::IMAGE);
    let open = format!("3<{} 4<{}", p.path("three"), p.path("four"));
    let list = ["sh", "-c", &format!("cat <&3; cat <&4; {LIST}")];
    p.sleeper("web", &[]);
    for words in [
        &["run", "--rm", &parent, "--preserve-fds", "2", image][..],
        &["exec", "--preserve-fds", "2", "web"],
    ] {
        let out = with_open(&p, &open, &[words, &list].concat());
        assert_eq!(out, "three\nfour\n0 1 2 3 4 ", "{words:?}");
    }
}

/// A2: podman 5 has an option for single descriptors, and passes the runtime the number of all up
/// to the last one.
#[test]
fn descriptors_are_handed_on_with_closed_ones_between() {
    let p = podman!();
    let help = p.podman(&["run", "--help"]).ok().out;
    skip_if!((!help.contains("--preserve-fd ")).then_some("this podman has no --preserve-fd"));
    fs::write(p.path("file"), "from outside\n").expect("write");
    let (parent, image) = (p.cgroup_parent(), integration::podman::IMAGE);
    let open = format!("9<{}", p.path("file"));
    let list = ["sh", "-c", &format!("cat <&9; {LIST}")];
    p.sleeper("web", &[]);
    for words in [
        &["run", "--rm", &parent, "--preserve-fd", "9", image][..],
        &["exec", "--preserve-fd", "9", "web"],
    ] {
        let out = with_open(&p, &open, &[words, &list].concat());
        let numbers =
            out.strip_prefix("from outside\n").unwrap_or_else(|| panic!("{words:?}: {out}"));
        // For an exec, pipes of conmon are open as 3 and 4: within the number that podman names.
        let beyond: Vec<&str> = numbers.split_whitespace().filter(|number| *number > "4").collect();
        assert_eq!(beyond, ["9"], "{words:?}: {out}");
    }
}

#[test]
fn a_root_from_a_directory() {
    let p = podman!();
    let root = p.path("image");
    let parent = p.cgroup_parent();
    let run = p.podman(&["run", "--rm", &parent, "--rootfs", &root, "sh", "-c", "echo $0 >/new"]);
    run.ok();
    assert_eq!(fs::read_to_string(p.path("image/new")).expect("written"), "sh\n");
    p.assert_nothing_left();
}
