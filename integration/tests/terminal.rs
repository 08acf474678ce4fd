//! Terminals: `--console-socket` as engines use it, and `run` and `exec` on a terminal of one's
//! own.

use integration::terminal::{Console, Screen};
use integration::*;

fn with_terminal(script: &str) -> Container {
    Container::sh(script).with(|c| c["process"]["terminal"] = true.into())
}

#[test]
fn console_socket_receives_the_master() {
    spec!();
    let c = with_terminal(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; read word; echo said $word",
    );
    let mut console = Console::listen(&c.dir().join("socket"));
    c.create_call(&["--console-socket", &c.path("socket")]).done().ok();
    console.until("size ");
    c.start();
    console.until("all");
    console.type_in("hello\n");
    let seen = console.end();
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0] != "message 0 bytes", "an fd needs at least one byte with it: {seen:?}");
    assert!(lines[1].starts_with("master /dev/pts/"), "{seen:?}");
    assert!(lines[3..].contains(&"/dev/pts/0") || lines[3..].contains(&"/dev/console"), "{seen:?}");
    assert!(lines.contains(&"said hello"), "{seen:?}");
    c.until_status("stopped");
}

/// containerd waits for the end of file of the pipe that it gave to `create`, before it calls
/// `start`.
#[test]
fn the_callers_streams_are_let_go_by_create() {
    spec!();
    let c = with_terminal("true");
    let console = Console::listen(&c.dir().join("socket"));
    c.create_call(&["--console-socket", &c.path("socket")]).done().ok();
    let io = c.path("io");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", c.pid())).expect("it runs").flatten();
    let files: Vec<_> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    assert!(!files.is_empty() && !files.iter().any(|file| file.starts_with(&io)), "{files:?}");
    c.start();
    console.end();
}

#[test]
fn no_carriage_return_is_added_beyond_the_terminals_own() {
    spec!();
    let c = with_terminal("printf 'one\\ntwo\\n'");
    let console = Console::listen(&c.dir().join("socket"));
    c.run_call(&["--detach", "--console-socket", &c.path("socket")]).done().ok();
    let seen = console.end_as_it_is();
    let text = seen.splitn(4, '\n').nth(3).expect("output");
    // The kernel's default for a new terminal, as with runc; engines clear ONLCR themselves if they
    // want.
    assert_eq!(text, "one\r\ntwo\r\n");
}

#[test]
fn size_from_the_config() {
    spec!();
    let c = with_terminal("stty size")
        .with(|c| c["process"]["consoleSize"] = json!({ "height": 33, "width": 111 }));
    let console = Console::listen(&c.dir().join("socket"));
    c.run_call(&["--detach", "--console-socket", &c.path("socket")]).done().ok();
    let seen = console.end();
    assert!(seen.contains("33 111\n"), "{seen:?}");
}

#[test]
fn it_is_the_controlling_terminal() {
    spec!();
    let c = with_terminal(
        "echo by way of the terminal >/dev/tty; ls -l /dev/console | cut -c1; cut -d' ' -f8 /proc/1/stat",
    );
    let console = Console::listen(&c.dir().join("socket"));
    c.run_call(&["--detach", "--console-socket", &c.path("socket")]).done().ok();
    let seen = console.end();
    assert!(seen.contains("by way of the terminal\n"), "{seen:?}");
    assert!(
        seen.contains("\nc\n") && seen.ends_with("\n1\n"),
        "a device, and we are its foreground group: {seen:?}"
    );
}

