//! Namespaces: new, shared with the host, or joined by path; what they are given: ids, clocks,
//! names, sysctls.

use integration::config::{drop_mount, drop_namespace, set_namespace, set_userns};
use integration::*;

const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

fn knows_time() -> bool {
    // runc got time namespaces in 1.2, crun in 1.8.3.
    runtime::runtime().is_davit()
}

/// A config with all eight kinds.
fn all(c: &mut Value) {
    set_namespace(c, "cgroup", None);
    set_userns(c, 100_000, 65536);
    if knows_time() {
        set_namespace(c, "time", None);
    }
}

fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().filter(|(name, _)| *name != "time" || knows_time())
}

/// As `crun spec --rootless` writes it: root is root of the host there, unless subuid(5) grants
/// others to root.
#[test]
fn a_user_namespace_without_mappings_is_the_callers() {
    davit_only!("runc refuses it, and crun no hybrid host's cgroups");
    skip_if!((!nix::unistd::geteuid().is_root()).then_some("about root's containers"));
    let c = Container::sh("cat /proc/self/uid_map /proc/self/gid_map; id -u").with(|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({ "type": "user" }));
        // Group 5 is mapped in one of the two only.
        for mount in c["mounts"].as_array_mut().expect("mounts") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    });
    c.write();
    let log = c.path("log");
    let run = |granted: &str| {
        let file = c.path("granted");
        std::fs::write(&file, granted).expect("file");
        let script = format!(
            "for table in /etc/subuid /etc/subgid; do mount --bind {file} $table; done; exec \"$@\""
        );
        let through = ["unshare", "-m", "sh", "-c", &script, "sh"];
        let words = ["--log", &log, "--log-level", "warning", "run", "--bundle", &c.path("bundle")];
        let run = c.call_through(&through, &[&words[..], &[&c.id]].concat()).done().exits(0);
        run.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(run("other:1000:10\n"), "0 0 1 0 0 1 0");
    let warnings = std::fs::read_to_string(&log).expect("log");
    assert!(warnings.contains("linux.uidMappings: are missing"), "{warnings}");
    assert_eq!(run("root:100000:65536\n"), "0 0 1 1 100000 65536 0 0 1 1 100000 65536 0");
    c.assert_nothing_left();
}

#[test]
fn all_new() {
    spec!();
    let c = Container::sleeper().with(all);
    c.create().start();
    for (name, file) in kinds() {
        assert_ne!(host::namespace_of(c.pid(), file), host::namespace(file), "{name}");
    }
    assert_eq!(c.ask("ls /sys/class/net; cat /proc/1/comm"), "lo\nsh\n");
}

#[test]
fn each_alone_is_new_and_the_others_are_shared() {
    spec!();
    for (name, file) in kinds().filter(|(name, _)| *name != "mount") {
        let c = Container::sh("for f in pid net ipc uts mnt cgroup user time; do echo $f $(readlink /proc/self/ns/$f); done")
            .with(|c| {
                for (other, _) in KINDS {
                    drop_namespace(c, other);
                }
                set_namespace(c, "mount", None);
                match name {
                    "user" => set_userns(c, 0, 65536),
                    _ => set_namespace(c, name, None),
                }
                if name != "uts" {
                    c.as_object_mut().expect("config").remove("hostname");
                }
                // A user namespace without pid, net, ipc ones may not mount their file systems.
                for at in ["/proc", "/sys/fs/cgroup", "/sys", "/dev/mqueue"] {
                    if name == "user" {
                        drop_mount(c, at);
                    }
                }
                if name == "user" {
                    config::add_mount(c, "/proc", "bind", "/proc", &["rbind"]);
                    c["linux"]["maskedPaths"] = json!([]);
                    c["linux"]["readonlyPaths"] = json!([]);
                }
            });
        let run = c.run().ok();
        for (_, other) in KINDS {
            let seen = run.field(&format!("{other} "));
            let own = [file, "mnt"].contains(&other);
            assert_eq!(
                seen != host::namespace(other),
                own,
                "only {name} and mnt are new: {other} {seen}"
            );
        }
    }
}

#[test]
fn joined_by_path() {
    spec!();
    let first = Container::sleeper().with(all);
    first.create().start();
    let pid = first.pid();
    for (name, file) in kinds().filter(|(name, _)| !["mount", "user"].contains(name)) {
        let c = Container::sh(&format!("readlink /proc/self/ns/{file}; hostname"))
            .with(|c| set_namespace(c, name, Some(&format!("/proc/{pid}/ns/{file}"))))
            .with(|c| {
                if name == "uts" {
                    c.as_object_mut().expect("config").remove("hostname");
                }
            });
        // Objects of the other's user namespace: its mqueue or sysfs is not ours to mount, but we
        // are root.
        let run = c.run();
        assert_eq!(
            run.out.lines().next(),
            Some(host::namespace_of(pid, file).as_str()),
            "{name}: {run:#?}"
        );
    }
}

