//! `mounts`: sources, destinations, order, kinds; the root itself.

use std::fs;
use std::os::unix::fs::symlink;

use integration::config::{add_mount, drop_mount};
use integration::*;

/// A container and a directory beside its bundle with one file in it.
fn with_source(script: &str) -> (Container, String) {
    let c = Container::sh(script);
    let source = c.path("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(format!("{source}/file"), "content\n").expect("write");
    (c, source)
}

#[test]
fn bind_of_a_directory_and_of_a_file() {
    spec!();
    let (c, source) =
        with_source("cat /mnt/file /etc/passwd; echo more >/mnt/new; echo changed >/etc/passwd");
    let c = c.with(|c| {
        add_mount(c, "/mnt", "bind", &source, &["bind"]);
        add_mount(c, "/etc/passwd", "bind", &format!("{source}/file"), &["bind"]);
    });
    assert_eq!(c.run().ok().out, "content\ncontent\n");
    assert_eq!(fs::read_to_string(format!("{source}/new")).expect("new"), "more\n");
    assert_eq!(fs::read_to_string(format!("{source}/file")).expect("file"), "changed\n");
    assert!(
        fs::read_to_string(c.rootfs().join("etc/passwd")).expect("passwd").starts_with("root:")
    );
}

#[test]
fn destinations_are_made() {
    spec!();
    fails_with!("crun", "makes them sticky");
    let (c, source) = with_source("cat /new/place/file /new/name; stat -c '%a %F' /new /new/place");
    let c = c.with(|c| {
        add_mount(c, "/new/place", "bind", &source, &["bind"]);
        add_mount(c, "/new/name", "bind", &format!("{source}/file"), &["bind"]);
        add_mount(c, "/third/place", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(c.run().ok().out, "content\ncontent\n755 directory\n755 directory\n");
    assert!(c.rootfs().join("new/name").is_file());
}

#[test]
fn sources_of_special_files() {
    spec!();
    let (c, source) = with_source(
        "head -c 2 /mnt/zero | wc -c; test -S /mnt/socket && echo socket; test -p /mnt/fifo && echo fifo",
    );
    let _listener =
        std::os::unix::net::UnixListener::bind(format!("{source}/socket")).expect("bind");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(format!("{source}/fifo"))
            .status()
            .is_ok_and(|s| s.success())
    );
    let c = c.with(|c| {
        for (name, from) in [
            ("zero", "/dev/zero".to_owned()),
            ("socket", format!("{source}/socket")),
            ("fifo", format!("{source}/fifo")),
        ] {
            add_mount(c, &format!("/mnt/{name}"), "bind", &from, &["bind"]);
        }
        c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    });
    assert_eq!(c.run().ok().out, "2\nsocket\nfifo\n");
}

#[test]
fn a_symlink_source_is_followed_on_the_host() {
    spec!();
    let (c, source) = with_source("cat /mnt/file");
    symlink(&source, c.path("way")).expect("symlink");
    let way = c.path("way");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &way, &["bind"]));
    assert_eq!(c.run().ok().out, "content\n");
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    spec!();
    let c =
        Container::sh("cat /mnt/file").with(|c| add_mount(c, "/mnt", "bind", "beside", &["rbind"]));
    fs::create_dir(c.bundle().join("beside")).expect("mkdir");
    fs::write(c.bundle().join("beside/file"), "beside\n").expect("write");
    let run = c.run_call(&[]).dir("/").done().ok();
    assert_eq!(run.out, "beside\n");
}

#[test]
fn a_missing_source_is_refused() {
    spec!();
    let c = Container::new(&["true"])
        .with(|c| add_mount(c, "/mnt", "bind", "/no/such/source", &["bind"]));
    c.run().refuses(&["mounts[7]", "/no/such/source", "/mnt", "no such file or directory"]);
}

#[test]
fn a_directory_onto_a_file_is_refused() {
    spec!();
    let (c, source) = with_source("true");
    let onto = c.with(|c| add_mount(c, "/etc/passwd", "bind", &source, &["bind"]));
    onto.run().refuses(&["mounts[7]", "/etc/passwd", "not a directory"]);
}

#[test]
fn order_is_kept() {
    spec!();
    let (c, source) =
        with_source("ls /a; ls /a/b; cat /proc/self/mountinfo | cut -d' ' -f5 | grep ^/a");
    fs::create_dir(format!("{source}/b")).expect("mkdir");
    let c = c.with(|c| {
        add_mount(c, "/a", "tmpfs", "tmpfs", &[]);
        add_mount(c, "/a", "bind", &source, &["bind"]);
        add_mount(c, "/a/b", "tmpfs", "tmpfs", &[]);
        add_mount(c, "/a/b/c", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(c.run().ok().out, "b\nfile\nc\n/a\n/a\n/a/b\n/a/b/c\n");
    let (hidden, source) = with_source("ls /a");
    let hidden = hidden.with(|c| {
        add_mount(c, "/a/b", "bind", &source, &["bind"]);
        add_mount(c, "/a", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(hidden.run().ok().out, "", "a later mount hides an earlier one");
}

#[test]
fn many_mounts() {
    spec!();
    let (c, source) = with_source("grep -c /many/ /proc/self/mountinfo");
    let c = c.with(|c| {
        for n in 0..200 {
            add_mount(c, &format!("/many/{n}"), "bind", &source, &["rbind", "ro"]);
        }
    });
    assert_eq!(c.run().ok().out, "200\n");
}

#[test]
fn destinations_through_symlinks_stay_inside() {
    spec!();
    fails_with!("crun", "does not make what a symlink points to");
    let outside = tempfile::tempdir().expect("tempdir");
    for target in [
        outside.path().to_str().expect("utf-8"),
        "../../../../../../../../../../tmp/far",
        "/abs/place",
    ] {
        let (c, source) =
            with_source("cat /link/file; cat /proc/self/mountinfo | grep -c /link; ls -d /link/");
        let c = c
            .with_files(|root| symlink(target, root.join("link")).expect("symlink"))
            .with(|c| add_mount(c, "/link", "bind", &source, &["bind"]));
        let run = c.run();
        assert!(run.out.starts_with("content\n"), "{target}: {run:?}");
    }
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0, "nothing made outside");
    assert!(!std::path::Path::new("/abs/place").exists());
    assert!(!std::path::Path::new("/tmp/far").exists());
}

#[test]
fn parents_of_destinations_through_symlinks_stay_inside() {
    spec!();
    fails_with!("crun", "does not make what a symlink points to");
    let outside = tempfile::tempdir().expect("tempdir");
    let (c, source) = with_source("cat /link/a/b/file");
    let c = c
        .with_files(|root| symlink(outside.path(), root.join("link")).expect("symlink"))
        .with(|c| add_mount(c, "/link/a/b", "bind", &source, &["bind"]));
    assert_eq!(c.run().ok().out, "content\n");
    assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0, "nothing made outside");
}

#[test]
fn dots_in_destinations() {
    spec!();
    let (c, source) = with_source("cat /mnt/file");
    let c = c.with(|c| add_mount(c, "/etc/.././mnt//", "bind", &source, &["bind"]));
    assert_eq!(c.run().ok().out, "content\n");
    let (c, source) = with_source("cat /mnt/file");
    let c = c.with(|c| add_mount(c, "/../../../mnt", "bind", &source, &["bind"]));
    assert_eq!(c.run().ok().out, "content\n");
}

#[test]
fn kinds() {
    spec!();
    let script = "for at in /proc /sys /dev /dev/pts /dev/mqueue /dev/shm; do echo $at $(awk -v at=$at '$5 == at' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1); done";
    let run = Container::sh(script).run().ok();
    let expected =
        "/proc proc\n/sys sysfs\n/dev tmpfs\n/dev/pts devpts\n/dev/mqueue mqueue\n/dev/shm tmpfs\n";
    assert_eq!(run.out, expected);
}

#[test]
fn proc_is_that_of_the_new_pid_namespace() {
    spec!();
    assert_eq!(Container::sh("echo $$; ls /proc | grep -c '^1$'").run().ok().out, "1\n1\n");
}

#[test]
fn mounts_without_type_or_source() {
    spec!();
    let (c, source) = with_source(
        "cat /mnt/file; grep -c ' /t ' /proc/self/mountinfo; grep -c ' /new/proc ' /proc/self/mountinfo",
    );
    let c = c.with(|c| {
        config::push(&mut c["mounts"], json!({ "destination": "/mnt", "source": source, "options": ["rbind"] }));
        config::push(&mut c["mounts"], json!({ "destination": "/t", "type": "tmpfs" }));
        config::push(&mut c["mounts"], json!({ "destination": "/new/proc", "type": "bind", "source": "/proc", "options": ["rbind", "ro"] }));
    });
    assert_eq!(c.run().ok().out, "content\n1\n1\n");
}

#[test]
fn no_mounts_at_all() {
    spec!();
    fails_with!("runc", "1.1 needs /proc in the container");
    let c = Container::sh("echo alive; ls /proc | wc -l").with(|c| {
        c["mounts"] = json!([]);
        c["linux"]["maskedPaths"] = json!([]);
        c["linux"]["readonlyPaths"] = json!([]);
    });
    assert_eq!(c.run().ok().out, "alive\n0\n");
}

#[test]
fn read_only_root() {
    spec!();
    let c = Container::sh("touch /file 2>&1; touch /tmp/file && echo tmp; grep ' / / \\| / ro' /proc/self/mountinfo | wc -l")
        .with(|c| {
            c["root"]["readonly"] = true.into();
            add_mount(c, "/tmp", "tmpfs", "tmpfs", &[]);
            add_mount(c, "/made/on/the/way", "tmpfs", "tmpfs", &[]);
        });
    let run = c.run().ok();
    assert!(run.out.contains("Read-only file system\ntmp\n"), "{run:?}");
    assert!(!c.rootfs().join("file").exists());
}

/// What a mount becomes in the end is not done to a later one that covers it. Found by its
/// difference from runc and crun.
#[test]
fn a_later_mount_covers_a_read_only_one() {
    spec!();
    fails_with!("runc", "1.1 makes the later one read-only");
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    let c = Container::sh("touch /x/file && echo writable").with(|c| {
        add_mount(c, "/x", "tmpfs", "tmpfs", &read_only);
        add_mount(c, "/x", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(c.run().ok().out, "writable\n");
    let c = Container::sh("mkdir /sys/x 2>/dev/null || echo sysfs").with(|c| {
        let mounts = c["mounts"].as_array_mut().expect("mounts");
        mounts.reverse();
        mounts.retain(|mount| {
            !["/dev", "/dev/shm"].contains(&mount["destination"].as_str().unwrap_or_default())
        });
    });
    assert_eq!(c.run().ok().out, "sysfs\n");
}

#[test]
fn the_root_is_the_root() {
    spec!();
    // Neither `..` nor a second chroot leads out, and nothing of the host's mounts is to be seen.
    let c = Container::sh(
        "ls / | grep -c bundle; ls /../../.. | grep -c '^bin$'; cut -d' ' -f5 /proc/self/mountinfo | head -1",
    );
    assert_eq!(c.run().out, "0\n1\n/\n");
}

#[test]
fn no_pivot() {
    spec!();
    let c = Container::sh(
        "ls -d /bin /old 2>/dev/null; echo $$; ls /proc/self/root/ | grep -c '^bin$'",
    );
    assert_eq!(c.run_call(&["--no-pivot"]).done().ok().out, "/bin\n1\n1\n");
    c.assert_nothing_left();
}

#[test]
fn rootfs_propagation() {
    spec!();
    fails_with!("crun", "is called in a mount namespace of its own here");
    for (word, tag) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let c = Container::sh("grep -m1 ' / / \\|/rootfs / ' /proc/self/mountinfo")
            .with(|c| c["linux"]["rootfsPropagation"] = word.into());
        // The mount that holds the root must be shared for slaves to have a master.
        let script = "mount --make-rshared / && exec \"$@\"";
        let run =
            c.through_with_bundle(&["unshare", "-m", "sh", "-c", script, "sh"], "run", &[]).done();
        if !runtime::runtime().is_davit() && !word.ends_with("slave") {
            // runc and crun make the root private again on their way.
            continue;
        }
        let line = run.ok().out;
        let tags: Vec<&str> =
            line.split(" - ").next().unwrap_or_default().split(' ').skip(6).collect();
        let tags = tags.join(" ");
        assert!(
            if tag.is_empty() { tags.trim().is_empty() } else { tags.contains(tag) },
            "{word}: {line:?}"
        );
    }
    let bogus =
        Container::new(&["true"]).with(|c| c["linux"]["rootfsPropagation"] = "bogus".into());
    bogus.run().refuses(&["linux.rootfsPropagation", "bogus"]);
}

#[test]
fn mounts_of_the_host_reach_a_slave() {
    spec!();
    fails_with!("crun", "is called in a mount namespace of its own here");
    let (c, source) = with_source("while ! test -e /mnt/late/file; do sleep 0.02; done; echo seen");
    fs::create_dir(format!("{source}/late")).expect("mkdir");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &source, &["rbind", "rslave"]));
    let script = format!(
        "mount --bind {source} {source} && mount --make-shared {source} && (\"$@\" & \
         sleep 0.3; mount -t tmpfs none {source}/late && touch {source}/late/file; wait)"
    );
    let run = c
        .through_with_bundle(
            &["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"],
            "run",
            &[],
        )
        .done();
    assert_eq!(run.ok().out, "seen\n");
}

#[test]
fn mounts_of_the_container_reach_the_host_when_shared() {
    spec!();
    fails_with!("crun", "is called in a mount namespace of its own here");
    let (c, source) =
        with_source("mount -t tmpfs none /mnt/late && echo inside >/mnt/late/file && echo done");
    fs::create_dir(format!("{source}/late")).expect("mkdir");
    let c = c.with(|c| {
        add_mount(c, "/mnt", "bind", &source, &["rbind", "rshared"]);
        c["linux"]["rootfsPropagation"] = "rshared".into();
        config::set_capabilities(c, &["CAP_SYS_ADMIN"]);
    });
    let script = format!(
        "mount --bind {source} {source} && mount --make-shared {source} && \"$@\" && cat {source}/late/file"
    );
    let run = c
        .through_with_bundle(
            &["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"],
            "run",
            &[],
        )
        .done();
    assert_eq!(run.ok().out, "done\ninside\n");
}

#[test]
fn mounts_of_the_container_stay_inside_otherwise() {
    spec!();
    let (c, source) =
        with_source("mount -t tmpfs none /mnt/late && touch /mnt/late/file && echo done");
    fs::create_dir(format!("{source}/late")).expect("mkdir");
    let c = c.with(|c| {
        add_mount(c, "/mnt", "bind", &source, &["rbind"]);
        config::set_capabilities(c, &["CAP_SYS_ADMIN"]);
    });
    let script = format!(
        "mount --bind {source} {source} && mount --make-shared {source} && \"$@\" && ls {source}/late"
    );
    let run = c
        .through_with_bundle(
            &["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"],
            "run",
            &[],
        )
        .done();
    assert_eq!(run.ok().out, "done\n");
}

#[test]
fn cgroup_mount() {
    spec!();
    cgroup_v1!();
    let script = "ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs | head -1; mkdir /sys/fs/cgroup/pids/x 2>&1";
    let c = Container::sh(script);
    let run = c.run();
    for name in ["memory", "pids", "devices", "freezer"] {
        assert!(run.lines().contains(&name), "{name}: {run:?}");
    }
    assert!(run.lines().contains(&"1"), "only its own processes: {run:?}");
    assert!(run.out.contains("Read-only file system"), "{run:?}");
}

#[test]
fn cgroup_mount_in_a_cgroup_namespace() {
    spec!();
    cgroup_v1!();
    let c = Container::sh("cat /sys/fs/cgroup/pids/cgroup.procs | head -1; ls /sys/fs/cgroup/pids | grep -c davit-test; true")
        .with(|c| config::set_namespace(c, "cgroup", None));
    assert_eq!(c.run().ok().out, "1\n0\n");
}

#[test]
fn devpts_is_new() {
    spec!();
    assert_eq!(
        Container::sh("ls /dev/pts; stat -c '%a' /dev/pts/ptmx; ls -l /dev/ptmx | sed 's/.* //'")
            .run()
            .ok()
            .out,
        "ptmx\n666\npts/ptmx\n"
    );
}

#[test]
fn a_container_without_dev_of_its_own() {
    spec!();
    let c =
        Container::sh("test -c /dev/null && echo null; echo x >/dev/null && echo ok").with(|c| {
            for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
                drop_mount(c, at);
            }
        });
    assert_eq!(c.run().ok().out, "null\nok\n");
}

#[test]
fn the_hosts_dev_may_be_bound() {
    spec!();
    let c = Container::sh("test -c /dev/null && echo null").with(|c| {
        for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            drop_mount(c, at);
        }
        add_mount(c, "/dev", "bind", "/dev", &["rbind", "rslave"]);
    });
    let before: Vec<_> =
        fs::read_dir("/dev").expect("read").flatten().map(|e| e.file_name()).collect();
    assert_eq!(c.run().ok().out, "null\n");
    let after: Vec<_> =
        fs::read_dir("/dev").expect("read").flatten().map(|e| e.file_name()).collect();
    assert_eq!(before, after, "nothing is made in the host's /dev");
}

/// C10: mounts are made in their order, so a source in the root shows what was mounted there
/// before.
#[test]
fn a_source_in_the_root_shows_earlier_mounts() {
    spec!();
    fails_with!("runc", "1.1 opens sources before it mounts in a user namespace");
    fails_with!("crun", "1.8 opens sources before it mounts in a user namespace");
    for user_namespace in [false, true] {
        let c = Container::sh("cat /copy/file /mnt/file; ls /copy; cat /one").with_files(|root| {
            fs::create_dir(root.join("mnt/below")).expect("mkdir");
            fs::write(root.join("mnt/below/file"), "hidden\n").expect("write");
            fs::create_dir(root.join("copy")).expect("mkdir");
            fs::write(root.join("one"), "").expect("write");
        });
        let source = c.dir().join("source");
        fs::create_dir_all(source.join("below")).expect("mkdir");
        fs::write(source.join("file"), "top\n").expect("write");
        fs::write(source.join("below/file"), "shown\n").expect("write");
        let (source, root) = (c.path("source"), c.path("bundle/rootfs"));
        let c = c.with(|c| {
            if user_namespace {
                config::set_userns(c, 100_000, 65536);
            }
            add_mount(c, "/mnt", "bind", &source, &["bind"]);
            add_mount(c, "/copy", "bind", &format!("{root}/mnt/below"), &["bind", "ro"]);
            add_mount(c, "/one", "bind", "rootfs/mnt/below/file", &["bind"]);
        });
        assert_eq!(c.run().ok().out, "shown\ntop\nfile\nshown\n", "{user_namespace}");
    }
}
