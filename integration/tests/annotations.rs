//! Annotations that mean something: each does what docs/annotations.md says, and `features` has the
//! same list.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use integration::*;

const DOCS: &str = include_str!("../../docs/annotations.md");

fn annotated(script: &str, name: &str, value: &str) -> Container {
    Container::sh(script).with(|c| c["annotations"] = json!({ name: value }))
}

#[test]
fn the_document_and_features_have_the_same_list() {
    davit_only!("a document of davit");
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert!(documented.len() > 5, "{documented:?}");
    let features = Container::new(&["true"]).call(&["features"]).done().ok().json();
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], json!(documented));
    assert_eq!(features["annotations"]["run.davit.config.annotations"], documented.join(","));
}

#[test]
fn what_means_nothing_is_refused_by_name() {
    davit_only!("crun ignores most of it");
    for (name, values) in [
        ("run.oci.keep_original_groups", &["", "yes"][..]),
        ("run.oci.mount_context_type", &["", "label"]),
        ("run.oci.hooks.stdout", &["", "relative"]),
        ("run.oci.hooks.stderr", &["", "relative"]),
        ("run.oci.delegate-cgroup", &["", "/", "..", "a/b"]),
    ] {
        for value in values {
            annotated("true", name, value).run().refuses(&[name]);
        }
    }
}

const CALLER: [&str; 3] = ["setpriv", "--groups", "2001,2002"];

#[test]
fn the_callers_groups_stay_where_that_is_asked_for() {
    davit_only!("runc does not know it, and crun refuses hybrid hosts");
    let groups = |value: &str| {
        let c = annotated("id -G", "run.oci.keep_original_groups", value).by(&CALLER);
        let c = c.with(|c| c["process"]["user"]["additionalGids"] = json!([33]));
        c.run()
    };
    assert_eq!(groups("0").ok().out, "0 33\n");
    let kept = groups("1").warns(&["process.user.additionalGids: not set"]);
    assert_eq!(kept.out, "0 2001 2002\n");
    let c = Container::sleeper().by(&CALLER);
    let c = c.with(|c| c["annotations"] = json!({ "run.oci.keep_original_groups": "1" }));
    c.create().start();
    assert_eq!(c.ask("id -G"), "0 2001 2002\n");
}

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Hooks of all kinds that say their name to both streams.
fn talkative(outputs: Value) -> Container {
    Container::sh("sleep 0.2").with(|c| {
        c["annotations"] = outputs;
        for kind in KINDS {
            let script = format!("echo {kind}; echo {kind} error >&2");
            c["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        }
    })
}

#[test]
fn hooks_print_to_files() {
    davit_only!("runc does not know it, and crun refuses hybrid hosts");
    let c = talkative(json!({}));
    let (out, err) = (c.path("hooks.out"), c.path("hooks.err"));
    fs::write(&out, "before\n").expect("write");
    let c = c.with(|c| {
        c["annotations"] = json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err });
    });
    c.run().ok();
    let expected = |end: &str| KINDS.map(|kind| format!("{kind}{end}\n")).concat();
    assert_eq!(fs::read_to_string(&out).expect("read"), format!("before\n{}", expected("")));
    assert_eq!(fs::read_to_string(&err).expect("read"), expected(" error"));
    let mode = fs::metadata(&err).expect("stat").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_failed_hook_still_shows_what_went_to_no_file() {
    davit_only!("runc does not know it, and crun refuses hybrid hosts");
    let c = Container::new(&["true"]);
    let out = c.path("hooks.out");
    let c = c.with(|c| {
        c["annotations"] = json!({ "run.oci.hooks.stdout": out });
        let script = "echo to the file; echo to the message >&2; exit 3";
        c["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let run = c.run().refuses(&["createRuntime", "exit status 3", "to the message"]);
    assert!(!run.err.contains("to the file"), "{run:?}");
    assert_eq!(fs::read_to_string(&out).expect("read"), "to the file\n");
}

#[test]
fn no_trick_leads_to_another_file() {
    davit_only!("crun opens what there is");
    let c = talkative(json!({}));
    let (victim, link) = (c.path("victim"), c.path("link"));
    fs::write(&victim, "").expect("write");
    symlink(&victim, &link).expect("symlink");
    let fifo = c.path("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let directory = c.path("io");
    let missing = c.path("no/such/file");
    for path in [&link, &fifo, &directory, &missing, &"/dev/null".to_owned()] {
        for name in ["run.oci.hooks.stdout", "run.oci.hooks.stderr"] {
            let c = talkative(json!({ name: path }));
            c.run().refuses(&["output of hooks", path]);
        }
    }
    assert_eq!(fs::read_to_string(&victim).expect("read"), "");
}

/// Why there is no cgroup v2 to delegate, if so.
fn no_v2() -> Option<&'static str> {
    let there = std::path::Path::new("/sys/fs/cgroup/unified").exists();
    (!there && !host::has_pure_cgroup_v2()).then_some("no cgroup v2 here")
}

#[test]
fn a_cgroup_of_the_containers_own() {
    davit_only!("crun has it with the systemd driver only");
    skip_if!(no_v2());
    for (name, namespace) in [("payload", true), ("/payload", false)] {
        let c = Container::sleeper().by(&host::PURE_V2).with(|c| {
            c["annotations"] = json!({ "run.oci.delegate-cgroup": name });
            if namespace {
                config::set_namespace(c, "cgroup", None);
            }
        });
        c.create().start();
        let place = if namespace { String::new() } else { format!("/{}", c.id) };
        let expected = format!("0::{place}/payload\n");
        let place = "grep ^0:: /proc/1/cgroup; grep ^0:: /proc/self/cgroup";
        assert_eq!(c.ask(place), expected.repeat(2));
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn it_can_be_managed_by_an_unprivileged_container() {
    davit_only!("crun has it with the systemd driver only");
    skip_if!(no_v2());
    let script = "cd /sys/fs/cgroup/payload && mkdir leaf && echo 1 >leaf/cgroup.procs && cat leaf/cgroup.procs; \
                  cat /proc/self/cgroup | grep ^0::";
    let c = Container::sh(script).by(&host::PURE_V2).with(|c| {
        c["annotations"] = json!({ "run.oci.delegate-cgroup": "payload" });
        config::set_userns(c, 100_000, 65536);
        config::set_namespace(c, "cgroup", None);
        config::drop_mount(c, "/sys/fs/cgroup");
        config::add_mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    });
    let run = c.run().ok();
    assert_eq!(run.lines().first(), Some(&"1"), "{run:?}");
    assert!(run.out.ends_with("0::/payload/leaf\n"), "{run:?}");
}

#[test]
fn where_there_is_no_cgroup_to_delegate_it_is_refused() {
    davit_only!("crun has it with the systemd driver only");
    let name = "run.oci.delegate-cgroup";
    let c = annotated("true", name, "payload").global(&["--cgroup-manager", "disabled"]);
    c.run().refuses(&[name, "disabled"]);
    skip_if!((!host::has_cgroup_v1()).then_some("needs a cgroup v1 or hybrid host"));
    annotated("true", name, "payload").run().refuses(&[name, "cgroup v2"]);
}