#[test]
fn a_pod_shares_network_uts_and_ipc() {
    spec!();
    let infra = Container::sleeper().with(|c| c["hostname"] = "pod".into());
    infra.create().start();
    let pid = infra.pid();
    let c = Container::sleeper().with(|c| {
        for (name, file) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
            set_namespace(c, name, Some(&format!("/proc/{pid}/ns/{file}")));
        }
        c.as_object_mut().expect("config").remove("hostname");
    });
    c.create().start();
    assert_eq!(c.ask("hostname"), "pod\n");
    for file in ["net", "uts", "ipc"] {
        assert_eq!(host::namespace_of(c.pid(), file), host::namespace_of(pid, file));
    }
    for file in ["pid", "mnt"] {
        assert_ne!(host::namespace_of(c.pid(), file), host::namespace_of(pid, file));
    }
}

#[test]
fn a_user_namespace_by_path_with_everything_in_it() {
    spec!();
    fails_with!("runc", "1.1 wants mappings with it");
    let first = Container::sleeper().with(|c| set_userns(c, 100_000, 65536));
    first.create().start();
    let pid = first.pid();
    let c = Container::sh(
        "cat /proc/self/uid_map; id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net",
    )
    .with(|c| {
        for (name, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
            set_namespace(c, name, Some(&format!("/proc/{pid}/ns/{file}")));
        }
    });
    let run = c.run().ok();
    let lines = run.lines();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(
        lines[1..],
        ["0", &host::namespace_of(pid, "user"), &host::namespace_of(pid, "net")]
    );
}

#[test]
fn a_time_namespace_by_path() {
    davit_only!("the other runtimes here know no time namespaces");
    let first = Container::sleeper().with(|c| {
        set_namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    });
    first.create().start();
    let c = Container::sh("cut -d. -f1 /proc/uptime")
        .with(|c| set_namespace(c, "time", Some(&format!("/proc/{}/ns/time", first.pid()))));
    assert!(c.run().ok().out.trim().parse::<u64>().expect("seconds") > 1_000_000);
    let both = Container::sh("true").with(|c| {
        set_namespace(c, "time", Some(&format!("/proc/{}/ns/time", first.pid())));
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } });
    });
    both.run().refuses(&["linux.timeOffsets"]);
}

#[test]
fn a_path_of_another_kind_is_refused() {
    spec!();
    for (name, file) in kinds() {
        let wrong = if file == "uts" { "net" } else { "uts" };
        let path = format!("/proc/self/ns/{wrong}");
        let path = path.replace("self", &std::process::id().to_string());
        let c = Container::new(&["true"]).with(|c| set_namespace(c, name, Some(&path)));
        c.run().refuses(&["linux.namespaces[", &path]);
    }
    for path in ["/etc/passwd", "/proc/1/status", "/", "/nosuch", "/dev/null"] {
        let c = Container::new(&["true"]).with(|c| set_namespace(c, "network", Some(path)));
        c.run().refuses(&["linux.namespaces[", path]);
    }
}

#[test]
fn relative_paths_are_refused() {
    davit_only!(
        "the spec says MUST be absolute; other runtimes resolve them against the current directory"
    );
    let c =
        Container::new(&["true"]).with(|c| set_namespace(c, "network", Some("proc/self/ns/net")));
    c.run().refuses(&["linux.namespaces[", "path", "absolute"]);
}

#[test]
fn duplicates_are_refused() {
    spec!();
    fails_with!("crun", "1.8 accepts them");
    for (name, _) in kinds().filter(|(name, _)| *name != "user") {
        let c = Container::new(&["true"]).with(|c| {
            set_namespace(c, name, None);
            config::push(&mut c["linux"]["namespaces"], json!({ "type": name }));
        });
        c.run().refuses(&["linux.namespaces[", name]);
    }
}

#[test]
fn user_namespace_maps() {
    spec!();
    let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; stat -c %u /proc/1 /etc/passwd; cat /proc/self/setgroups";
    let c = Container::sh(script).with(|c| {
        set_namespace(c, "user", None);
        c["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 10, "hostID": 0, "size": 1 },
        ]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    });
    let expected = "0\n0\n 0 100000 10\n 10 0 1\n 0 200000 1000\n0\n10\nallow\n";
    assert_eq!(c.run().ok().out, expected);
}

#[test]
fn user_namespace_without_root_in_it() {
    spec!();
    let c = Container::sh("id -u; id -g; grep ^CapEff /proc/self/status").with(|c| {
        set_userns(c, 100_000, 65536);
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    assert_eq!(c.run().ok().out, "1000\n1000\nCapEff:\t0000000000000000\n");
}

#[test]
fn user_namespace_with_devices_and_mounts() {
    spec!();
    let script = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls -ld /dev/shm | cut -c1-10; touch /dev/shm/x; \
                  grep -c ' /proc/sys ' /proc/self/mountinfo";
    let c = Container::sh(script).with(|c| set_userns(c, 100_000, 65536));
    assert_eq!(c.run().ok().out, "3\ndrwxrwxrwt\n1\n");
}

#[test]
fn user_namespace_needs_mappings() {
    spec!();
    // Without any, they are the caller's: another test.
    let half = Container::new(&["true"]).with(|c| {
        set_namespace(c, "user", None);
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }])
    });
    half.run().refuses(&["linux.gidMappings"]);
    let mappings = Container::new(&["true"]).with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }])
    });
    if runtime::runtime().is_davit() {
        mappings.run().refuses(&["linux.uidMappings"]);
    }
}

