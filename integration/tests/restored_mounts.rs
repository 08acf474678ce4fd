//! Mounts of a restored container: all that stood there stands there, as it was.

use std::fs;

use integration::config::{add_mount, push, set_userns};
use integration::*;

/// The mounts as the container sees them, without numbers: root, place, options and file system.
/// Of a file that is masked only that it is.
///
/// Not compared with runc: the cgroup v1 mounts, which show the host's whole hierarchies after
/// runc's restore.
#[track_caller]
fn mounts(c: &Container) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", c.pid())).expect("mountinfo");
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let after = words.iter().position(|word| *word == "-").expect("a dash");
        let tags: Vec<&str> =
            words[6..after].iter().filter_map(|tag| tag.split(':').next()).collect();
        let (root, place, options, kind) = (words[3], words[4], words[5], words[after + 1]);
        match (root, kind) {
            ("/null", _) => format!("masked {place}"),
            (_, "cgroup") if runtime::runtime().name == "runc" => {
                format!("cgroup {place} {options}")
            }
            _ => format!("{root} {place} {options} {tags:?} {kind}"),
        }
    };
    let mut all: Vec<String> = table.lines().map(line).collect();
    all.sort();
    all
}

/// It has the same mounts after it was restored, and counts on.
#[track_caller]
fn keeps_its_mounts(c: &Container) {
    c.up();
    let before = mounts(c);
    let counted = c.counts_beyond(3);
    c.moves_on();
    c.counts_beyond(counted);
    assert_eq!(mounts(c), before);
}

#[test]
fn the_usual_mounts() {
    criu!();
    keeps_its_mounts(&Container::counter());
}

#[test]
fn binds_of_directories_and_files() {
    criu!();
    let c = Container::counter();
    for dir in ["data/deep", "read-only"] {
        fs::create_dir_all(c.dir().join(dir)).expect("mkdir");
    }
    fs::write(c.path("file"), "a file\n").expect("write");
    fs::write(c.path("data/deep/in"), "within\n").expect("write");
    let (data, read_only, file) = (c.path("data"), c.path("read-only"), c.path("file"));
    let c = c.with(|c| {
        add_mount(c, "/mnt/data", "bind", &data, &["rbind", "rprivate"]);
        add_mount(c, "/mnt/ro", "bind", &read_only, &["rbind", "ro", "nosuid", "noexec"]);
        add_mount(c, "/etc/file", "bind", &file, &["bind"]);
        add_mount(c, "/mnt/again", "bind", &data, &["bind", "ro"]);
    });
    keeps_its_mounts(&c);
    let said = c.ask("cat /mnt/data/deep/in /etc/file /mnt/again/deep/in; touch /mnt/data/new");
    assert_eq!(said, "within\na file\nwithin\n");
    assert!(fs::exists(c.path("data/new")).expect("stat"));
    for place in ["/mnt/ro", "/mnt/again"] {
        let touch = c.exec(&["touch", &format!("{place}/new")]).fails();
        assert!(touch.err.contains("Read-only"), "{touch:?}");
    }
}

/// The bind's source is named anew by config.json: what is there now is seen.
#[test]
fn a_bind_with_another_source() {
    criu!();
    let c = Container::counter();
    for (dir, text) in [("old", "old\n"), ("new", "new\n")] {
        fs::create_dir(c.dir().join(dir)).expect("mkdir");
        fs::write(c.dir().join(dir).join("which"), text).expect("write");
    }
    let (old, new) = (c.path("old"), c.path("new"));
    let mut c = c.with(|c| add_mount(c, "/mnt", "bind", &old, &["rbind"]));
    c.up();
    assert_eq!(c.ask("cat /mnt/which"), "old\n");
    c.checkpoint(&[]);
    c.config["mounts"].as_array_mut().expect("mounts").pop();
    add_mount(&mut c.config, "/mnt", "bind", &new, &["rbind"]);
    c.restore(&[]);
    assert_eq!(c.ask("cat /mnt/which"), "new\n");
}

