//! An unprivileged user's containers: a user namespace with the one id that every user may map.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use integration::*;

const UID: u32 = 4711;

/// The words that make root an unprivileged user; none if we are one already.
fn as_user() -> Vec<&'static str> {
    if nix::unistd::geteuid().is_root() {
        vec!["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "--inh-caps=-all"]
    } else {
        vec![]
    }
}

/// Why an unprivileged user cannot run containers here, if so.
fn impossible() -> Option<String> {
    if runtime::runtime().name == "crun" && host::has_cgroup_v1() {
        return Some(
            "crun refuses hybrid hosts, and an unprivileged user cannot change that".into(),
        );
    }
    let words = as_user();
    let mut all = words.clone();
    all.extend(["unshare", "-U", "-r", "true"]);
    if !Command::new(all[0]).args(&all[1..]).status().is_ok_and(|status| status.success()) {
        return Some("no user namespaces for unprivileged users here".into());
    }
    let mut all = words;
    all.extend(["test", "-x"]);
    let readable = Command::new("env").args(&all).arg(&runtime::runtime().path).status();
    (!readable.is_ok_and(|status| status.success()))
        .then(|| "other users cannot reach the binary".to_owned())
}

/// A container for that user, with the namespaces and mounts that need no more.
fn rootless(script: &str) -> Container {
    let (uid, gid) = match nix::unistd::geteuid() {
        root if root.is_root() => (UID, UID),
        uid => (uid.as_raw(), nix::unistd::getegid().as_raw()),
    };
    let c = Container::sh(script).with(|c| config::make_rootless(c, uid, gid));
    if nix::unistd::geteuid().is_root() {
        c.give_to(UID);
    }
    c
}

fn run(c: &Container, options: &[&str]) -> Outcome {
    c.write();
    if nix::unistd::geteuid().is_root() {
        chown(c.bundle().join("config.json"), Some(UID), Some(UID)).expect("chown");
    }
    let run =
        c.through_with_bundle(&as_user(), "run", options).env("XDG_RUNTIME_DIR", c.path("")).done();
    c.assert_nothing_left();
    run
}

#[test]
fn runs() {
    skip_if!(impossible());
    let c = rootless(
        "id -u; hostname; cat /proc/self/uid_map | tr -s ' '; echo x >/dev/null && touch /file && echo wrote",
    );
    let run = run(&c, &[]).ok();
    assert_eq!(run.lines()[..2], ["0", "davit"]);
    assert!(run.out.ends_with("wrote\n"), "{run:?}");
    assert!(c.rootfs().join("file").exists());
}

#[test]
fn exit_codes_and_errors() {
    skip_if!(impossible());
    run(&rootless("exit 7"), &[]).exits(7);
    let c = rootless("true").with(|c| c["process"]["args"] = json!(["nosuch"]));
    run(&c, &[]).refuses(&["exec: \"nosuch\": executable file not found in $path"]);
}

#[test]
fn create_exec_delete() {
    skip_if!(impossible());
    let c = rootless("while :; do sleep 0.05; done");
    c.write();
    let as_user = as_user();
    let call =
        |words: &[&str]| c.call_through(&as_user, words).env("XDG_RUNTIME_DIR", c.path("")).done();
    call(&["create", "--bundle", &c.path("bundle"), &c.id]).ok();
    call(&["start", &c.id]).ok();
    assert_eq!(call(&["exec", &c.id, "id", "-u"]).ok().out, "0\n");
    call(&["kill", &c.id, "KILL"]).ok();
    call(&["delete", "--force", &c.id]).exits(0);
    c.assert_nothing_left();
}

#[test]
fn ids_that_are_not_mapped_are_refused() {
    skip_if!(impossible());
    let c = rootless("true").with(|c| c["process"]["user"]["uid"] = 5.into());
    run(&c, &[]).refuses(&["process.user.uid"]);
    let more = rootless("true").with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 10 }])
    });
    run(&more, &[]).refuses(&[]);
}

