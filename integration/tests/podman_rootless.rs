//! podman as an unprivileged user: the runtime is then root of a user namespace, and of nothing
//! else.

use std::fs;
use std::os::unix::fs::MetadataExt;

use integration::podman::{self, Podman, USER};
use integration::terminal::Screen;
use integration::*;

/// Makes a [`Podman`] of an unprivileged user, or ends the test where there can be none.
macro_rules! rootless {
    () => {{
        spec!();
        skip_if!(podman::missing_for_users());
        Podman::rootless()
    }};
}

const MAPS: &str = "id -u; id -g; tr -s ' ' </proc/self/uid_map";

#[test]
fn a_container() {
    let p = rootless!();
    let run = p.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    assert_eq!(p.sh(&[], MAPS), format!("0\n0\n 0 {USER} 1\n 1 500000 65536\n"));
    assert_eq!(p.sh(&["--user", "bob"], "id -u; echo $HOME"), "1000\n/home/bob\n");
    p.run(&[], &["nosuch"]).exits(127);
    p.run(&[], &["/etc/passwd"]).exits(126);
    p.assert_nothing_left();
}

/// The user is himself inside; his files are his, and what he writes is his outside.
#[test]
fn keep_id() {
    let p = rootless!();
    let seen = p.sh(&["--userns=keep-id"], MAPS);
    assert!(seen.starts_with(&format!("{USER}\n{USER}\n 0 1 {USER}\n")), "{seen}");
    let volume = format!("{}:/x", p.path("user"));
    p.sh(&["--userns=keep-id", "--volume", &volume], "echo mine >/x/new");
    let new = fs::metadata(p.path("user/new")).expect("written");
    assert_eq!((new.uid(), new.gid()), (USER, USER));
}

#[test]
fn options() {
    let p = rootless!();
    for (options, script, expected) in [
        (&["--cap-drop", "all"][..], "grep CapEff /proc/self/status | cut -c24-", "0\n"),
        (&["--read-only"], "{ echo >/f; } 2>&1 | grep -o 'Read-only.*'", "Read-only file system\n"),
        (&["--tmpfs", "/mnt"], "stat -f -c %T /mnt", "tmpfs\n"),
        (&["--hostname", "abc"], "hostname", "abc\n"),
        (&["--init"], "cat /proc/1/comm", "podman-init\n"),
        (&["--device", "/dev/zero:/dev/mine"], "head -c 3 /dev/mine | wc -c", "3\n"),
        (&["--sysctl", "kernel.msgmax=9000"], "cat /proc/sys/kernel/msgmax", "9000\n"),
        (
            &["--security-opt", "no-new-privileges"],
            "grep -c 'NoNewPrivs:.1' /proc/self/status",
            "1\n",
        ),
        (&["--privileged"], "mount -t tmpfs none /mnt && stat -f -c %T /mnt", "tmpfs\n"),
        (&["--pid=host", "--net=host"], "echo far from alone", "far from alone\n"),
        (&["--uidmap", "0:1:100", "--gidmap", "0:1:100"], "id -u", "0\n"),
    ] {
        assert_eq!(p.sh(options, script), expected, "{options:?}");
    }
    p.assert_nothing_left();
}

#[test]
fn life() {
    let p = rootless!();
    p.sleeper("box", &[]);
    assert_eq!(p.exec(&[], "box", &["id", "-u"]).ok().out, "0\n");
    assert_eq!(p.exec(&["--user", "bob"], "box", &["id", "-u"]).ok().out, "1000\n");
    p.exec(&[], "box", &["nosuch"]).exits(127);
    p.podman(&["restart", "--time", "20", "box"]).ok();
    p.podman(&["stop", "--time", "20", "box"]).ok();
    assert_eq!(p.inspect("box", "{{.State.Status}}"), "exited");
    p.podman(&["rm", "box"]).ok();
    p.assert_nothing_left();
}

#[test]
fn a_terminal() {
    let p = rootless!();
    let mut screen = Screen::new(77, 22);
    // The terminal is the user's, as after a login.
    std::os::unix::fs::chown(&screen.path, Some(USER), None).expect("chown");
    // podman may set the size only after the program has begun; until then there is none.
    let script = "tty; until stty size 2>/dev/null; do sleep 0.05; done";
    let call = p.run_call(&["--rm", "--tty"], &["sh", "-c", script]);
    let run = call.stdio(&screen.slave()).spawn();
    let seen = screen.until("22 77");
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    run.wait().exits(0);
}
