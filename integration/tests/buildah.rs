//! The runtime under buildah, with `--isolation oci`.

use std::fs;

use integration::*;

#[test]
fn runs() {
    let b = buildah!();
    assert_eq!(b.sh(&[], "echo made >/made; cat /made"), "made\n");
    // What one run has written the next one sees.
    assert_eq!(b.sh(&[], "cat /made"), "made\n");
    // buildah's own code is 1, or the program's.
    let failed = b.run(&[], &["sh", "-c", "echo out; exit 5"]).fails();
    assert!(failed.out == "out\n" && failed.err.contains("exit status 5"), "{failed:?}");
    let missing = b.run(&[], &["nosuch"]).fails();
    assert!(missing.err.contains("executable file not found in $PATH"), "{missing:?}");
}

#[test]
fn options() {
    let b = buildah!();
    fs::create_dir(b.path("volume")).expect("mkdir");
    let volume = format!("{}:/mnt:ro", b.path("volume"));
    for (options, script, expected) in [
        (&["--user", "bob"][..], "id -u; id -g", "1000\n1000\n"),
        (&["--workingdir", "/home/bob"], "pwd", "/home/bob\n"),
        (&["--env", "A=b"], "echo $A", "b\n"),
        (&["--hostname", "abc"], "hostname", "abc\n"),
        (
            &["--cap-drop", "CAP_CHOWN"],
            "chown 1 /tmp 2>&1 | grep -o 'not permitted'",
            "not permitted\n",
        ),
        (
            &["--volume", &volume],
            "touch /mnt/x 2>&1 | grep -o 'Read-only.*'",
            "Read-only file system\n",
        ),
        (&["--mount", "type=tmpfs,destination=/mnt"], "stat -f -c %T /mnt", "tmpfs\n"),
        (&[], "ls /sys/class/net; ls -d /dev/mapper 2>/dev/null", "lo\n"),
    ] {
        let script = format!("{script}; true");
        assert_eq!(b.sh(options, &script), expected, "{options:?}");
    }
}

#[test]
fn build() {
    let b = buildah!();
    fs::create_dir(b.path("context")).expect("mkdir");
    b.buildah(&["commit", "--quiet", &b.container, "base"]).exits(0);
    let file = "FROM localhost/base\nRUN echo made >/made\nUSER bob\nWORKDIR /tmp\n\
                RUN id -u >mine && cat /made mine\n";
    fs::write(b.path("context/Containerfile"), file).expect("write");
    let (with, context) = (b.with_runtime(), b.path("context"));
    let build =
        b.buildah(&[&["build", "--quiet=false", "--tag", "made"], &with[..], &[&context]].concat());
    let build = build.exits(0);
    assert!(build.out.contains("made\n1000\n"), "{build:?}");
}

/// B1: buildah calls create, start and, where start fails, delete at once, without force: what is
/// not over by then stays.
#[test]
fn programs_that_cannot_be_executed_leave_nothing() {
    let b = buildah!();
    b.sh(&[], "cp /bin/busybox /bin/private && chmod 700 /bin/private");
    for _ in 0..10 {
        for (options, command, says) in [
            (&["--user", "bob"][..], "/bin/private", "permission denied"),
            (&[], "/etc", "is a directory"),
        ] {
            let run = b.run(options, &[command]).fails();
            assert!(run.err.contains(says), "{run:?}");
            let left = b.left();
            assert!(left.is_empty(), "{command}: {left:#?}: {run:?}");
        }
    }
}
