//! `mounts[].options`: every word of the spec's table, seen in /proc/self/mountinfo.

use std::fs;

use integration::config::add_mount;
use integration::*;

/// The fields of a line of mountinfo that tests look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    flags: Vec<String>,
    tags: Vec<String>,
    kind: String,
    source: String,
    data: Vec<String>,
}

/// The topmost mount at a destination.
fn line(table: &str, destination: &str) -> Line {
    let found = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(destination));
    let found = found.unwrap_or_else(|| panic!("nothing mounted at {destination}:\n{table}"));
    let (left, right) = found.split_once(" - ").expect("a separator");
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    Line {
        flags: list(left[5]),
        tags: left[6..].iter().map(|tag| (*tag).to_owned()).collect(),
        kind: right[0].into(),
        source: right[1].into(),
        data: list(right[2]),
    }
}

impl Line {
    fn has(&self, word: &str) -> bool {
        // The superblock has a ro of its own, which is not what the option asks for.
        let data = self.data.iter().filter(|own| !["ro", "rw"].contains(&own.as_str()));
        self.flags.iter().chain(data).any(|own| own == word)
    }
}

fn seen(edit: impl FnOnce(&mut Value)) -> String {
    Container::new(&["cat", "/proc/self/mountinfo"]).with(edit).run().ok().out
}

#[test]
fn flags_of_a_tmpfs() {
    spec!();
    fails_with!("crun", "1.8 does not let a later option undo an earlier one");
    // Options, what must be there, what must not.
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec", "ro"]),
        (&["ro"], &["ro"], &["rw"]),
        (&["rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &[]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &[]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &[]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &[], &["noatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["strictatime", "nostrictatime"], &["relatime"], &["noatime"]),
        (&["sync"], &["sync"], &[]),
        (&["sync", "async"], &[], &["sync"]),
        (&["dirsync"], &["dirsync"], &[]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["rw", "ro"], &["ro"], &["rw"]),
        (
            &["mode=0711", "size=64k", "nr_inodes=100"],
            &["size=64k", "mode=711", "nr_inodes=100"],
            &[],
        ),
        (&["uid=7", "gid=8", "nosuid", "nodev"], &["uid=7", "gid=8", "nosuid", "nodev"], &[]),
    ];
    for (options, with, without) in rows {
        let table = seen(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", options));
        let line = line(&table, "/mnt");
        assert_eq!(line.kind, "tmpfs");
        assert!(with.iter().all(|word| line.has(word)), "{options:?}: {line:?}");
        assert!(!without.iter().any(|word| line.has(word)), "{options:?}: {line:?}");
    }
}

#[test]
fn the_rarer_flags() {
    spec!();
    fails_with!("runc", "1.1 takes some of these for data");
    fails_with!("crun", "1.8 knows none of these");
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&["defaults"], &["rw"], &["nosuid", "nodev", "noexec"]),
        (&["defaults", "ro"], &["ro"], &[]),
        (&["lazytime"], &["lazytime"], &[]),
        (&["lazytime", "nolazytime"], &[], &["lazytime"]),
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
        (&["mand"], &[], &[]),
        (&["nomand"], &[], &[]),
        (&["iversion"], &[], &[]),
        (&["noiversion"], &[], &[]),
        (&["silent"], &[], &[]),
        (&["loud"], &[], &[]),
        (&["norelatime"], &[], &[]),
    ];
    for (options, with, without) in rows {
        let table = seen(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", options));
        let line = line(&table, "/mnt");
        assert!(with.iter().all(|word| line.has(word)), "{options:?}: {line:?}");
        assert!(!without.iter().any(|word| line.has(word)), "{options:?}: {line:?}");
    }
}

#[test]
fn defaults_on_a_bind() {
    spec!();
    fails_with!("runc", "refuses `defaults`");
    let c = Container::new(&["cat", "/proc/self/mountinfo"]);
    let source = c.path("source");
    fs::create_dir(&source).expect("mkdir");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &source, &["bind", "defaults", "nodev"]));
    assert!(line(&c.run().ok().out, "/mnt").has("nodev"));
}

