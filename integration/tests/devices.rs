//! Devices: the default ones, those of `linux.devices`, and what they may not be.

use std::fs;

use integration::*;

fn all_allowed(c: &mut Value) {
    c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
}

#[test]
fn the_default_ones() {
    spec!();
    let c = Container::sh(
        "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' /dev/$d; done",
    );
    let expected = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ]
    .map(|(name, number)| format!("/dev/{name} character special file {number} 666 0:0\n"))
    .concat();
    assert_eq!(c.run().ok().out, expected);
}

#[test]
fn the_default_links() {
    spec!();
    let c = Container::sh(
        "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; test -e /dev/console || echo no console",
    );
    let expected =
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\nno console\n";
    assert_eq!(c.run().ok().out, expected);
}

#[test]
fn they_work() {
    spec!();
    let c = Container::sh(
        "echo x >/dev/null && head -c 4 /dev/zero | od -An -tx1 && (echo x >/dev/full) 2>&1 | grep -c 'No space'; head -c 9 /dev/urandom | wc -c",
    );
    assert_eq!(c.run().ok().out, " 00 00 00 00\n1\n9\n");
}

#[test]
fn listed_ones() {
    spec!();
    let script = "stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/myblock /dev/deep/er/pipe /elsewhere/null /dev/plain; stat -c %a /dev/deep";
    let c = Container::sh(script).with(|c| {
        all_allowed(c);
        c["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 1000, "gid": 5 },
            { "path": "/dev/myblock", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600 },
            { "path": "/dev/deep/er/pipe", "type": "p", "fileMode": 0o622 },
            { "path": "/elsewhere/null", "type": "u", "major": 1, "minor": 3, "fileMode": 0o666 },
            { "path": "/dev/plain", "type": "c", "major": 1, "minor": 3 },
        ]);
    });
    let expected = "/dev/fuse character special file a:e5 640 1000:5\n\
                    /dev/myblock block special file 7:12c 600 0:0\n\
                    /dev/deep/er/pipe fifo 0:0 622 0:0\n\
                    /elsewhere/null character special file 1:3 666 0:0\n";
    let run = c.run().ok();
    assert!(run.out.starts_with(expected), "{run:#?}");
    assert!(run.out.contains("/dev/plain character special file 1:3"), "{run:#?}");
    assert!(run.out.ends_with("755\n"), "{run:#?}");
}

#[test]
fn the_umask_does_not_matter() {
    spec!();
    fails_with!("runc", "1.1 makes the directories under the caller's umask");
    let c = Container::sh("stat -c '%a' /dev/x /dev/null").with(|c| {
        all_allowed(c);
        c["linux"]["devices"] =
            json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o777 }]);
    });
    let run = c
        .through_with_bundle(&["sh", "-c", "umask 0777; exec \"$@\"", "sh"], "run", &[])
        .done()
        .ok();
    assert_eq!(run.out, "777\n666\n");
}

#[test]
fn one_that_replaces_a_default_one() {
    spec!();
    let c = Container::sh("stat -c '%t:%T %a' /dev/null /dev/tty").with(|c| {
        all_allowed(c);
        c["linux"]["devices"] = json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 0, "gid": 0 }]);
    });
    let run = c.run().ok();
    assert!(run.out == "1:3 600\n5:0 666\n", "{run:?}");
}

#[test]
fn an_existing_file_of_another_kind_is_refused() {
    davit_only!("other runtimes keep what is there; the spec says MUST error");
    for (kind, make) in [("file", "file"), ("directory", "dir"), ("another device", "null")] {
        let c = Container::new(&["true"])
            .with(|c| {
                all_allowed(c);
                let path = format!("/x/{make}");
                c["linux"]["devices"] =
                    json!([{ "path": path, "type": "c", "major": 1, "minor": 5 }]);
            })
            .with_files(|root| {
                fs::create_dir_all(root.join("x/dir")).expect("mkdir");
                fs::write(root.join("x/file"), "").expect("write");
                let mknod = std::process::Command::new("mknod")
                    .arg(root.join("x/null"))
                    .args(["c", "1", "3"])
                    .status();
                assert!(mknod.is_ok_and(|status| status.success()));
            });
        let run = c.run();
        assert_ne!(run.code, 0, "{kind}");
        run.refuses(&["linux.devices[0]", &format!("/x/{make}")]);
    }
}

