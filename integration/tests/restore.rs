//! `restore`: how the caller gets the program back.

use std::fs::{self, File};
use std::io::{PipeReader, Read, Write, pipe};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use integration::leftovers::is_dead;
use integration::terminal::Console;
use integration::*;

#[test]
fn in_the_foreground_it_has_the_exit_code_of_the_program() {
    criu!();
    let c = Container::sh("trap 'exit 7' TERM; while :; do sleep 0.05; done");
    c.up();
    for way in ["kill", "signal to the runtime"] {
        c.checkpoint(&[]);
        let running = c.restore_call(&c.image(), &[]).silent().spawn();
        c.until_running();
        match way {
            "kill" => drop(c.kill("TERM").ok()),
            _ => running.signal(Signal::SIGTERM),
        }
        assert_eq!(running.wait().code, 7, "{way}");
        c.assert_nothing_left();
        c.up();
    }
}

#[test]
fn detached_it_returns_and_the_program_goes_on() {
    criu!();
    let c = Container::sh("trap 'exit 7' TERM; while :; do sleep 0.05; done");
    c.up();
    c.checkpoint(&[]);
    let pid_file = c.path("pid");
    c.restore(&["--pid-file", &pid_file]);
    let pid = fs::read_to_string(&pid_file).expect("a pid file");
    assert_eq!(pid, c.pid().to_string());
    assert!(!is_dead(&pid));
    c.kill("TERM").ok();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}

/// All that can be done with a container can be done with this one.
#[test]
fn a_restored_container_is_like_any_other() {
    criu!();
    let c = Container::counter();
    c.up().moves_on();
    let state = c.state();
    assert_eq!(state["bundle"], c.path("bundle"));
    assert_eq!(c.exec(&["sh", "-c", "exit 9"]).code, 9);
    assert!(c.call(&["ps", &c.id]).done().ok().out.contains("dev/shm/n"));
    for (command, status) in [("pause", "paused"), ("resume", "running")] {
        c.call(&[command, &c.id]).done().ok();
        assert_eq!(c.status(), status);
    }
    c.call(&["update", "--pids-limit", "77", &c.id]).done().ok();
    // And so it is again, and its image beside the first one.
    let before = c.counts_beyond(0);
    fs::remove_dir_all(c.image()).expect("rm");
    c.moves_on();
    c.counts_beyond(before);
    c.call(&["delete", &c.id]).done().fails();
    c.delete().ok();
    c.assert_nothing_left();
}

