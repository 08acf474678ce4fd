//! File systems: their options, and what is special about some of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use davit_rootfs::{Cgroups, Hierarchy};
use serde_json::{Value, json};

use crate::sandbox::{ROOT, config, inside, mountinfo, proc_mount};

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

#[test]
fn options_of_mount_and_superblock_are_set() {
    inside("filesystems::options_of_mount_and_superblock_are_set", ROOT, |sandbox| {
        let mounts = json!([
            proc_mount(),
            tmpfs("/a", &["nosuid", "nodev", "noexec", "noatime", "nosymfollow", "size=64k"]),
            tmpfs("/b", &["sync", "dirsync", "lazytime", "strictatime", "nr_inodes=17"]),
            tmpfs("/c", &["defaults", "size=1%,mode=0711,uid=5"]),
            tmpfs("/d", &["ro", "rnoexec"]),
            tmpfs("/e", &["silent", "iversion", "nodev", "size=8k"]),
            tmpfs("/f", &["loud", "noiversion", "nomand", "nolazytime", "async", "rw"]),
            json!({ "destination": "/mq", "type": "mqueue", "source": "mqueue" }),
            json!({ "destination": "/sys", "type": "sysfs", "options": ["ro", "nosuid"] }),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        let info = |path| mountinfo(path).replace(",inode64", "");
        assert_eq!(
            info("/a"),
            "rw,nosuid,nodev,noexec,noatime,nosymfollow - tmpfs tmpfs rw,size=64k"
        );
        assert_eq!(info("/b"), "rw - tmpfs tmpfs rw,sync,dirsync,lazytime,nr_inodes=17");
        assert!(info("/c").ends_with(",mode=711,uid=5"), "{}", info("/c"));
        assert_eq!(info("/d"), "ro,noexec,relatime - tmpfs tmpfs rw");
        assert_eq!(info("/e"), "rw,nodev,relatime - tmpfs tmpfs rw,size=8k");
        assert_eq!(info("/f"), "rw,relatime - tmpfs tmpfs rw");
        assert!(info("/mq").contains(" - mqueue mqueue "));
        assert!(info("/sys").starts_with("ro,nosuid,relatime - sysfs "));
    });
}

/// Each once as it stands, by mount(2), and once by parts: with the propagation that it has anyway.
#[test]
fn a_mount_at_once_is_what_it_is_by_parts() {
    inside("filesystems::a_mount_at_once_is_what_it_is_by_parts", ROOT, |sandbox| {
        let kinds: &[(&str, &[&str])] = &[
            ("proc", &["nosuid", "nodev", "noexec", "hidepid=2"]),
            ("tmpfs", &["mode=1777", "size=64k", "nosuid", "nodev", "noexec", "relatime"]),
            ("tmpfs", &["mode=755", "nr_inodes=9", "strictatime", "nosymfollow"]),
            ("tmpfs", &["mode=755", "noatime", "nodiratime"]),
            ("devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "nosuid", "noexec"]),
            ("mqueue", &["nosuid", "noexec", "nodev"]),
            ("sysfs", &["nosuid", "noexec", "nodev"]),
        ];
        let mut mounts = vec![proc_mount()];
        for (number, (kind, options)) in kinds.iter().enumerate() {
            let parts: Vec<_> = options.iter().copied().chain(["private"]).collect();
            for (place, options) in [("once", *options), ("parts", &parts)] {
                mounts.push(json!({ "destination": format!("/{place}{number}"), "type": kind,
                    "source": "name", "options": options }));
            }
        }
        let config = config(json!(mounts));
        let ops =
            davit_rootfs::plan(&serde_json::from_value(config.clone()).unwrap(), &sandbox.host());
        let mount2 = |op: &davit_rootfs::Op| match &op.action {
            davit_rootfs::Action::Mount { filesystem, .. } => filesystem.mount2.is_some(),
            _ => false,
        };
        assert_eq!(ops.unwrap().iter().filter(|op| mount2(op)).count(), kinds.len() + 1);
        sandbox.enter(&config, &sandbox.host()).ok();
        for number in 0..kinds.len() {
            let [once, parts] =
                ["once", "parts"].map(|place| mountinfo(format!("/{place}{number}")));
            assert_eq!(once, parts);
        }
        // The working directory is none of the container's mounts.
        assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/"));
    });
}

#[test]
fn an_unknown_option_is_an_error_of_the_mount() {
    inside("filesystems::an_unknown_option_is_an_error_of_the_mount", ROOT, |sandbox| {
        let expected = r#"mounts[0] "tmpfs" -> "/a": fsconfig: invalid argument"#;
        for options in [&["nosuchoption=1"][..], &["mode=755", "nosuchoption=1"]] {
            let config = config(json!([tmpfs("/a", options)]));
            sandbox.enter(&config, &sandbox.host()).refused(expected);
        }
    });
}

#[test]
fn an_unknown_type_is_an_error_of_the_mount() {
    inside("filesystems::an_unknown_type_is_an_error_of_the_mount", ROOT, |sandbox| {
        let config = config(json!([{ "destination": "/a", "type": "nosuchfs" }]));
        sandbox.enter(&config, &sandbox.host()).refused("fsopen: no such device");
    });
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    inside("filesystems::a_tmpfs_has_the_mode_of_what_it_covers", ROOT, |sandbox| {
        let there = sandbox.directory("rootfs/there");
        fs::set_permissions(there, fs::Permissions::from_mode(0o2750)).unwrap();
        let mounts =
            json!([tmpfs("/there", &[]), tmpfs("/new", &[]), tmpfs("/told", &["mode=700"])]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        let mode = |path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode("/there"), 0o2750);
        assert_eq!(mode("/new"), 0o1777);
        assert_eq!(mode("/told"), 0o700);
    });
}

#[test]
fn tmpcopyup_copies_what_is_there() {
    inside("filesystems::tmpcopyup_copies_what_is_there", ROOT, |sandbox| {
        let program = sandbox.file("rootfs/d/sub/program", "content");
        std::os::unix::fs::chown(&program, Some(3), Some(4)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("sub/program", sandbox.rootfs.join("d/link")).unwrap();
        nix::unistd::mkfifo(&sandbox.rootfs.join("d/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let time = fs::metadata(&program).unwrap().mtime();
        let mounts = json!([proc_mount(), tmpfs("/d", &["tmpcopyup", "ro"])]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert!(mountinfo("/d").starts_with("ro,"));
        let stat = fs::metadata("/d/link").unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (3, 4, 0o4755));
        assert_eq!(stat.mtime(), time);
        assert_eq!(fs::read_to_string("/d/link").unwrap(), "content");
        assert!(fs::symlink_metadata("/d/fifo").is_ok());
    });
}

#[test]
fn procfs_and_sysfs_do_not_follow_links() {
    inside("filesystems::procfs_and_sysfs_do_not_follow_links", ROOT, |sandbox| {
        sandbox.directory("rootfs/elsewhere");
        symlink("elsewhere", sandbox.rootfs.join("proc")).unwrap();
        sandbox
            .enter(&config(json!([proc_mount()])), &sandbox.host())
            .refused(r#"mounts[0] "proc" -> "/proc": openat2: too many"#);
    });
}

#[test]
fn a_remount_changes_what_is_there() {
    inside("filesystems::a_remount_changes_what_is_there", ROOT, |sandbox| {
        let mounts = json!([
            proc_mount(),
            tmpfs("/a", &["size=64k"]),
            tmpfs("/a", &["remount", "size=128k", "nosuid"]),
            tmpfs("/b", &[]),
            json!({ "destination": "/b", "type": "none", "options": ["remount", "bind", "ro"] }),
            json!({ "destination": "/b", "type": "none", "options": ["shared"] }),
        ]);
        sandbox.enter(&config(mounts), &sandbox.host()).ok();
        assert!(mountinfo("/a").starts_with("rw,nosuid,relatime - tmpfs tmpfs rw,size=128k"));
        assert!(mountinfo("/b").starts_with("ro,relatime shared:"), "{}", mountinfo("/b"));
    });
}

/// The hierarchies of this host, if there are several.
fn hierarchies() -> Vec<Hierarchy> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let hyphen = fields.iter().position(|field| *field == "-").unwrap();
        let (fstype, options) = (fields[hyphen + 1], fields[hyphen + 3]);
        if !fstype.starts_with("cgroup") || fields[3] != "/" {
            continue;
        }
        let names = options.split(',').filter(|name| !matches!(*name, "rw" | "ro"));
        let controllers =
            if fstype == "cgroup" { names.map(str::to_owned).collect() } else { vec![] };
        found.push(Hierarchy { mountpoint: fields[4].into(), path: "/".into(), controllers });
    }
    found
}

#[test]
fn several_hierarchies_are_bound_below_a_tmpfs() {
    inside("filesystems::several_hierarchies_are_bound_below_a_tmpfs", ROOT, |sandbox| {
        let hierarchies = hierarchies();
        if hierarchies.len() < 2 {
            eprintln!("skip: this host has one cgroup hierarchy");
            return;
        }
        let mut host = sandbox.host();
        host.cgroups = Some(Cgroups::Several(hierarchies.clone()));
        let mounts = json!([
            proc_mount(),
            { "destination": "/sys", "type": "sysfs" },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["ro", "nosuid", "rprivate"] },
        ]);
        sandbox.enter(&config(mounts), &host).ok();
        assert!(mountinfo("/sys/fs/cgroup").starts_with("ro,nosuid,nodev,noexec,relatime - tmpfs"));
        for hierarchy in hierarchies {
            let name = hierarchy.mountpoint.file_name().unwrap();
            let info = mountinfo(std::path::Path::new("/sys/fs/cgroup").join(name));
            assert!(info.starts_with("ro,nosuid,"), "{info}");
            assert!(info.contains(" - cgroup"), "{info}");
        }
    });
}

#[test]
fn a_new_cgroup_namespace_gets_new_mounts() {
    let namespaces = ["--mount", "--propagation", "private", "--cgroup"];
    inside("filesystems::a_new_cgroup_namespace_gets_new_mounts", &namespaces, |sandbox| {
        let mut host = sandbox.host();
        let hierarchies = hierarchies();
        if hierarchies.is_empty() {
            eprintln!("skip: this host has no cgroup hierarchy");
            return;
        }
        let several = hierarchies.len() > 1;
        host.cgroups = Some(if several {
            Cgroups::Several(hierarchies)
        } else {
            Cgroups::Unified { mountpoint: "/sys/fs/cgroup".into() }
        });
        let mut config = config(json!([
            proc_mount(),
            { "destination": "/cg", "type": "cgroup", "source": "cgroup", "options": ["nodev"] },
        ]));
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "cgroup" }]);
        sandbox.enter(&config, &host).ok();
        if several {
            assert!(mountinfo("/cg/pids").starts_with("rw,nodev,relatime - cgroup cgroup"));
            assert!(mountinfo("/cg/systemd").contains("name=systemd"));
        } else {
            assert!(mountinfo("/cg").starts_with("rw,nodev,relatime - cgroup2 cgroup"));
        }
    });
}
