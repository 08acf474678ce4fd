//! Open descriptors: a container's program gets exactly the requested descriptors of the caller,
//! down to the inode; hooks and helper programs get none (CVE-2024-21626 was a leaked directory).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use integration::*;

/// Prints each open descriptor from 3 up and the file behind it.
const LIST: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
int main(void) {
    struct stat s;
    for (int fd = 3; fd < 20000; fd++)
        if (fstat(fd, &s) == 0) printf("%d %lu:%lu\n", fd, (unsigned long)s.st_dev, (unsigned long)s.st_ino);
    return 0;
}
"#;

/// What the caller has open, by number, and how it calls davit.
struct Caller {
    open: Vec<i32>,
    variables: &'static str,
}

impl Caller {
    /// The words that open the files and go on as the rest of the command line, with the same pid.
    fn words(&self, c: &Container) -> Vec<String> {
        let opened: Vec<_> = self.open.iter().map(|fd| format!("{fd}<{}", file(c, *fd))).collect();
        // What the test itself has inherited is not of this caller. dash knows numbers of one digit
        // only.
        let close =
            "for fd in /proc/$$/fd/*; do n=${fd##*/}; [ $n -le 2 ] || eval \"exec $n>&-\"; done";
        let script = format!("{close}; exec {}; {} exec \"$@\"", opened.join(" "), self.variables);
        ["bash", "-c", &script, "bash"].map(str::to_owned).to_vec()
    }

    /// What the program must print: those of the open files whose numbers are passed on.
    fn expected(&self, c: &Container, passed: std::ops::Range<i32>) -> String {
        let open = self.open.iter().filter(|fd| passed.contains(fd));
        let lines = open.map(|fd| {
            let file = fs::metadata(file(c, *fd)).expect("stat");
            format!("{fd} {}:{}\n", file.dev(), file.ino())
        });
        lines.collect()
    }
}

fn file(c: &Container, fd: i32) -> String {
    c.path(&format!("fd{fd}"))
}

fn lister(args: &[&str]) -> Container {
    let c = Container::new(args).with_files(|root| probe::install(root, "list", LIST));
    for fd in 3..130 {
        fs::write(file(&c, fd), "").expect("write");
    }
    c
}

fn call(c: &Container, caller: &Caller, words: &[&str]) -> Outcome {
    let before = caller.words(c);
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    c.call_through(&before, words).done()
}

/// Callers, what is asked for, and how many numbers from 3 up are passed on.
fn cases() -> Vec<(Caller, &'static str, i32)> {
    let caller = |open: &[i32], variables| Caller { open: open.to_vec(), variables };
    let for_us = "export LISTEN_FDS=2 LISTEN_PID=$$;";
    vec![
        (caller(&[], ""), "0", 0),
        // Nothing is open: what davit opens itself takes these numbers.
        (caller(&[], ""), "2", 2),
        (caller(&[], ""), "8", 8),
        (caller(&[3, 4], ""), "0", 0),
        (caller(&[3, 4], ""), "2", 2),
        (caller(&[3, 4], ""), "1", 1),
        // Holes, and numbers above.
        (caller(&[5, 9], ""), "2", 2),
        (caller(&[5, 9], ""), "7", 7),
        (caller(&[3, 120], ""), "118", 118),
        (caller(&[4, 7], for_us), "0", 2),
        (caller(&[4, 7], for_us), "3", 5),
        (caller(&[], for_us), "0", 2),
        // Another process's.
        (caller(&[3, 4], "export LISTEN_FDS=2 LISTEN_PID=1;"), "0", 0),
        (caller(&[3, 4], "export LISTEN_FDS=2;"), "0", 0),
    ]
}

#[test]
fn run_and_create_pass_on_what_was_asked_for() {
    davit_only!("runc passes whatever has these numbers");
    for (caller, count, passed) in cases() {
        let c = lister(&["/bin/list"]);
        let expected = caller.expected(&c, 3..3 + passed);
        c.write();
        let (bundle, log) = (c.path("bundle"), c.path("log"));
        let words =
            |command| ["--log", &log, command, "--bundle", &bundle, "--preserve-fds", count, &c.id];
        let run = call(&c, &caller, &words("run")).ok();
        assert_eq!(run.out, expected, "run --preserve-fds {count} with {:?}", caller.open);
        let detached = ["run", "--detach", "--bundle", &bundle, "--preserve-fds", count, &c.id];
        call(&c, &caller, &detached).ok();
        c.until_status("stopped");
        assert_eq!(
            fs::read_to_string(c.path("io/2.out")).expect("output"),
            expected,
            "run --detach"
        );
        c.delete().ok();
        let calls = fs::read_dir(c.path("io")).expect("calls").count() / 2;
        call(&c, &caller, &words("create")).ok();
        c.start();
        c.until_status("stopped");
        let out = fs::read_to_string(c.path(&format!("io/{}.out", calls + 1))).expect("output");
        assert_eq!(out, expected, "create --preserve-fds {count} with {:?}", caller.open);
        c.delete().ok();
    }
}

