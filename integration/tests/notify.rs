//! `NOTIFY_SOCKET`: the container's `READY=1` reaches the service manager (sd_notify(3)), and
//! nothing else of it.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use integration::call::within;
use integration::*;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// A container that says what the script says, and then waits for its end.
fn speaker(script: &str) -> Container {
    let wait = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    Container::sh(&format!("{script}; {wait}"))
        .with_files(|root| probe::install(root, "say", probe::SAY))
}

/// The service manager's side.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn at_path(c: &Container) -> Self {
        let address = c.path("manager");
        Self::new(UnixDatagram::bind(&address).expect("bind"), address)
    }

    fn abstract_name(c: &Container) -> Self {
        let address = SocketAddr::from_abstract_name(&c.id).expect("a name");
        Self::new(UnixDatagram::bind_addr(&address).expect("bind"), format!("@{}", c.id))
    }

    fn new(socket: UnixDatagram, address: String) -> Self {
        socket.set_nonblocking(true).expect("nonblocking");
        Self { socket, address }
    }

    /// The next message and the descriptor that comes with it.
    fn next(&self) -> Option<(String, Option<RawFd>)> {
        let mut text = [0; 256];
        let mut data = [IoSliceMut::new(&mut text)];
        let mut space = nix::cmsg_space!([i32; 4]);
        let flags = MsgFlags::empty();
        let message =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut data, Some(&mut space), flags).ok()?;
        let fd = message.cmsgs().expect("control").find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let length = message.bytes;
        Some((String::from_utf8_lossy(&text[..length]).into_owned(), fd))
    }

    /// The lines of all messages up to the barrier, which is then opened.
    #[track_caller]
    fn until_barrier(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let end = within(Duration::from_secs(10), || {
            let (text, fd) = self.next()?;
            lines.extend(text.lines().map(str::to_owned));
            (text.trim() == "BARRIER=1").then(|| fd.expect("a descriptor"))
        });
        let Some(fd) = end else { panic!("no barrier: {lines:?}") };
        nix::unistd::close(fd).expect("close");
        lines.sort();
        lines
    }

    #[track_caller]
    fn silent(&self) {
        assert!(self.next().is_none(), "something was said");
    }
}

fn expected(pid: i32) -> Vec<String> {
    vec!["BARRIER=1".to_owned(), format!("MAINPID={pid}"), "READY=1".to_owned()]
}

#[test]
fn start_returns_when_the_container_is_ready() {
    davit_only!("Debian's runc and crun are older than the barrier");
    let c = speaker("sleep 0.3; /bin/say STATUS=starting MAINPID=1 READY=1");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    let start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address);
    let began = Instant::now();
    let mut start = start.spawn();
    assert_eq!(manager.until_barrier(), expected(c.pid()));
    assert!(began.elapsed() >= Duration::from_millis(200), "too early");
    assert!(within(Duration::from_secs(10), || start.ended().then_some(())).is_some());
    start.wait().ok();
    manager.silent();
}

#[test]
fn it_waits_for_the_barrier() {
    davit_only!("Debian's runc and crun are older than the barrier");
    let c = speaker("/bin/say READY=1");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    let mut start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    let barrier = within(Duration::from_secs(10), || {
        let (text, fd) = manager.next()?;
        text.contains("BARRIER=1").then_some(fd?)
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!start.ended(), "it did not wait");
    nix::unistd::close(barrier.expect("a barrier")).expect("close");
    start.wait().ok();
}

#[test]
fn a_detached_run_waits_too_and_abstract_addresses_are_taken() {
    davit_only!("Debian's runc and crun are older than the barrier");
    let c = speaker("sleep 0.1; /bin/say READY=1");
    let manager = Manager::abstract_name(&c);
    let run = c.run_call(&["--detach"]).env("NOTIFY_SOCKET", &manager.address).spawn();
    let lines = manager.until_barrier();
    run.wait().ok();
    assert_eq!(lines, expected(c.pid()));
}

#[test]
fn run_in_the_foreground_passes_it_on() {
    davit_only!("runc waits for a pid of 0 here");
    let c = speaker("sleep 0.1; /bin/say READY=1");
    let manager = Manager::at_path(&c);
    let run = c.run_call(&[]).env("NOTIFY_SOCKET", &manager.address).spawn();
    let word = within(Duration::from_secs(10), || manager.next()).expect("a word");
    assert_eq!(word.0, format!("MAINPID={}\nREADY=1\n", c.pid()));
    c.kill("TERM").ok();
    run.wait().exits(0);
    manager.silent();
}

#[test]
fn a_container_that_ends_is_not_waited_for() {
    spec!();
    let c = Container::sh("exit 3");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    manager.silent();
}

#[test]
fn a_container_that_never_gets_ready_can_be_killed_and_deleted() {
    davit_only!("promised by davit only");
    let c = speaker("/bin/say STATUS=starting");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    let mut start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    c.until_status("running");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!start.ended());
    c.delete().ok();
    start.wait().ok();
    manager.silent();
    c.assert_nothing_left();
}

