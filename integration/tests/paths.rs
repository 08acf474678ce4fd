//! `linux.maskedPaths` and `linux.readonlyPaths`, and the paths of what is made in the container.

use std::fs;
use std::os::unix::fs::symlink;

use integration::config::add_mount;
use integration::*;

fn masked(script: &str, paths: &Value) -> Container {
    Container::sh(script).with(|c| c["linux"]["maskedPaths"] = paths.clone()).with_files(|root| {
        fs::create_dir_all(root.join("secret/dir")).expect("mkdir");
        fs::write(root.join("secret/file"), "secret\n").expect("write");
        fs::write(root.join("secret/dir/file"), "secret\n").expect("write");
    })
}

#[test]
fn masked_files_are_empty_and_directories_too() {
    spec!();
    let c = masked(
        "cat /secret/file; ls /secret/dir; touch /secret/dir/new 2>&1 | grep -c 'Read-only'",
        &json!(["/secret/file", "/secret/dir"]),
    );
    assert_eq!(c.run().ok().out, "1\n");
    assert_eq!(fs::read_to_string(c.rootfs().join("secret/file")).expect("file"), "secret\n");
}

#[test]
fn masked_paths_of_proc() {
    spec!();
    let c = Container::sh(
        "cat /proc/timer_list | wc -c; cat /proc/keys | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | wc -w",
    );
    let run = c.run();
    assert_eq!(run.out.lines().take(2).collect::<Vec<_>>(), ["0", "0"], "{run:?}");
}

#[test]
fn missing_paths_are_skipped() {
    spec!();
    let c = Container::sh("echo fine; ls /nosuch 2>/dev/null | wc -l").with(|c| {
        c["linux"]["maskedPaths"] = json!(["/nosuch/path", "/nosuch", "/etc/passwd/below"]);
        c["linux"]["readonlyPaths"] = json!(["/nosuch/path", "/nosuch"]);
    });
    if runtime::runtime().is_davit() || runtime::runtime().name == "runc" {
        let c = c.with(|c| c["linux"]["maskedPaths"] = json!(["/nosuch/path", "/nosuch"]));
        assert_eq!(c.run().ok().out, "fine\n0\n");
        assert!(!c.rootfs().join("nosuch").exists());
    }
}

#[test]
fn masked_through_symlinks_stays_inside() {
    spec!();
    let outside = tempfile::tempdir().expect("tempdir");
    fs::write(outside.path().join("file"), "the host's\n").expect("write");
    let way = outside.path().join("file");
    let c =
        masked("cat /way 2>/dev/null; cat /inner", &json!(["/way", "/inner"])).with_files(|root| {
            std::os::unix::fs::symlink(&way, root.join("way")).expect("symlink");
            std::os::unix::fs::symlink("/secret/file", root.join("inner")).expect("symlink");
        });
    // The link that points nowhere inside is skipped; the other one's target is masked.
    let run = c.run();
    assert!(!run.out.contains("secret") && !run.out.contains("host"), "{run:?}");
    assert_eq!(fs::read_to_string(way).expect("file"), "the host's\n");
}

#[test]
fn read_only_paths() {
    spec!();
    let script = "cat /secret/file; touch /secret/new 2>&1 | grep -c Read-only; touch /secret/dir/new 2>&1 | grep -c Read-only; \
                  (echo x >/secret/file) 2>&1 | grep -c Read-only; touch /fine && echo fine";
    let c = masked(script, &json!([])).with(|c| c["linux"]["readonlyPaths"] = json!(["/secret"]));
    assert_eq!(c.run().ok().out, "secret\n1\n1\n1\nfine\n");
    let file = masked(
        "(echo x >/secret/file) 2>&1 | grep -c Read-only; touch /secret/new && echo fine",
        &json!([]),
    )
    .with(|c| c["linux"]["readonlyPaths"] = json!(["/secret/file"]));
    assert_eq!(file.run().ok().out, "1\nfine\n");
}

#[test]
fn read_only_paths_keep_the_other_flags() {
    spec!();
    fails_with!("crun", "1.8 drops them");
    let c = Container::sh("awk '$5 == \"/dev/shm\" { print $6 }' /proc/self/mountinfo | tail -1")
        .with(|c| c["linux"]["readonlyPaths"] = json!(["/dev/shm"]));
    let run = c.run().ok();
    for word in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(run.out.trim().split(',').any(|own| own == word), "{word}: {run:?}");
    }
}

#[test]
fn proc_sys_is_read_only() {
    spec!();
    let c = Container::sh("(echo 1 >/proc/sys/net/ipv4/ip_forward) 2>&1 | grep -c Read-only");
    assert_eq!(c.run().ok().out, "1\n");
}

#[test]
fn masks_hold_for_exec_too() {
    spec!();
    let c = masked("sleep 1000", &json!(["/secret/file"]));
    c.create().start();
    assert_eq!(c.ask("cat /secret/file"), "");
}

#[test]
fn masks_hold_on_a_read_only_root() {
    spec!();
    let c = masked("cat /secret/file; echo end", &json!(["/secret/file", "/secret/dir"]))
        .with(|c| c["root"]["readonly"] = true.into());
    assert_eq!(c.run().ok().out, "end\n");
}

#[test]
fn relative_ones_are_refused() {
    davit_only!("the spec says MUST be absolute; other runtimes take them");
    for field in ["maskedPaths", "readonlyPaths"] {
        let c = Container::new(&["true"])
            .with(|c| c["linux"][field] = json!(["/proc/keys", "etc/passwd"]));
        c.run().refuses(&[&format!("linux.{field}[1]"), "etc/passwd"]);
    }
}

/// A12: a path that stands twice in the list, also in another spelling, is mounted once.
#[test]
fn a_path_given_twice_is_mounted_once() {
    davit_only!("crun 1.8 mounts it twice");
    let script =
        "grep -c ' /proc/keys ' /proc/self/mountinfo; grep -c ' /proc/sys ' /proc/self/mountinfo";
    let c = Container::sh(script).with(|c| {
        c["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/keys", "/proc//keys/."]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/sys", "/proc/../proc/sys"]);
    });
    assert_eq!(c.run().ok().out, "1\n1\n");
}

/// Several destinations have one directory, which is not looked up again: not even where a later
/// mount covers it, or a link leads to it under another name.
#[test]
fn what_is_made_is_made_in_the_topmost_mount() {
    spec!();
    let script = "ls /cover /other; stat -c %F /cover/late /dev/null /dev/one /dev/two";
    let c = Container::sh(script).with_files(|root| {
        fs::create_dir(root.join("cover")).expect("mkdir");
        symlink("cover", root.join("other")).expect("symlink");
    });
    let c = c.with(|c| {
        for place in ["/dev/one", "/cover/early", "/cover", "/cover/late", "/dev/two"] {
            add_mount(c, place, "tmpfs", "tmpfs", &[]);
        }
        // Under its other name the directory is covered once more.
        for place in ["/cover/hidden", "/other", "/cover/late"] {
            add_mount(c, place, "tmpfs", "tmpfs", &[]);
        }
    });
    let directory = "directory\n";
    let expected = format!(
        "/cover:\nlate\n\n/other:\nlate\n{directory}character special file\n{directory}{directory}"
    );
    assert_eq!(c.run().ok().out, expected);
}