#[test]
fn belongs_to_the_user() {
    spec!();
    let c = with_terminal("stat -c '%u' /dev/pts/0")
        .with(|c| c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let console = Console::listen(&c.dir().join("socket"));
    c.run_call(&["--detach", "--console-socket", &c.path("socket")]).done().ok();
    let seen = console.end();
    assert!(seen.ends_with("\n1000\n"), "{seen:?}");
}

#[test]
fn a_terminal_needs_a_socket_when_detached() {
    spec!();
    let c = with_terminal("true");
    c.create_call(&[]).done().refuses(&["console-socket"]);
    c.assert_nothing_left();
    c.run_call(&["--detach"]).done().refuses(&["console-socket"]);
    c.assert_nothing_left();
}

#[test]
fn a_socket_without_terminal_is_refused() {
    spec!();
    fails_with!("crun", "ignores it");
    let c = Container::new(&["true"]);
    let console = Console::listen(&c.dir().join("socket"));
    let create = c.create_call(&["--console-socket", &c.path("socket")]).done();
    create.refuses(&["console-socket", "process.terminal"]);
    drop(console);
    c.assert_nothing_left();
}

#[test]
fn a_socket_nobody_listens_on_is_refused() {
    spec!();
    let c = with_terminal("true");
    c.create_call(&["--console-socket", &c.path("nosuch")])
        .done()
        .refuses(&["nosuch", "no such file or directory"]);
    c.assert_nothing_left();
}

/// A runtime on a terminal: a session whose controlling terminal it is.
fn on(screen: &Screen, c: &Container, args: &[&str]) -> Running {
    c.write();
    c.call_through(&["setsid", "--ctty", "--wait"], args).stdio(&screen.slave()).spawn()
}

#[test]
fn run_on_a_terminal() {
    spec!();
    fails_with!("crun", "1.8 has no size or does not restore it here");
    let c = with_terminal("tty; read word; echo said $word; exit 9");
    let mut screen = Screen::new(100, 40);
    let before = screen.settings();
    let bundle = c.path("bundle");
    let run = on(&screen, &c, &["run", "--bundle", &bundle, &c.id]);
    screen.until("/dev/pts/");
    assert_ne!(screen.settings(), before, "raw while it runs");
    screen.type_in("hello\r");
    screen.until("said hello");
    run.wait().exits(9);
    assert_eq!(screen.settings(), before, "and restored");
    c.assert_nothing_left();
}

#[test]
fn run_passes_resizes_and_control_c_on() {
    spec!();
    fails_with!("crun", "is called through another process here");
    let c = with_terminal(
        "trap 'stty size' WINCH; trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done",
    );
    let mut screen = Screen::new(80, 24);
    let bundle = c.path("bundle");
    let run = on(&screen, &c, &["run", "--bundle", &bundle, &c.id]);
    screen.until("ready");
    screen.resize(120, 50);
    screen.until("50 120");
    screen.type_in("\u{3}");
    screen.until("interrupted");
    run.wait().exits(3);
    c.assert_nothing_left();
}

#[test]
fn run_on_a_terminal_ends_when_killed() {
    spec!();
    let c = with_terminal("echo ready; while :; do sleep 0.05; done");
    let mut screen = Screen::new(80, 24);
    let before = screen.settings();
    let bundle = c.path("bundle");
    let run = on(&screen, &c, &["run", "--bundle", &bundle, &c.id]);
    screen.until("ready");
    c.kill("KILL").exits(0);
    run.wait().exits(137);
    assert_eq!(screen.settings(), before);
}

#[test]
fn run_shows_all_output_of_a_terminal() {
    spec!();
    let c = with_terminal("seq 1 5000");
    let mut screen = Screen::new(80, 24);
    let bundle = c.path("bundle");
    let run = on(&screen, &c, &["run", "--bundle", &bundle, &c.id]);
    let seen = screen.until("\r\n5000\r\n");
    assert!(seen.starts_with("1\r\n2\r\n3\r\n"), "{:?}", &seen[..40]);
    assert_eq!(seen.lines().count(), 5000);
    run.wait().exits(0);
}

#[test]
fn exec_on_a_terminal() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    let mut screen = Screen::new(90, 30);
    let script = "tty; read word; exit $word";
    let run = on(&screen, &c, &["exec", "--tty", &c.id, "sh", "-c", script]);
    screen.until("/dev/pts/");
    screen.type_in("77\r");
    run.wait().exits(77);
}

#[test]
fn the_size_is_there_from_the_beginning() {
    davit_only!("runc 1.1 sets it when the process runs already, or never");
    let c = with_terminal("stty size; read word; while :; do sleep 0.05; done");
    let mut screen = Screen::new(91, 31);
    let bundle = c.path("bundle");
    let run = on(&screen, &c, &["run", "--bundle", &bundle, &c.id]);
    screen.until("31 91\r\n");
    screen.type_in("\r");
    let mut other = Screen::new(92, 32);
    let exec = on(&other, &c, &["exec", "--tty", &c.id, "stty", "size"]);
    assert_eq!(other.until("\r\n"), "32 92\r\n");
    exec.wait().exits(0);
    c.kill("KILL").exits(0);
    run.wait().exits(137);
}

/// A size in which nothing has room is none: the caller's terminal has one.
#[test]
fn no_size_is_that_of_the_callers_terminal() {
    spec!();
    fails_with!("crun", "1.8 has no size here");
    let c = with_terminal("sleep 0.3; stty size")
        .with(|c| c["process"]["consoleSize"] = json!({ "height": 0, "width": 0 }));
    let mut screen = Screen::new(83, 21);
    let run = on(&screen, &c, &["run", "--bundle", &c.path("bundle"), &c.id]);
    screen.until("21 83");
    run.wait();
}

#[test]
fn exec_with_a_console_socket() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    let console = Console::listen(&c.dir().join("socket"));
    let options = ["--tty", "--detach", "--console-socket", &c.path("socket")];
    c.exec_with(&options, &["sh", "-c", "test -t 1 && echo on a terminal"]).ok();
    assert!(console.end().ends_with("\non a terminal\n"));
}