#[test]
fn other_users_of_the_container_may_speak_and_nobody_may_change_the_directory() {
    davit_only!("Debian's runc and crun are older than the barrier");
    let c = speaker("touch /run/notify/x 2>/dev/null && echo writable; /bin/say READY=1")
        // No process of the user namespace could make it in this root.
        .with_files(|root| std::fs::create_dir_all(root.join("run/notify")).expect("mkdir"))
        .with(|c| {
            c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config::set_userns(c, 100_000, 65536);
        });
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    let start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    assert_eq!(manager.until_barrier(), expected(c.pid()));
    start.wait().ok();
    assert_eq!(c.output(), "");
}

#[test]
fn what_is_no_address_is_refused() {
    davit_only!("other runtimes fail late, or not at all");
    let c = Container::new(&["true"]);
    for bad in ["vsock:2:1234", "relative", &format!("/{}", "x".repeat(200))] {
        c.run_call(&[]).env("NOTIFY_SOCKET", bad).done().refuses(&["NOTIFY_SOCKET"]);
    }
    c.assert_nothing_left();
    c.run_call(&[]).env("NOTIFY_SOCKET", "").done().ok();
}

/// Without a listener the container runs all the same, with a warning.
#[test]
fn a_service_manager_that_does_not_listen_stops_no_container() {
    davit_only!("crun 1.8 goes on in silence");
    let c = speaker("/bin/say READY=1; echo said");
    let log = c.path("log");
    let c = c.global(&["--log", &log, "--log-level", "warning"]);
    let nothing = c.path("nobody");
    let closed = c.path("closed");
    drop(UnixDatagram::bind(&closed).expect("bind"));
    let stream = c.path("stream");
    let _listener = std::os::unix::net::UnixListener::bind(&stream).expect("bind");
    for nobody in [nothing.as_str(), &closed, &stream, "@davit-nobody-listens-here"] {
        let warned = |command: &str| {
            let text = std::fs::read_to_string(&log).expect("log");
            let warning = text.lines().find(|line| line.contains("NOTIFY_SOCKET"));
            let warning =
                warning.unwrap_or_else(|| panic!("{command} {nobody}: no warning: {text}"));
            let name = nobody.trim_start_matches('@');
            assert!(warning.contains(name) && warning.contains("connect"), "{warning}");
            std::fs::remove_file(&log).expect("log");
        };
        c.create_call(&[]).env("NOTIFY_SOCKET", nobody).done().exits(0);
        c.call(&["start", &c.id]).env("NOTIFY_SOCKET", nobody).done().exits(0);
        assert_eq!(c.status(), "running");
        warned("start");
        c.call(&["delete", "--force", &c.id]).done().exits(0);
        c.run_call(&["--detach"]).env("NOTIFY_SOCKET", nobody).done().exits(0);
        assert_eq!(c.status(), "running");
        warned("run --detach");
        c.kill("TERM").exits(0);
        c.call(&["delete", "--force", &c.id]).done().exits(0);
    }
    let c = Container::new(&["true"]);
    c.run_call(&[]).env("NOTIFY_SOCKET", &nothing).done().exits(0);
    c.assert_nothing_left();
}