#[test]
fn exec_passes_on_what_was_asked_for() {
    davit_only!("runc passes whatever has these numbers");
    let c = lister(&["/bin/sh", "-c", "while :; do sleep 0.05; done"]);
    c.create().start();
    let pid_file = c.path("exec.pid");
    for (caller, count, passed) in cases() {
        let expected = caller.expected(&c, 3..3 + passed);
        let words = ["exec", "--preserve-fds", count, &c.id, "/bin/list"];
        let run = call(&c, &caller, &words).ok();
        assert_eq!(run.out, expected, "exec --preserve-fds {count} with {:?}", caller.open);
        let with_log =
            ["--log", &c.path("log"), "exec", "--preserve-fds", count, &c.id, "/bin/list"];
        assert_eq!(call(&c, &caller, &with_log).ok().out, expected, "with --log");
        // A detached one returns when the program runs: no descriptor of the handshake stays open.
        let detached = [
            "exec",
            "--detach",
            "--pid-file",
            &pid_file,
            "--preserve-fds",
            count,
            &c.id,
            "sleep",
            "2",
        ];
        let start = std::time::Instant::now();
        call(&c, &caller, &detached).ok();
        assert!(start.elapsed() < call::patient(std::time::Duration::from_millis(1500)));
        let pid = fs::read_to_string(&pid_file).expect("pid");
        let got: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("fds")
            .map(|fd| fd.expect("fd").file_name().to_str().expect("utf-8").parse().expect("number"))
            .filter(|fd| *fd > 2)
            .collect();
        assert_eq!(got.len(), expected.lines().count(), "exec -d: {got:?}");
    }
}

#[test]
fn with_a_terminal_too() {
    davit_only!("runc passes whatever has these numbers");
    let c = lister(&["/bin/sh", "-c", "while :; do sleep 0.05; done"]);
    c.create().start();
    for (caller, count, passed) in cases().into_iter().take(8) {
        let expected = caller.expected(&c, 3..3 + passed);
        let before = caller.words(&c);
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let mut terminal = terminal::Screen::new(80, 24);
        let words = ["exec", "--tty", "--preserve-fds", count, &c.id, "/bin/list"];
        let run = c.call_through(&before, &words).stdio(&terminal.slave()).spawn();
        let run = run.wait();
        assert_eq!(run.code, 0, "{run:?}");
        let out = terminal.rest().replace('\r', "");
        assert_eq!(out, expected, "exec --tty --preserve-fds {count} with {:?}", caller.open);
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    davit_only!("runc and crun ask for as much memory as it takes");
    let c = lister(&["/bin/list"]);
    c.write();
    let running = Container::sleeper();
    running.create().start();
    for count in ["4294967295", "65537", "-1", "4294967296", "x"] {
        for command in ["run", "create"] {
            c.call(&[command, "--bundle", &c.path("bundle"), "--preserve-fds", count, &c.id])
                .done()
                .refuses(&["--preserve-fds"]);
            c.assert_nothing_left();
        }
        running
            .call(&["exec", "--preserve-fds", count, &running.id, "true"])
            .done()
            .refuses(&["--preserve-fds"]);
    }
    for count in ["4294967295", "65537", "-1"] {
        let caller = [
            "bash",
            "-c",
            &format!("export LISTEN_FDS={count} LISTEN_PID=$$; exec \"$@\""),
            "bash",
        ];
        c.through_with_bundle(&caller, "run", &[]).done().refuses(&["LISTEN_FDS"]);
        c.assert_nothing_left();
    }
}

/// Each hook writes the targets of its descriptors to a file of its own.
fn spying_hooks(c: &mut Value, log: &str) {
    for kind in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        let script = format!("cat >/dev/null; ls -l /proc/$$/fd >{log}/{kind}");
        c["hooks"][kind] = json!([config::shell_hook(&script)]);
    }
}