/// The ids of the caller are found without config.json naming them, as crun finds them.
#[test]
fn a_user_namespace_comes_by_itself() {
    skip_if!(impossible());
    skip_if!(skip::fails_with("runc", "asks for a user namespace in config.json"));
    let c = rootless("cat /proc/self/uid_map | tr -s ' '").with(|c| {
        config::drop_namespace(c, "user");
        c["linux"].as_object_mut().expect("linux").remove("uidMappings");
        c["linux"].as_object_mut().expect("linux").remove("gidMappings");
    });
    let uid = if nix::unistd::geteuid().is_root() { UID } else { nix::unistd::geteuid().as_raw() };
    let run = run(&c, &[]).ok();
    assert!(run.out.starts_with(&format!(" 0 {uid} 1\n")), "{run:?}");
}

/// Who shares the host's network cannot mount a sysfs, and gets the host's.
#[test]
fn sysfs_without_a_network_namespace() {
    skip_if!(impossible());
    skip_if!(skip::fails_with("runc", "leaves it to engines to replace the mount"));
    let script = "test -e /sys/class/net/lo && ! touch /sys/file 2>/dev/null && echo mounted";
    let c = rootless(script).with(|c| {
        config::drop_namespace(c, "network");
        config::drop_mount(c, "/sys");
        config::add_mount(c, "/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    });
    assert_eq!(run(&c, &[]).ok().out, "mounted\n");
}

#[test]
fn what_the_host_locks_stays_locked() {
    skip_if!(impossible());
    skip_if!(skip::needs_root());
    let run = |script: &str, options: &[&str]| {
        let c = rootless(script).with(|c| config::add_mount(c, "/locked", "bind", "/mnt", options));
        c.write();
        let mount = "mount -t tmpfs -o nosuid,nodev,noexec tmpfs /mnt && exec \"$@\"";
        let before = [&["unshare", "-m", "sh", "-c", mount, "sh"][..], &as_user()].concat();
        c.through_with_bundle(&before, "run", &[]).env("XDG_RUNTIME_DIR", c.path("")).done()
    };
    let script = "grep ' /locked ' /proc/self/mountinfo | cut -d ' ' -f 6";
    let kept = run(script, &["rbind", "rw"]).ok();
    assert!(kept.out.contains("nosuid,nodev,noexec"), "{kept:?}");
    skip_if!(skip::needs_davit("runc 1.1 lets it be without a word"));
    run("true", &["rbind", "dev"])
        .refuses(&["/locked", "nodev is locked by the parent user namespace"]);
}

/// What podman and slirp4netns want: a node that this user cannot make is the host's.
#[test]
fn devices_are_the_hosts() {
    skip_if!(impossible());
    let path = ["/dev/net/tun", "/dev/fuse", "/dev/kmsg"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|there| there));
    let Some(path) = path else {
        return skip::say(&test_name!(), "none of the devices is here");
    };
    let device = fs::metadata(path).expect("stat").rdev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let c = rootless(&format!("stat -c '%F %t:%T' {path}")).with(|c| {
        c["linux"]["devices"] =
            json!([{ "path": path, "type": "c", "major": major, "minor": minor }]);
    });
    let run = run(&c, &[]).ok();
    assert_eq!(run.out, format!("character special file {major:x}:{minor:x}\n"));
}

#[test]
fn ephemeral_roots() {
    skip_if!(impossible());
    skip_if!(skip::needs_davit("an option of davit"));
    let c = rootless("echo x >/new; cat /new; rm /etc/passwd; ls /etc");
    assert_eq!(run(&c, &["--ephemeral"]).ok().out, "x\ngroup\n");
    assert!(!c.rootfs().join("new").exists());
}

#[test]
fn layers() {
    skip_if!(impossible());
    skip_if!(skip::needs_davit("an annotation of davit"));
    let c = rootless("cat /layer; echo x >/new; cat /new");
    fs::create_dir(c.path("upper")).expect("mkdir");
    fs::write(c.path("upper/layer"), "a layer\n").expect("write");
    let layers = format!("{}:{}", c.path("upper"), c.path("bundle/rootfs"));
    let c = c.with(|c| {
        c["annotations"] =
            json!({ "run.davit.root.layers": layers, "run.davit.root.ephemeral": "true" })
    });
    assert_eq!(run(&c, &[]).ok().out, "a layer\nx\n");
}

#[test]
fn limits_without_a_cgroup_are_refused() {
    // The cgroup of an unprivileged user's session may be delegated; root's is not the user's.
    skip_if!(skip::needs_root());
    skip_if!(impossible());
    let c = rootless("true").with(|c| c["linux"]["resources"] = json!({ "pids": { "limit": 5 } }));
    run(&c, &[]).refuses(&["linux.resources.pids"]);
}

/// C16: in a cgroup that has been delegated, a limit gets one beside the caller's own, as with
/// runc.
#[test]
fn a_limit_makes_a_cgroup_beside_the_callers() {
    skip_if!(skip::needs_davit("crun 1.8 does without a cgroup, and without the limit"));
    skip_if!(skip::needs_root());
    skip_if!(impossible());
    let top = if host::has_pure_cgroup_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
    skip_if!((!Path::new(top).exists()).then_some("no cgroup v2 here"));
    let name = unique();
    let delegated = format!("{name}/user");
    let script = format!(
        "mount -t cgroup2 none /sys/fs/cgroup && cd /sys/fs/cgroup && mkdir -p {delegated}/session && \
         chown -R {UID}:{UID} {delegated} && echo $$ >{delegated}/session/cgroup.procs && cd / && exec \"$@\""
    );
    let prefix = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    let by = [&prefix[..], &as_user()].concat();
    let c = rootless("exec sleep 60").with(|c| {
        c["linux"]["resources"] = json!({ "unified": { "cgroup.max.descendants": "7" } });
    });
    c.write();
    chown(c.bundle().join("config.json"), Some(UID), Some(UID)).expect("chown");
    let create = c.through_with_bundle(&by, "create", &[]).done();
    let own = format!("{top}/{delegated}/{}", c.id);
    let limit = fs::read_to_string(format!("{own}/cgroup.max.descendants"));
    let start = c.call_through(&by, &["start", &c.id]).done();
    let exec = c.call_through(&by, &["exec", &c.id, "grep", "^0::", "/proc/self/cgroup"]).done();
    let delete = c.call_through(&by, &["delete", "--force", &c.id]).done();
    let gone = !Path::new(&own).exists();
    for level in ["/user/session", "/user", ""] {
        fs::remove_dir(format!("{top}/{name}{level}")).expect("rmdir");
    }
    create.exits(0);
    assert_eq!(limit.expect("the limit").trim(), "7");
    start.ok();
    assert_eq!(exec.ok().out, format!("0::/{delegated}/{}\n", c.id));
    delete.ok();
    assert!(gone, "{own} is still there");
}

#[test]
fn readiness_and_mounts_of_a_container_that_lives() {
    skip_if!(impossible());
    skip_if!(skip::needs_davit("one of the commands is only in davit"));
    let script = "/bin/say READY=1; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let c = rootless(script).with_files(|root| probe::install(root, "say", probe::SAY));
    c.write();
    let (as_user, address) = (as_user(), c.path("manager"));
    let manager = std::os::unix::net::UnixDatagram::bind(&address).expect("bind");
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("timeout");
    fs::set_permissions(&address, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("chmod");
    let call = |words: &[&str]| {
        let call = c.call_through(&as_user, words).env("XDG_RUNTIME_DIR", c.path(""));
        call.env("NOTIFY_SOCKET", &address)
    };
    call(&["create", "--bundle", &c.path("bundle"), &c.id]).done().ok();
    let start = call(&["start", &c.id]).spawn();
    let mut text = [0; 256];
    let length = manager.recv(&mut text).expect("a word");
    let text = String::from_utf8_lossy(&text[..length]);
    assert!(text.starts_with("MAINPID=") && text.ends_with("\nREADY=1\n"), "{text:?}");
    // The barrier, whose descriptor is closed because there is no room for it.
    manager.recv(&mut [0; 256]).expect("a barrier");
    start.wait().ok();
    let add = |mount: Value| {
        call(&["mounts", "add", &c.id, "-"]).input(&json!([mount]).to_string()).done()
    };
    add(config::mount("/mnt/x", "tmpfs", "tmpfs", &["size=64k"])).ok();
    let seen = call(&["exec", &c.id, "stat", "-f", "-c", "%T", "/mnt/x"]).done().ok();
    assert_eq!(seen.out, "tmpfs\n");
    let bind = config::mount("/mnt/y", "bind", "/etc", &["bind"]);
    add(bind).refuses(&["mounts[0].source", "/etc", "unprivileged user"]);
    call(&["delete", "--force", &c.id]).done().exits(0);
    c.assert_nothing_left();
}