#[test]
fn flags_of_a_bind() {
    spec!();
    fails_with!("crun", "1.8 does not let a later option undo an earlier one");
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&["bind"], &["rw"], &["nosuid", "nodev", "noexec"]),
        (&["bind", "ro"], &["ro"], &["rw"]),
        (&["rbind", "ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &[]),
        (&["bind", "noatime"], &["noatime"], &["relatime"]),
        (&["bind", "nodiratime"], &["nodiratime"], &[]),
        (&["bind", "strictatime"], &[], &["relatime", "noatime"]),
        (&["ro", "bind", "rw"], &["rw"], &[]),
    ];
    for (options, with, without) in rows {
        for kind in ["bind", "none", ""] {
            let c = Container::new(&["cat", "/proc/self/mountinfo"]);
            let source = c.path("source");
            fs::create_dir(&source).expect("mkdir");
            let c = c.with(|c| add_mount(c, "/mnt", kind, &source, options));
            let run = c.run().ok();
            let table = run
                .out
                .lines()
                .filter(|line| line.contains(" /mnt "))
                .collect::<Vec<_>>()
                .join("\n");
            let line = line(&table, "/mnt");
            // The superblock is the host's: only the mount's own flags count.
            let has = |word: &&str| line.flags.iter().any(|own| own == word);
            assert!(with.iter().all(has), "{options:?}: {line:?}");
            assert!(!without.iter().any(has), "{options:?}: {line:?}");
        }
    }
}

#[test]
fn nosymfollow_on_a_bind() {
    spec!();
    fails_with!("runc", "1.1 does not know it");
    fails_with!("crun", "ignores it on a bind");
    let c = Container::sh("cat /mnt/file; cat /mnt/link 2>/dev/null || echo not followed");
    let source = c.path("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(c.path("source/file"), "file\n").expect("write");
    std::os::unix::fs::symlink("file", c.path("source/link")).expect("symlink");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &source, &["bind", "nosymfollow"]));
    assert_eq!(c.run().ok().out, "file\nnot followed\n");
}

/// A source with a tmpfs below it, in the mount namespace that the runtime is called in.
fn with_submount(script: &str, options: &[&str]) -> (Container, Outcome) {
    let c = Container::sh(script);
    let source = c.path("source");
    fs::create_dir_all(c.path("source/below")).expect("mkdir");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &source, options));
    let prepare = format!(
        "mount -t tmpfs -o relatime below {source}/below && echo x >{source}/below/file && exec \"$@\""
    );
    let through = ["unshare", "-m", "--propagation", "private", "sh", "-c", &prepare, "sh"];
    let outcome = c.through_with_bundle(&through, "run", &[]).done();
    (c, outcome)
}

#[test]
fn bind_leaves_what_is_mounted_below_and_rbind_takes_it() {
    spec!();
    assert_eq!(with_submount("ls /mnt/below", &["bind"]).1.ok().out, "");
    assert_eq!(with_submount("ls /mnt/below", &["rbind"]).1.ok().out, "file\n");
}

#[test]
fn plain_flags_are_for_the_top_alone() {
    spec!();
    let (_c, run) = with_submount("cat /proc/self/mountinfo", &["rbind", "ro", "nodev"]);
    let run = run.ok();
    assert!(line(&run.out, "/mnt").has("nodev"));
    assert!(!line(&run.out, "/mnt/below").has("nodev"));
    assert!(line(&run.out, "/mnt/below").flags.contains(&"rw".to_owned()));
}

#[test]
fn recursive_flags_reach_what_is_below() {
    spec!();
    fails_with!("crun", "recursive atime options are wrong");
    fails_with!(
        "runc",
        "1.1 knows rro and others, but not with remounts of nothing; 1.1.5 has no rnosymfollow"
    );
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&["rro"], &["ro"], &["rw"]),
        (&["rro", "rrw"], &["rw"], &["ro"]),
        (&["rnosuid"], &["nosuid"], &[]),
        (&["rnosuid", "rsuid"], &[], &["nosuid"]),
        (&["rnodev"], &["nodev"], &[]),
        (&["rnodev", "rdev"], &[], &["nodev"]),
        (&["rnoexec"], &["noexec"], &[]),
        (&["rnoexec", "rexec"], &[], &["noexec"]),
        (&["rnodiratime"], &["nodiratime"], &[]),
        (&["rnodiratime", "rdiratime"], &[], &["nodiratime"]),
        (&["rnoatime"], &["noatime"], &["relatime", "nosymfollow"]),
        (&["rnoatime", "ratime"], &[], &["noatime"]),
        (&["rrelatime"], &["relatime"], &["noatime", "nosymfollow"]),
        (&["rstrictatime"], &[], &["relatime", "noatime", "nosymfollow"]),
        (&["rnosymfollow"], &["nosymfollow"], &[]),
        (&["rnosymfollow", "rsymfollow"], &[], &["nosymfollow"]),
    ];
    for (options, with, without) in rows {
        let mut all = vec!["rbind"];
        all.extend(*options);
        let (_c, run) = with_submount("cat /proc/self/mountinfo", &all);
        let run = run.ok();
        for at in ["/mnt", "/mnt/below"] {
            let line = line(&run.out, at);
            let has = |word: &&str| line.flags.iter().any(|own| own == word);
            assert!(with.iter().all(has), "{options:?} at {at}: {line:?}");
            assert!(!without.iter().any(has), "{options:?} at {at}: {line:?}");
        }
    }
}

