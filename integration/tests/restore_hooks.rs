//! Hooks of a container that is checkpointed and restored, and mounts of a running one.

use std::fs;

use integration::config::shell_hook;
use integration::*;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A counter whose hooks each write a line: the kind, the status and the pid in the state on
/// stdin, and the network namespace that they run in.
fn hooked() -> Container {
    let c = Container::counter().with_log();
    let log = c.path("log/all");
    c.with(|c| {
        for kind in KINDS {
            let script = format!(
                "s=$(cat); p=${{s#*'\"pid\":'}}; t=${{s#*'\"status\":'}}; \
                 echo {kind} $(echo $t | cut -d'\"' -f2) $(echo $p | cut -d, -f1) \
                 $(readlink /proc/self/ns/net) >>{log}"
            );
            c["hooks"][kind] = json!([shell_hook(&script)]);
        }
    })
}

/// The lines of the log since the last call.
fn said(c: &Container) -> Vec<String> {
    let log = c.path("log/all");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::write(&log, "");
    text.lines().map(str::to_owned).collect()
}

fn kinds(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

/// At the restore the namespaces are made anew, so what prepares them runs again; the program does
/// not start again. Its end at the checkpoint is the container's.
#[test]
fn each_at_its_moment() {
    criu!();
    let c = hooked();
    c.up();
    c.counts_beyond(3);
    said(&c);
    c.checkpoint(&["--leave-running"]);
    assert!(said(&c).is_empty(), "nothing ends and nothing begins");
    c.checkpoint(&[]);
    assert_eq!(kinds(&said(&c)), ["poststop"]);
    c.restore(&[]);
    let lines = said(&c);
    assert_eq!(kinds(&lines), ["prestart", "createRuntime"]);
    let host = host::namespace("net");
    for line in &lines {
        assert!(line.ends_with(&format!(" {} {host}", c.pid())), "{line}");
    }
    c.counts_beyond(3);
    c.delete().ok();
    assert_eq!(kinds(&said(&c)), ["poststop"]);
}

/// What CNI does: the hook changes the network namespace, which is there, before the program goes
/// on.
#[test]
fn a_hook_enters_the_new_network_namespace() {
    criu!();
    let script = "p=$(cat); p=${p#*'\"pid\":'}; p=${p%%,*}; \
                  nsenter -t $p -n ip addr add 10.9.8.7/32 dev lo";
    let mut hook = shell_hook(script);
    hook["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    let mut c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint(&[]);
    c.config["hooks"]["createRuntime"] = json!([hook]);
    c.restore(&[]).counts_beyond(before);
    assert_eq!(c.ask("ip addr show lo | grep -c 10.9.8.7/32"), "1\n");
}

#[test]
fn a_hook_that_fails_undoes_the_restore() {
    criu!();
    let mut c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint(&[]);
    c.config["hooks"]["createRuntime"] = json!([shell_hook("echo so sorry >&2; exit 3")]);
    c.restore_call(&c.image(), &["--detach"]).done().refuses(&["createRuntime", "so sorry"]);
    c.assert_nothing_left();
    c.config["hooks"] = json!({});
    c.restore(&[]).counts_beyond(before);
}

#[test]
fn a_mount_that_was_added_later_is_named() {
    criu!();
    davit_only!("runc has no such command, and crun refuses hybrid hosts");
    let c = Container::counter();
    c.up();
    let data = c.path("data");
    fs::create_dir(&data).expect("mkdir");
    fs::write(c.path("data/file"), "data\n").expect("write");
    let mounts = json!([
        config::mount("/mnt/data", "bind", &data, &["bind", "ro"]),
        config::mount("/mnt/tmp", "tmpfs", "tmpfs", &["size=64k"]),
    ]);
    fs::write(c.path("mounts.json"), mounts.to_string()).expect("write");
    c.call(&["mounts", "add", &c.id, &c.path("mounts.json")]).done().ok();
    let refused = c.checkpoint_call(&[]).done();
    refused.refuses(&["/mnt/data", "hint:", "mounts remove"]);
    assert_eq!(c.status(), "running");
    c.call(&["mounts", "remove", &c.id, &c.path("mounts.json")]).done().ok();
    c.moves_on();
    assert_eq!(c.ask("ls -A /mnt/data /mnt/tmp 2>&1 | grep -c file; true"), "0\n");
}