#[test]
fn one_that_is_there_already_is_fine() {
    spec!();
    let c = Container::sh("stat -c '%t:%T' /x/null")
        .with(|c| {
            all_allowed(c);
            c["linux"]["devices"] =
                json!([{ "path": "/x/null", "type": "c", "major": 1, "minor": 3 }]);
        })
        .with_files(|root| {
            fs::create_dir(root.join("x")).expect("mkdir");
            let mknod = std::process::Command::new("mknod")
                .arg(root.join("x/null"))
                .args(["c", "1", "3"])
                .status();
            assert!(mknod.is_ok_and(|status| status.success()));
        });
    assert_eq!(c.run().ok().out, "1:3\n");
}

#[test]
fn wrong_ones_are_refused() {
    davit_only!("crun makes a char device of any type; runc says so for some");
    for (device, says) in [
        (json!({ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }), "type"),
        (json!({ "path": "/dev/x", "type": "c" }), "major"),
        (json!({ "path": "/dev/x", "type": "c", "major": -1, "minor": 3 }), "major"),
        (json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 1_u64 << 40 }), "minor"),
        (json!({ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }), "path"),
        (json!({ "path": "/dev/../..", "type": "c", "major": 1, "minor": 3 }), "path"),
        (json!({ "path": "/", "type": "c", "major": 1, "minor": 3 }), "path"),
        (
            json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o200_000 }),
            "fileMode",
        ),
    ] {
        let c = Container::new(&["true"]).with(|c| {
            all_allowed(c);
            c["linux"]["devices"] = json!([device]);
        });
        c.run().refuses(&["linux.devices[0]", says]);
    }
}

#[test]
fn in_a_user_namespace_they_are_the_hosts() {
    spec!();
    let c = Container::sh("echo x >/dev/null && stat -c '%F %t:%T' /dev/null /dev/full; head -c 2 /dev/zero | wc -c").with(|c| {
        all_allowed(c);
        config::set_userns(c, 100_000, 65536);
        c["linux"]["devices"] = json!([{ "path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666 }]);
    });
    assert_eq!(c.run().ok().out, "character special file 1:3\ncharacter special file 1:7\n2\n");
}

#[test]
fn the_cgroup_lets_only_listed_ones_through() {
    spec!();
    // 1:5 is a default one; 10:200 (tun) is allowed by default in runc; 5:3 (ttyprintk) and 1:1
    // (mem) are not.
    let script = "mknod /tmp/mem c 1 1 && echo made; cat /tmp/mem 2>&1 | head -1; mknod /tmp/zero c 1 5; head -c 1 /tmp/zero | wc -c";
    let c = Container::sh(script).with(|c| config::set_capabilities(c, &["CAP_MKNOD"]));
    let run = c.run();
    assert!(run.out.contains("Operation not permitted") && run.out.ends_with("1\n"), "{run:#?}");
    let c = Container::sh("cat /dev/kmsg 2>&1 | head -1; echo").with(|c| {
        c["linux"]["devices"] = json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
        c["linux"]["resources"]["devices"] = json!([
            { "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" },
        ]);
    });
    let run = c.run();
    assert!(
        run.out.contains("Operation not permitted"),
        "writing is allowed, reading is not: {run:#?}"
    );
}

/// Owner, mode, number and target of all that is in the host's devtmpfs.
fn devtmpfs(c: &Container) -> String {
    let at = c.path("devtmpfs");
    let _ = fs::create_dir(&at);
    let look = format!(
        "mount -t devtmpfs none {at} && find {at} -printf '%P %y %m %U %G %l\\n' | sort; findmnt -no FS-OPTIONS {at}"
    );
    let look = c.host(&["unshare", "-m", "--propagation", "private", "sh", "-c", &look]).done();
    look.ok().out
}

/// A11: there is one devtmpfs, the host's: /dev/ptmx there became a link. That nothing is planned
/// in it is asked first: a mount namespace would not protect the host.
#[test]
fn nothing_is_made_or_removed_in_the_hosts_devtmpfs() {
    davit_only!("other runtimes make and remove files there");
    let c = Container::sh("ls -d /dev/null /dev/ptmx; echo x >/dev/null && echo written").with(|c| {
        all_allowed(c);
        for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            config::drop_mount(c, at);
        }
        let mounts = c["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/dev", "type": "devtmpfs", "source": "devtmpfs", "options": ["nosuid", "size=1m"] }));
        mounts.push(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" }));
        c["linux"]["devices"] = json!([{ "path": "/dev/none-such", "type": "c", "major": 1, "minor": 3 }]);
    });
    c.write();
    let plan = c.call(&["explain", &c.path("bundle")]).done().ok().out;
    let is_said = |line: &&str| line.contains("is not created") || line.contains("has no effect");
    let (said, plan): (Vec<&str>, Vec<&str>) = plan.lines().partition(is_said);
    assert_eq!(said.len(), 2, "{said:?}");
    let plan = plan.join("\n");
    for word in ["default device", "/dev/ptmx", "/dev/stdin", "/dev/core", "none-such", "size"] {
        assert!(!plan.contains(word), "{word} in {plan}");
    }
    let before = devtmpfs(&c);
    let run = c.run().warns(&["has no effect", "is not created"]);
    assert_eq!(run.out, "/dev/null\n/dev/ptmx\nwritten\n");
    let missing = c.with(|c| {
        let mounts = c["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/dev/none-such", "type": "tmpfs", "source": "x" }));
    });
    missing.run().says(&["/dev/none-such", "the host's devtmpfs has no such file"]);
    assert_eq!(devtmpfs(&missing), before);
}