#[test]
fn tmpfs_with_what_was_in_it() {
    criu!();
    let c = Container::counter().with(|c| {
        add_mount(c, "/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "size=1m", "mode=1777"]);
    });
    c.up();
    c.ask(
        "umask 077; echo hello >/tmp/file; mkdir -p /tmp/a/b; ln -s file /tmp/link; chmod 5711 /tmp/a",
    );
    let list =
        "cd /tmp; ls -lnR | grep -v '^total'; cat link; df -k /tmp | tail -1 | awk '{print $2}'";
    let before = c.ask(list);
    let mounted = mounts(&c);
    c.moves_on();
    assert_eq!(c.ask(list), before);
    assert!(before.contains("hello\n1024\n"), "{before}");
    assert_eq!(mounts(&c), mounted);
}

#[test]
fn masks_and_read_only_paths() {
    criu!();
    let c = Container::counter()
        .with_files(|root| {
            fs::create_dir(root.join("secret")).expect("mkdir");
            fs::write(root.join("secret/key"), "key").expect("write");
            fs::write(root.join("hidden"), "hidden").expect("write");
        })
        .with(|c| {
            push(&mut c["linux"]["maskedPaths"], "/secret".into());
            push(&mut c["linux"]["maskedPaths"], "/hidden".into());
            push(&mut c["linux"]["maskedPaths"], "/not/there".into());
            push(&mut c["linux"]["readonlyPaths"], "/etc".into());
            push(&mut c["linux"]["readonlyPaths"], "/etc/passwd".into());
        });
    keeps_its_mounts(&c);
    assert_eq!(
        c.ask("ls -A /secret; ls -A /proc/acpi; cat /hidden /proc/keys /proc/timer_list"),
        ""
    );
    for path in ["/secret/new", "/etc/new", "/etc/passwd"] {
        let touch = c.exec(&["touch", path]).fails();
        assert!(touch.err.contains("Read-only"), "{touch:?}");
    }
}

#[test]
fn a_read_only_root() {
    criu!();
    let c = Container::counter().with(|c| c["root"]["readonly"] = true.into());
    keeps_its_mounts(&c);
    let touch = c.exec(&["touch", "/new"]).fails();
    assert!(touch.err.contains("Read-only"), "{touch:?}");
}

#[test]
fn devices() {
    criu!();
    let device = json!({ "path": "/dev/full2", "type": "c", "major": 1, "minor": 7,
        "fileMode": 0o666, "uid": 5, "gid": 6 });
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 7, "access": "rwm" });
    let c = Container::counter().with(|c| {
        push(&mut c["linux"]["devices"], device);
        push(&mut c["linux"]["resources"]["devices"], rule);
    });
    keeps_its_mounts(&c);
    assert_eq!(
        c.ask("stat -c '%t:%T %u %g %a' /dev/full2; readlink /dev/fd"),
        "1:7 5 6 666\n/proc/self/fd\n"
    );
    c.exec(&["sh", "-c", "echo >/dev/full2"]).says(&["No space left"]);
    assert_eq!(c.ask("head -c 3 /dev/zero | wc -c; echo >/dev/null; ls /dev/pts"), "3\nptmx\n");
}

/// runc has CRIU mount it again, with the directories of the checkpoint.
#[test]
fn an_overlay() {
    criu!();
    let c = Container::counter();
    for dir in ["lower", "upper", "work-of-overlay"] {
        fs::create_dir(c.dir().join(dir)).expect("mkdir");
    }
    fs::write(c.path("lower/below"), "below\n").expect("write");
    let options = ["lower", "upper", "work-of-overlay"].map(|dir| c.path(dir));
    let words = [
        format!("lowerdir={}", options[0]),
        format!("upperdir={}", options[1]),
        format!("workdir={}", options[2]),
        "nosuid".to_owned(),
    ];
    let c = c.with(|c| {
        let words = words.each_ref().map(String::as_str);
        add_mount(c, "/mnt", "overlay", "overlay", &words);
    });
    c.up();
    c.ask("echo above >/mnt/above");
    let before = mounts(&c);
    let counted = c.counts_beyond(3);
    c.moves_on();
    c.counts_beyond(counted);
    assert_eq!(mounts(&c), before);
    assert_eq!(c.ask("cat /mnt/below /mnt/above; echo new >/mnt/new"), "below\nabove\n");
    assert_eq!(fs::read_to_string(c.path("upper/new")).expect("read"), "new\n");
    c.call(&["delete", "--force", &c.id]).done().exits(0);
    c.assert_nothing_left();
}