#[test]
fn one_image_is_restored_again_and_again() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint(&[]);
    for _ in 0..3 {
        c.restore(&[]);
        let now = c.counts_beyond(before);
        assert!(now < before + 200, "it is the first image's: {before} {now}");
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn under_another_id_from_another_bundle() {
    criu!();
    let first = Container::counter();
    first.up();
    let before = first.counts_beyond(3);
    first.checkpoint(&[]);
    let other = Container::counter();
    other.restore_from(&first.image(), &[]);
    other.counts_beyond(before);
    assert_eq!(other.state()["bundle"], other.path("bundle"));
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", other.pid())).expect("cgroup");
    assert!(cgroup.contains(&other.id) && !cgroup.contains(&first.id), "{cgroup}");
    let root = fs::read_to_string(format!("/proc/{}/mountinfo", other.pid())).expect("mountinfo");
    assert!(!root.contains(&first.id), "{root}");
    other.delete().ok();
    other.assert_nothing_left();
    first.assert_nothing_left();
}

#[test]
fn an_id_that_is_taken_is_refused() {
    criu!();
    let c = Container::counter();
    c.up();
    c.checkpoint(&["--leave-running"]);
    let before = c.counted();
    c.restore_call(&c.image(), &["--detach"]).done().refuses(&[&c.id, "exist"]);
    c.counts_beyond(before);
}

/// Reads what has come so far, without waiting.
fn so_far(from: &mut PipeReader, seen: &mut String) {
    fcntl(&*from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("fcntl");
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
}

#[track_caller]
fn until(from: &mut PipeReader, text: &str) -> String {
    let mut seen = String::new();
    let found = call::within(call::DEADLINE, || {
        so_far(from, &mut seen);
        seen.contains(text).then_some(())
    });
    assert!(found.is_some(), "no {text:?} in {seen:?}");
    seen
}

#[test]
fn pipes_of_the_caller_take_the_place_of_the_former_ones() {
    criu!();
    let c = Container::sh("while read line; do echo out $line; echo err $line >&2; done; exit 3");
    let pipes = || (pipe().expect("pipe"), pipe().expect("pipe"), pipe().expect("pipe"));
    let (mut input, mut output, mut errors) = pipes();
    c.create_call(&[]).stdin(input.0).stdout(output.1).stderr(errors.1).done().exits(0);
    c.start();
    writeln!(input.1, "one").expect("write");
    assert_eq!(until(&mut output.0, "\n"), "out one\n");
    assert_eq!(until(&mut errors.0, "\n"), "err one\n");
    c.checkpoint(&[]);
    // The former ends are gone, with what is still in them.
    (input, output, errors) = pipes();
    let call = c.restore_call(&c.image(), &[]).stdin(input.0);
    let running = call.stdout(output.1).stderr(errors.1).spawn();
    c.until_running();
    writeln!(input.1, "two").expect("write");
    assert_eq!(until(&mut output.0, "\n"), "out two\n");
    assert_eq!(until(&mut errors.0, "\n"), "err two\n");
    drop(input.1);
    assert_eq!(running.wait().code, 3);
}

/// CRIU opens them anew, and insists on the size, unless all is appended to the file as to a log.
#[test]
fn log_files_of_the_caller_take_the_place_of_the_former_ones() {
    criu!();
    fails_with!("runc", "CRIU refuses files of the host");
    let c = Container::sh("while :; do echo out; echo err >&2; sleep 0.05; done");
    let open =
        |name: &str| File::options().append(true).create(true).open(c.path(name)).expect("open");
    let text = |name: &str| fs::read_to_string(c.path(name)).unwrap_or_default();
    let grows = |name: &str| {
        let before = text(name).len();
        call::within(call::DEADLINE, || (text(name).len() > before + 10).then_some(())).is_some()
    };
    c.create_call(&[]).stdout(open("out")).stderr(open("err")).done().exits(0);
    c.start();
    assert!(grows("out") && grows("err"));
    c.checkpoint(&[]);
    let before = (text("out"), text("err"));
    let call = c.restore_call(&c.image(), &["--detach"]);
    let code = call.stdout(open("new")).stderr(open("said")).done().code;
    assert_eq!(code, 0, "{:?} {:?}", text("said"), c.criu_errors());
    assert!(grows("new") && grows("said"));
    assert_eq!((text("out"), text("err")), before);
}

#[test]
fn one_pipe_for_two_descriptors() {
    criu!();
    let script = "exec >/dev/null; while :; do echo tick >&2; sleep 0.05; done";
    let c = Container::sh(script);
    let ends = || {
        let (reader, writer) = pipe().expect("pipe");
        (reader, writer.try_clone().expect("dup"), writer)
    };
    let (mut reader, out, err) = ends();
    c.create_call(&[]).stdout(out).stderr(err).done().exits(0);
    c.start();
    until(&mut reader, "tick\n");
    c.checkpoint(&[]);
    let (mut reader, out, err) = ends();
    c.restore_call(&c.image(), &["--detach"]).stdout(out).stderr(err).done().exits(0);
    until(&mut reader, "tick\n");
}

#[test]
fn a_new_terminal_arrives_at_the_console_socket() {
    criu!();
    let c = Container::sh("stty -echo; while read line; do echo got $line; done")
        .with(|c| c["process"]["terminal"] = true.into());
    let socket = c.dir().join("console");
    let first = || Console::listen(&socket);
    let words = ["--console-socket", socket.to_str().expect("utf-8")];
    let mut console = first();
    c.create_call(&words).silent().done().exits(0);
    c.start();
    console.until("master");
    console.type_in("one\n");
    console.until("got one");
    c.checkpoint(&[]);
    drop(console);
    fs::remove_file(&socket).expect("rm");
    let mut console = first();
    c.restore(&words);
    console.until("master");
    console.type_in("two\n");
    console.until("got two");
    c.delete().ok();
    console.end();
}

#[test]
fn a_terminal_without_console_socket_is_refused() {
    criu!();
    let c = Container::sleeper().with(|c| c["process"]["terminal"] = true.into());
    let socket = c.dir().join("console");
    let console = Console::listen(&socket);
    c.up_with(&["--console-socket", socket.to_str().expect("utf-8")]);
    c.checkpoint(&[]);
    drop(console);
    c.restore_call(&c.image(), &["--detach"]).done().refuses(&["--console-socket"]);
    c.assert_nothing_left();
}

/// Nothing of the runtime's or of CRIU's own stays open in the program.
#[test]
fn the_program_has_the_descriptors_that_it_had() {
    criu!();
    let c = Container::sh("exec 5</etc/passwd; while :; do sleep 0.2; done");
    c.up();
    let open = |c: &Container| {
        let dir = format!("/proc/{}/fd", c.pid());
        let name = |entry: fs::DirEntry| {
            let to = fs::read_link(entry.path()).unwrap_or_default();
            format!("{:?} {}", entry.file_name(), to.display())
        };
        let mut all: Vec<String> = fs::read_dir(dir).expect("fd").flatten().map(name).collect();
        all.sort();
        all
    };
    let before = call::within(call::DEADLINE, || Some(open(&c)).filter(|all| all.len() == 4));
    let extra = File::open("/etc/hostname").expect("open");
    fcntl(&extra, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("fcntl");
    c.moves_on();
    assert_eq!(Some(open(&c)), before);
}

#[test]
fn a_program_that_ends_at_once_is_reported_in_the_foreground() {
    criu!();
    let c = Container::sh("while [ ! -e /end ]; do :; done; exit 5");
    c.up();
    c.checkpoint(&[]);
    fs::write(c.rootfs().join("end"), "").expect("write");
    let running = c.restore_call(&c.image(), &[]).silent().within(Duration::from_secs(20));
    assert_eq!(running.done().code, 5);
    c.assert_nothing_left();
}

/// What podman, containerd and docker send beside the directories.
#[test]
fn the_options_of_engines() {
    criu!();
    fails_with!("runc", "Debian's has no --link-remap");
    let c = Container::counter();
    c.up();
    let counted = c.counts_beyond(3);
    let both = ["--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks"];
    let modes = ["--manage-cgroups-mode", "soft", "--empty-ns", "network"];
    let all = [&both[..], &modes].concat();
    c.checkpoint(&[&all[..], &["--link-remap"]].concat());
    c.restore(&[&all[..], &["--no-pivot", "--no-subreaper", "--auto-dedup"]].concat());
    c.counts_beyond(counted);
}
