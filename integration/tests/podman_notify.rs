//! `podman run --sdnotify=container`: the container's word goes through conmon's socket to the
//! service manager.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use integration::podman::Podman;
use integration::*;

/// Lines of the messages up to the one that says this.
#[track_caller]
fn until(manager: &UnixDatagram, word: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    while !lines.iter().any(|line| line == word) {
        let mut text = [0; 4096];
        let length = manager.recv(&mut text).unwrap_or_else(|error| panic!("{error}: {lines:?}"));
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

fn manager(p: &Podman) -> (UnixDatagram, String) {
    let path = p.path("manager");
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    (socket, path)
}

#[test]
fn the_container_says_when_it_is_ready() {
    let p = podman!();
    let (socket, address) = manager(&p);
    let say = format!("{}:/bin/say:ro", probe::compile("say", probe::SAY).display());
    let options = ["-d", "--name", "ready", "--sdnotify=container", "-v", &say];
    let script = "echo $NOTIFY_SOCKET; /bin/say READY=1; exec sleep 1000";
    let run = p.run_call(&options, &["sh", "-c", script]).env("NOTIFY_SOCKET", &address);
    let run = run.spawn();
    until(&socket, "READY=1");
    run.wait().ok();
    let log = p.podman(&["logs", "ready"]).ok();
    assert_eq!(log.out, "/run/notify/notify.sock\n");
    p.podman(&["rm", "-f", "-t", "0", "ready"]).ok();
}

#[test]
fn conmon_says_so_where_the_container_is_not_asked() {
    let p = podman!();
    let (socket, address) = manager(&p);
    let options = ["-d", "--name", "quiet", "--sdnotify=conmon"];
    let script = "echo \"<$NOTIFY_SOCKET>\"; exec sleep 1000";
    let run = p.run_call(&options, &["sh", "-c", script]).env("NOTIFY_SOCKET", &address);
    run.done().ok();
    let lines = until(&socket, "READY=1");
    assert!(lines.iter().any(|line| line.starts_with("MAINPID=")), "{lines:?}");
    assert_eq!(p.podman(&["logs", "quiet"]).ok().out, "<>\n");
    p.podman(&["rm", "-f", "-t", "0", "quiet"]).ok();
}