/// One that goes while it is waited for takes no container with it.
#[test]
fn a_service_manager_that_goes_away_takes_no_container_along() {
    davit_only!("promised by davit only");
    for command in [&["start"][..], &["run", "--detach"]] {
        let c = speaker("while [ ! -e /tmp/go ]; do sleep 0.05; done; /bin/say READY=1");
        let shared = c.path("shared");
        std::fs::create_dir(&shared).expect("directory");
        let c = c.with(|c| config::add_mount(c, "/tmp", "bind", &shared, &["bind"]));
        let manager = Manager::at_path(&c);
        let waiting = match command {
            ["start"] => {
                c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
                c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn()
            }
            _ => c.run_call(&["--detach"]).env("NOTIFY_SOCKET", &manager.address).spawn(),
        };
        let running = || c.call(&["state", &c.id]).done().out.contains("\"running\"");
        within(Duration::from_secs(10), || running().then_some(())).expect("a container");
        drop(manager);
        std::fs::write(format!("{shared}/go"), "").expect("file");
        waiting.wait().exits(0);
        assert_eq!(c.status(), "running", "{command:?}");
        c.call(&["delete", "--force", &c.id]).done().exits(0);
    }
}

#[test]
fn a_start_that_was_killed_leaves_no_obstacle_and_no_trace() {
    davit_only!("promised by davit only");
    let c = speaker("/bin/say READY=1");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    std::os::unix::net::UnixDatagram::bind(c.state_root().join(&c.id).join("notify/notify.sock"))
        .expect("a socket that was left");
    let start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    assert_eq!(manager.until_barrier(), expected(c.pid()));
    start.wait().ok();
}

#[test]
fn a_process_with_a_socket_of_its_own_keeps_it() {
    davit_only!("runc puts its own over it");
    let c = Container::sh("echo $NOTIFY_SOCKET").with(|c| {
        config::push(&mut c["process"]["env"], json!("NOTIFY_SOCKET=/run/engine.sock"));
    });
    let manager = Manager::at_path(&c);
    let run = c.run_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    assert_eq!(run.out, "/run/engine.sock\n");
}

#[test]
fn a_barrier_of_the_containers_own_opens() {
    davit_only!("Debian's runc and crun are older than the barrier");
    // What systemd-notify does: a pipe's end goes with the message, and the other end waits for its
    // closing.
    let source = r#"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
    int p[2], fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    pipe(p);
    char control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec text = { "BARRIER=1", 9 };
    struct msghdr m = { &to, sizeof to, &text, 1, control, sizeof control, 0 };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p[1], sizeof(int));
    if (sendmsg(fd, &m, 0) < 0) { perror("sendmsg"); return 1; }
    close(p[1]);
    struct pollfd w = { p[0], POLLIN, 0 };
    puts(poll(&w, 1, 5000) == 1 ? "open" : "shut");
    return 0;
}
"#;
    let c = speaker("/bin/barrier; /bin/say READY=1")
        .with_files(|root| probe::install(root, "barrier", source));
    let manager = Manager::at_path(&c);
    c.create_call(&[]).env("NOTIFY_SOCKET", &manager.address).done().ok();
    let start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    manager.until_barrier();
    start.wait().ok();
    assert_eq!(c.output(), "open\n");
}

#[test]
fn explain_shows_the_mount_of_the_socket() {
    davit_only!("runc and crun have no explain");
    let c = speaker("true");
    let manager = Manager::at_path(&c);
    c.write();
    let explain = || c.call(&["explain", &c.path("bundle")]);
    let text = explain().env("NOTIFY_SOCKET", &manager.address).done().ok().out;
    assert!(
        text.contains("/ID/notify\" at \"/run/notify\"") || text.contains("/run/notify"),
        "{text}"
    );
    assert!(!explain().done().ok().out.contains("/run/notify"));
}

/// It was ready before: `restore` does not wait, and tells the service manager nothing.
#[test]
fn a_restored_container_has_been_ready() {
    criu!();
    davit_only!("Debian's runc waits for another READY=1");
    let c = speaker("/bin/say READY=1");
    let manager = Manager::at_path(&c);
    c.create_call(&[]).silent().env("NOTIFY_SOCKET", &manager.address).done().exits(0);
    let start = c.call(&["start", &c.id]).env("NOTIFY_SOCKET", &manager.address).spawn();
    assert_eq!(manager.until_barrier(), expected(c.pid()));
    start.wait().ok();
    c.checkpoint(&[]);
    for address in [None, Some(manager.address.as_str())] {
        let mut call = c.restore_call(&c.image(), &["--detach"]);
        if let Some(address) = address {
            call = call.env("NOTIFY_SOCKET", address);
        }
        call.stdout(std::process::Stdio::null()).done().exits(0);
        c.until_running();
        manager.silent();
        c.call(&["delete", "--force", &c.id]).done().exits(0);
        c.assert_nothing_left();
    }
}