/// A12: as crun.
#[test]
fn in_a_user_namespace_they_are_bound_without_suid_and_exec() {
    davit_only!("crun 1.8 does not do it yet");
    let c = Container::sh("grep ' /dev/null ' /proc/self/mountinfo").with(|c| {
        config::set_userns(c, 100_000, 65536);
    });
    let line = c.run().ok().out;
    assert!(line.contains("nosuid") && line.contains("noexec"), "{line}");
}

/// C6: crun makes them before it enters the namespace, so that they need not be the host's.
#[test]
fn in_a_user_namespace_they_need_not_exist_on_the_host() {
    spec!();
    fails_with!("runc", "1.1 binds the host's");
    fails_with!("crun", "1.8 makes them too, but without fileMode with mode 0");
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' modem disk sub/zero tty; head -c 3 sub/zero | wc -c; \
        grep -c ' / tmpfs ' /proc/self/mountinfo; echo x >null";
    let c = Container::sh(script).with(|c| {
        all_allowed(c);
        config::set_userns(c, 100_000, 65536);
        c["linux"]["devices"] = json!([
            { "path": "/dev/modem", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 20 },
            { "path": "/dev/disk", "type": "b", "major": 240, "minor": 77, "gid": 70_000 },
            { "path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5 },
            { "path": "/dev/tty", "type": "c", "major": 1, "minor": 3 },
        ]);
    });
    let nodes = "modem character special file 1:5 640 7:20\n\
        disk block special file f0:4d 666 0:65534\n\
        sub/zero character special file 1:5 666 0:0\n\
        tty character special file 1:3 666 0:0\n3\n";
    let run = c.run();
    assert!(run.out.starts_with(nodes), "{run:#?}");
    // The tmpfs over the root, in which they were made, is gone.
    assert!(run.out.ends_with("\n0\n"), "{run:#?}");
    run.exits(0);
}

/// Its root may do to its nodes what their owner may, but has no way to others.
#[test]
fn nodes_of_a_user_namespace_are_the_containers_own() {
    davit_only!("other runtimes bind the host's");
    let host = fs::metadata("/dev/full").expect("/dev/full");
    let c = Container::sh("chmod 600 /dev/full && stat -c %a /dev/full").with(|c| {
        all_allowed(c);
        config::set_userns(c, 100_000, 65536);
        config::set_capabilities(c, &["CAP_FOWNER", "CAP_CHOWN"]);
        c["linux"]["devices"] =
            json!([{ "path": "/dev/full", "type": "c", "major": 1, "minor": 7 }]);
    });
    assert_eq!(c.run().ok().out, "600\n");
    assert_eq!(fs::metadata("/dev/full").expect("/dev/full").permissions(), host.permissions());
}

/// A11: with `/`, or a root that has a bind of the host's /dev, the container has the host's as
/// well.
#[test]
fn nothing_is_made_in_a_dev_that_the_root_has_of_the_host() {
    davit_only!("other runtimes make and remove files there");
    let c = Container::sh("ls -d /dev/null; echo x >/dev/null && echo written").with(|c| {
        all_allowed(c);
        for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            config::drop_mount(c, at);
        }
    });
    c.write();
    let bind = format!("mount --rbind /dev {}/dev && exec \"$@\"", c.path("bundle/rootfs"));
    let through = ["unshare", "-m", "--propagation", "private", "sh", "-c", &bind, "sh"];
    let plan = c.call_through(&through, &["explain", &c.path("bundle")]).done().ok().out;
    assert!(!plan.contains("default device") && !plan.contains("/dev/ptmx"), "{plan}");
    let before = devtmpfs(&c);
    let run = c.through_with_bundle(&through, "run", &[]).done();
    assert_eq!(run.ok().out, "/dev/null\nwritten\n");
    assert_eq!(devtmpfs(&c), before);
}