#[test]
fn a_user_who_is_not_mapped_is_refused() {
    spec!();
    let c = Container::new(&["true"]).with(|c| {
        set_userns(c, 100_000, 10);
        c["process"]["user"]["uid"] = 10.into();
    });
    c.run().refuses(&["process.user.uid", "10"]);
}

#[test]
fn time_offsets() {
    davit_only!("the other runtimes here know no time namespaces");
    let c = Container::sh("cut -d. -f1 /proc/uptime; tr -s ' ' < /proc/self/timens_offsets").with(
        |c| {
            set_namespace(c, "time", None);
            c["linux"]["timeOffsets"] = json!({
                "boottime": { "secs": 10_000_000, "nanosecs": 5 },
                "monotonic": { "secs": 777, "nanosecs": 6 },
            });
        },
    );
    let run = c.run().ok();
    let lines = run.lines();
    assert!(lines[0].parse::<u64>().expect("seconds") > 10_000_000);
    let words: Vec<Vec<&str>> =
        lines[1..].iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["monotonic", "777", "6"], ["boottime", "10000000", "5"]]);
    let without = Container::new(&["true"])
        .with(|c| c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } }));
    without.run().refuses(&["linux.timeOffsets"]);
    let bogus = Container::new(&["true"]).with(|c| {
        set_namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({ "realtime": { "secs": 1 } });
    });
    bogus.run().refuses(&["linux.timeOffsets", "realtime"]);
}

#[test]
fn host_and_domain_name() {
    spec!();
    let c = Container::sh("hostname; cat /proc/sys/kernel/domainname").with(|c| {
        c["hostname"] = "boat".into();
        c["domainname"] = "harbour.example".into();
    });
    fails_with!("runc", "1.1 knows no domainname");
    assert_eq!(c.run().ok().out, "boat\nharbour.example\n");
}

#[test]
fn names_need_a_uts_namespace() {
    spec!();
    for name in ["hostname", "domainname"] {
        let c = Container::new(&["true"]).with(|c| {
            drop_namespace(c, "uts");
            c.as_object_mut().expect("config").remove("hostname");
            c[name] = "boat".into();
        });
        if name == "hostname" || runtime::runtime().is_davit() {
            c.run().refuses(&[name]);
        }
    }
}

#[test]
fn an_overlong_hostname_is_refused() {
    spec!();
    let c = Container::new(&["true"]).with(|c| c["hostname"] = "x".repeat(65).into());
    c.run().refuses(&["hostname"]);
}

#[test]
fn a_new_network_has_its_loopback_up() {
    spec!();
    let c = Container::sh(
        "ip addr show lo | grep -c 127.0.0.1/8; ip link show lo | grep -c LOWER_UP; ls /sys/class/net",
    );
    assert_eq!(c.run().ok().out, "1\n1\nlo\n");
}

#[test]
fn cgroup_namespace() {
    spec!();
    let c = Container::sh("cut -d: -f3 /proc/self/cgroup | sort -u")
        .with(|c| set_namespace(c, "cgroup", None));
    assert_eq!(c.run().ok().out, "/\n");
}

/// The specification says that it inherits the runtime's. Its mounts go when it is deleted.
#[test]
fn without_a_mount_namespace_it_is_in_the_runtimes() {
    spec!();
    fails_with!("runc", "leaves its mounts below the root");
    fails_with!("crun", "leaves its mounts below the root");
    let c = Container::sleeper().with(|c| drop_namespace(c, "mount"));
    let before = leftovers::mounts(&c.rootfs());
    c.create().start();
    assert_eq!(host::namespace_of(c.pid(), "mnt"), host::namespace("mnt"));
    // exec joins no mount namespace there, and is in the container's root all the same.
    assert_eq!(
        c.ask("stat -f -c %T /dev; ls /sys/firmware | wc -l; ls -d /home/bob"),
        "tmpfs\n0\n/home/bob\n"
    );
    assert!(leftovers::mounts(&c.rootfs()).len() > before.len());
    c.delete().ok();
    assert_eq!(leftovers::mounts(&c.rootfs()), before);
}

#[test]
fn without_a_mount_namespace_a_failed_create_leaves_no_mounts() {
    spec!();
    fails_with!("runc", "leaves its mounts below the root");
    fails_with!("crun", "leaves its mounts below the root");
    let c = Container::new(&["/nonexistent"]).with(|c| {
        drop_namespace(c, "mount");
        c["linux"]["maskedPaths"] = json!([]);
    });
    c.run_call(&[]).done().says(&["no such file or directory"]);
    c.assert_nothing_left();
}