#[test]
fn no_hook_sees_one() {
    spec!();
    fails_with!("runc", "1.1 passes the descriptors of its caller to hooks");
    fails_with!("crun", "1.8 passes the descriptors of its caller to hooks");
    let c = lister(&["/bin/sh", "-c", "sleep 0.2"]);
    let log = c.path("hooks");
    fs::create_dir(&log).expect("mkdir");
    let c = c.with(|c| {
        spying_hooks(c, &log);
        config::add_mount(c, &log, "bind", &log, &["rbind"]);
    });
    let caller = Caller { open: vec![3, 4, 5, 9], variables: "" };
    c.write();
    let bundle = c.path("bundle");
    call(&c, &caller, &["create", "--bundle", &bundle, "--preserve-fds", "7", &c.id]).ok();
    call(&c, &caller, &["start", &c.id]).ok();
    c.until_status("stopped");
    call(&c, &caller, &["delete", &c.id]).ok();
    assert_only_standard_streams(Path::new(&log), 6);
    call(&c, &caller, &["run", "--bundle", &bundle, "--preserve-fds", "7", &c.id]).ok();
    assert_only_standard_streams(Path::new(&log), 6);
}

#[track_caller]
fn assert_only_standard_streams(log: &Path, hooks: usize) {
    let logs: Vec<_> =
        fs::read_dir(log).expect("logs").map(|log| log.expect("log").path()).collect();
    assert_eq!(logs.len(), hooks, "{logs:?}");
    for log in logs {
        let text = fs::read_to_string(&log).expect("log");
        // A shell keeps its script and, while it redirects them, its own streams open at 10 and
        // above.
        for line in text.lines().filter(|line| line.contains(" -> ")) {
            let (left, target) = line.split_once(" -> ").expect("a link");
            let number: i32 = left.rsplit(' ').next().expect("a number").parse().expect("a number");
            let own = number <= 2
                || (number >= 10
                    && (target.contains("memfd:davit:hook")
                        || target.contains("/helpers/")
                        || target.starts_with("pipe:")));
            assert!(own, "{}: {line}", log.display());
        }
        fs::remove_file(log).expect("rm");
    }
}

const UID: u32 = 4711;

/// The words that become that user, who is unprivileged.
const AS_USER: [&str; 5] =
    ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "--inh-caps=-all"];

/// A container of that user's, in a user namespace with his own id.
fn rootless(c: &mut Value) {
    config::make_rootless(c, UID, UID);
}

fn hand_over(c: &Container) {
    c.write();
    c.give_to(UID);
}

#[test]
fn an_unprivileged_user_passes_on_his_own() {
    davit_only!("runc passes whatever has these numbers");
    for (caller, count, passed) in cases() {
        let c = lister(&["/bin/list"]).with(rootless);
        let expected = caller.expected(&c, 3..3 + passed);
        hand_over(&c);
        let words = caller.words(&c);
        let before: Vec<&str> =
            AS_USER.into_iter().chain(words.iter().map(String::as_str)).collect();
        let run = ["run", "--bundle", &c.path("bundle"), "--preserve-fds", count, &c.id];
        let run = c.call_through(&before, &run).env("XDG_RUNTIME_DIR", c.path("")).done().ok();
        assert_eq!(run.out, expected, "rootless run --preserve-fds {count} with {:?}", caller.open);
        c.assert_nothing_left();
    }
}

/// newuidmap and newgidmap are called for an unprivileged user.
#[test]
fn no_helper_sees_one() {
    davit_only!("about davit's own descriptors");
    let c = lister(&["/bin/list"]).with(rootless).with(|c| {
        let more = json!({ "containerID": 1, "hostID": 100_000, "size": 10 });
        for maps in ["uidMappings", "gidMappings"] {
            config::push(&mut c["linux"][maps], more.clone());
        }
    });
    let log = c.path("hooks");
    fs::create_dir_all(c.path("helpers")).expect("mkdir");
    fs::create_dir(&log).expect("mkdir");
    for name in ["newuidmap", "newgidmap"] {
        let helper = c.path(&format!("helpers/{name}"));
        fs::write(&helper, format!("#!/bin/sh\nls -l /proc/$$/fd >{log}/{name}\nexit 1\n"))
            .expect("write");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    hand_over(&c);
    let caller = Caller { open: vec![3, 4, 9], variables: "" };
    let mut before = AS_USER.to_vec();
    let words = caller.words(&c);
    before.extend(words.iter().map(String::as_str));
    let path = format!("{}:/usr/bin:/bin", c.path("helpers"));
    let run =
        c.through_with_bundle(&before, "run", &["--preserve-fds", "7"]).env("PATH", path).done();
    run.fails();
    assert_only_standard_streams(Path::new(&log), 1);
}