/// The directories of an overlay come from the config.json of the restore, as sources do.
#[test]
fn an_overlay_with_other_directories() {
    criu!();
    fails_with!("runc", "CRIU mounts it again, with the directories of the checkpoint");
    let c = Container::counter();
    for dir in ["one", "two", "lowest"] {
        fs::create_dir(c.dir().join(dir)).expect("mkdir");
        fs::write(c.dir().join(dir).join("name"), format!("{dir}\n")).expect("write");
    }
    let lower = ["one", "two"].map(|dir| format!("lowerdir={}:{}", c.path(dir), c.path("lowest")));
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &[&lower[0]]));
    c.up();
    assert_eq!(c.ask("cat /mnt/name"), "one\n");
    c.checkpoint(&[]);
    let c = c.with(|c| {
        let mounts = c["mounts"].as_array_mut().expect("mounts");
        mounts.last_mut().expect("a mount")["options"] = json!([lower[1]]);
    });
    c.restore(&[]);
    assert_eq!(c.ask("cat /mnt/name"), "two\n");
}

#[test]
fn mounts_that_map_ids() {
    criu!();
    fails_with!("runc", "Debian's has no id-mapped mounts; newer ones restore them as plain binds");
    for user_namespace in [false, true] {
        let c = Container::counter();
        let data = c.path("data");
        fs::create_dir(&data).expect("mkdir");
        fs::write(c.path("data/file"), "").expect("write");
        let c = c.with(|c| {
            if user_namespace {
                set_userns(c, 100_000, 65536);
            }
            add_mount(c, "/mnt", "bind", &data, &["rbind", "idmap"]);
            let host = if user_namespace { 100_000 } else { 1000 };
            let maps = json!([{ "containerID": 0, "hostID": host, "size": 1000 }]);
            let mount = c["mounts"].as_array_mut().expect("mounts").last_mut().expect("a mount");
            mount["uidMappings"] = maps.clone();
            mount["gidMappings"] = maps;
        });
        let owner = if user_namespace { "0 0\n" } else { "1000 1000\n" };
        c.up();
        assert_eq!(c.ask("stat -c '%u %g' /mnt/file"), owner);
        let counted = c.counts_beyond(3);
        c.moves_on();
        c.counts_beyond(counted);
        assert_eq!(c.ask("stat -c '%u %g' /mnt/file"), owner);
        c.call(&["delete", "--force", &c.id]).done().exits(0);
        c.assert_nothing_left();
    }
}

/// A mount point that is not in the root (any more): the bundle may be another machine's.
#[test]
fn mount_points_are_made_if_they_are_missing() {
    criu!();
    let first = Container::counter();
    fs::create_dir(first.path("data")).expect("mkdir");
    fs::write(first.path("file"), "text\n").expect("write");
    let (data, file) = (first.path("data"), first.path("file"));
    let edit = |c: &mut Value| {
        add_mount(c, "/not/there/yet", "bind", &data, &["rbind"]);
        add_mount(c, "/nor/this", "bind", &file, &["bind"]);
    };
    let first = first.with(edit);
    first.up();
    let before = first.counts_beyond(3);
    first.checkpoint(&[]);
    let other = Container::counter().with(edit);
    other.restore_from(&first.image(), &[]);
    other.counts_beyond(before);
    assert_eq!(other.ask("cat /nor/this; ls /not/there"), "text\nyet\n");
}