#[test]
fn recursive_ones_on_a_fresh_mount() {
    spec!();
    fails_with!("runc", "1.1 has not all of them");
    fails_with!("crun", "recursive atime options are wrong");
    let table = seen(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", &["rro", "rnoatime", "rnosuid"]));
    let line = line(&table, "/mnt");
    assert!(["ro", "noatime", "nosuid"].iter().all(|word| line.has(word)), "{line:?}");
}

#[test]
fn propagation_of_single_mounts() {
    spec!();
    fails_with!("crun", "makes them private again");
    for (option, tag) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
        ("slave", ""),
        ("rslave", ""),
    ] {
        let table = seen(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", &[option]));
        let tags = line(&table, "/mnt").tags.concat();
        assert!(
            if tag.is_empty() { tags.is_empty() } else { tags.starts_with(tag) },
            "{option}: {tags}"
        );
    }
}

#[test]
fn tmpcopyup() {
    spec!();
    let c = Container::sh("cat /data/file /data/dir/deep; readlink /data/link; stat -c '%a %u' /data /data/file; grep -c ' /data ' /proc/self/mountinfo; rm -r /data/*")
        .with_files(|root| {
            use std::os::unix::fs::{PermissionsExt, chown, symlink};
            fs::create_dir_all(root.join("data/dir")).expect("mkdir");
            fs::write(root.join("data/file"), "file\n").expect("write");
            fs::write(root.join("data/dir/deep"), "deep\n").expect("write");
            symlink("file", root.join("data/link")).expect("symlink");
            chown(root.join("data/file"), Some(1000), None).expect("chown");
            fs::set_permissions(root.join("data/file"), fs::Permissions::from_mode(0o640)).expect("chmod");
            fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o750)).expect("chmod");
        })
        .with(|c| {
            add_mount(c, "/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
            config::set_capabilities(c, &["CAP_DAC_OVERRIDE"]);
        });
    let run = c.run().ok();
    let lines = run.lines();
    assert_eq!(lines[..3], ["file", "deep", "file"]);
    assert!(lines[4] == "640 1000", "{run:?}");
    if runtime::runtime().is_davit() {
        assert_eq!(lines[3], "750 0", "the directory's own mode too");
    }
    assert_eq!(lines[5], "1");
    assert!(c.rootfs().join("data/dir/deep").exists(), "the original is untouched");
}

#[test]
fn tmpfs_hides_what_is_there() {
    spec!();
    fails_with!("runc", "1.1 gives it the mode of what it hides");
    let c = Container::sh("ls /etc; stat -c %a /etc")
        .with(|c| add_mount(c, "/etc", "tmpfs", "tmpfs", &["mode=700"]));
    assert_eq!(c.run().ok().out, "700\n");
}

#[test]
fn an_unknown_option_is_the_kernels_to_refuse() {
    spec!();
    let c = Container::new(&["true"])
        .with(|c| add_mount(c, "/mnt", "tmpfs", "tmpfs", &["nosuchopt=1"]));
    c.run().refuses(&["mounts[7]", "/mnt", "nosuchopt"]);
    let kind = Container::new(&["true"]).with(|c| add_mount(c, "/mnt", "nosuchfs", "x", &[]));
    kind.run().refuses(&["mounts[7]", "nosuchfs", "no such device"]);
}

#[test]
fn values_for_a_file_system_on_a_bind_have_no_effect_which_is_said() {
    davit_only!("crun says nothing, runc refuses them");
    let c = Container::sh("cd /mnt && echo done")
        .with(|c| add_mount(c, "/mnt", "bind", "/etc", &["bind", "mode=755"]));
    let log = c.path("log");
    let c = c.global(&["--log", &log, "--log-level", "warning"]);
    assert_eq!(c.run().ok().out, "done\n");
    let log = std::fs::read_to_string(log).expect("log");
    assert!(log.contains("mounts[7].options[1]: \\\"mode=755\\\" has no effect"), "{log}");
}

#[test]
fn a_word_on_a_bind_that_is_no_option_is_refused() {
    davit_only!("crun ignores it in silence");
    let c = Container::new(&["true"])
        .with(|c| add_mount(c, "/mnt", "bind", "/etc", &["bind", "nosiud"]));
    c.run().refuses(&["mounts[7].options[1]", "nosiud"]);
}

#[test]
fn remount() {
    spec!();
    fails_with!("crun", "keeps no flags of the first mount");
    let table = seen(|c| {
        add_mount(c, "/mnt", "tmpfs", "tmpfs", &["size=64k"]);
        add_mount(c, "/mnt", "tmpfs", "tmpfs", &["remount", "ro", "size=128k"]);
    });
    assert_eq!(table.lines().filter(|line| line.contains(" /mnt ")).count(), 1);
    let line = line(&table, "/mnt");
    assert!(line.has("ro") && line.has("size=128k"), "{line:?}");
}
