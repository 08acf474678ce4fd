//! `checkpoint`: what it does to the container, and when it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::checkpoint::path;
use integration::config::push;
use integration::leftovers::is_dead;
use integration::*;

#[test]
fn a_counter_goes_on_where_it_was() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.moves_on();
    assert_eq!(c.status(), "running");
    c.counts_beyond(before + 3);
}

#[test]
fn the_container_is_gone_afterwards() {
    criu!();
    let c = Container::counter();
    c.up();
    let pid = c.pid();
    let said = c.checkpoint(&[]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert!(is_dead(pid), "its program still runs");
    c.assert_nothing_left();
    // containerd looks for these words.
    c.call(&["delete", &c.id]).done().says(&["does not exist"]);
    c.call(&["state", &c.id]).done().says(&["does not exist"]);
}

#[test]
fn it_runs_on_if_it_is_left_running() {
    criu!();
    let c = Container::counter();
    c.up();
    let pid = c.pid();
    let before = c.counts_beyond(3);
    // podman gives the flag twice.
    c.checkpoint(&["--leave-running", "--leave-running"]);
    assert_eq!((c.status().as_str(), c.pid()), ("running", pid));
    let then = c.counts_beyond(before + 20);
    c.delete().ok();
    c.restore(&[]);
    let now = c.counted();
    assert!((before..then).contains(&now), "{before} {then} {now}");
    c.counts_beyond(then);
}

#[test]
fn a_whole_tree_of_processes() {
    criu!();
    // A `sleep` of newer versions of busybox ends where CRIU has interrupted it.
    let wait = "tail -f /dev/null";
    let c = Container::sh(&format!(
        "(while :; do sleep 0.1; done) & (setsid {wait} &) ; {wait} | cat; wait"
    ));
    c.up();
    let tree = |c: &Container| c.ask("ps -o ppid,pid,args | grep -v -e ps -e 'sleep 0.1' -e grep");
    let all = call::within(call::DEADLINE, || {
        Some(tree(&c)).filter(|all| all.matches("tail").count() == 2 && all.contains("cat"))
    });
    c.moves_on();
    assert_eq!(Some(tree(&c)), all);
}

/// runc does that too.
#[test]
fn a_paused_one_goes_on_running() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.call(&["pause", &c.id]).done().ok();
    c.moves_on();
    c.counts_beyond(before);
}

#[test]
fn before_the_start_and_after_the_end_it_is_refused() {
    criu!();
    let c = Container::counter();
    c.checkpoint_call(&[]).done().refuses(&["does not exist"]);
    c.create_call(&[]).silent().done().exits(0);
    c.checkpoint_call(&[]).done().refuses(&["created"]);
    assert_eq!(c.status(), "created");
    c.start();
    c.kill("KILL").ok();
    c.until_status("stopped");
    c.checkpoint_call(&[]).done().refuses(&[]);
    assert_eq!(c.status(), "stopped");
}

/// runc quotes CRIU's log.
#[test]
fn stdio_that_is_a_file_is_refused_and_named() {
    criu!();
    let c = Container::counter();
    let file = fs::File::create(c.path("err")).expect("create");
    c.create_call(&[]).silent().stderr(file).done().exits(0);
    c.start();
    let before = c.counts_beyond(3);
    c.checkpoint_call(&[]).done().refuses(&["stderr", &c.path("err"), "hint:", "/dev/null"]);
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
}

/// runc quotes CRIU's log.
#[test]
fn an_open_file_of_the_host_is_refused_and_named() {
    criu!();
    let c = Container::sh(&format!("exec >/dev/null 2>&1; {}", checkpoint::COUNTER));
    let file = c.path("outside");
    let shell = format!("exec 3>{file}; exec \"$@\" 2>&1 >/dev/null");
    let words = ["--preserve-fds", "1"];
    let call = c.through_with_bundle(&["sh", "-c", &shell, "sh"], "create", &words);
    call.silent().done().exits(0);
    c.start();
    let before = c.counts_beyond(3);
    let refused = c.checkpoint_call(&[]).done().refuses(&["fd=3", "hint:"]);
    if runtime::runtime().is_davit() {
        refused.says(&[&file]);
    }
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
}

#[test]
fn a_check_stops_nothing_and_says_what_is_in_the_way() {
    criu!();
    davit_only!("no other runtime has --check");
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint_call(&["--check"]).done().exits(0);
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
    assert!(!c.dir().join("image").exists(), "a check writes nothing");

    let c = Container::new(&["/bin/locker"]);
    probe::install(&c.rootfs(), "locker", LOCKER);
    c.up();
    let holds_lock = || {
        let check = c.checkpoint_call(&["--check"]).done();
        (check.code == 1 && check.out.contains("--file-locks")).then_some(())
    };
    assert!(call::within(call::DEADLINE, holds_lock).is_some());
    assert_eq!(c.status(), "running");
}

/// Locks /lock, and waits.
const LOCKER: &str = r#"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
int main(void) {
    int fd = open("/lock", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || flock(fd, LOCK_EX)) return 1;
    for (;;) pause();
}
"#;

#[test]
fn a_locked_file_needs_a_flag() {
    criu!();
    let c = Container::new(&["/bin/locker"]);
    probe::install(&c.rootfs(), "locker", LOCKER);
    c.up();
    let locked = || {
        let locks = fs::read_to_string("/proc/locks").expect("locks");
        locks.lines().any(|line| line.contains(&format!(" {} ", c.pid())))
    };
    assert!(call::within(call::DEADLINE, || locked().then_some(())).is_some());
    c.checkpoint_call(&[]).done().refuses(&["lock", "--file-locks"]);
    assert_eq!(c.status(), "running");
    c.checkpoint(&["--file-locks"]);
    c.restore(&["--file-locks"]);
    assert!(locked(), "the lock is lost");
}

#[test]
fn a_device_that_criu_does_not_know_is_named() {
    criu!();
    let numbers = json!({ "type": "c", "major": 10, "minor": 229 });
    let with = |more: Value| {
        let mut all = numbers.clone();
        let map = all.as_object_mut().expect("an object");
        map.extend(more.as_object().expect("an object").clone());
        all
    };
    let c = Container::sh("exec 9</dev/fuse; echo >/dev/shm/open; tail -f /dev/null").with(|c| {
        push(&mut c["linux"]["devices"], with(json!({ "path": "/dev/fuse" })));
        let rule = with(json!({ "allow": true, "access": "rwm" }));
        push(&mut c["linux"]["resources"]["devices"], rule);
    });
    c.up();
    let open = || fs::metadata(format!("/proc/{}/root/dev/shm/open", c.pid())).ok();
    assert!(call::within(call::DEADLINE, open).is_some(), "it is not open");
    let own: &[&str] =
        if runtime::runtime().is_davit() { &["descriptor 9, /dev/fuse"] } else { &[] };
    c.checkpoint_call(&[]).done().refuses(&[&["10:229"], own].concat());
    assert_eq!(c.status(), "running");
    if runtime::runtime().is_davit() {
        let check = c.checkpoint_call(&["--check"]).done();
        assert!(check.code == 1 && check.out.contains(own[0]), "{check:?}");
    }
}

/// A CRIU of this script, alone in the caller's PATH.
fn with_criu(c: &Container, script: &str) -> String {
    let dir = c.path("criu");
    fs::create_dir_all(&dir).expect("mkdir");
    let file = format!("{dir}/criu");
    fs::write(&file, script).expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

#[test]
fn without_criu_it_says_so() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    let nothing = c.path("io");
    let call = c.checkpoint_call(&[]).env("PATH", &nothing).done();
    call.refuses(&["criu", "hint:", "install"]);
    c.checkpoint_call(&["--leave-running"]).done().exits(0);
    c.counts_beyond(before);
    c.delete().ok();
    let call = c.restore_call(&c.image(), &["--detach"]).env("PATH", &nothing).done();
    call.refuses(&["criu", "hint:", "install"]);
    c.assert_nothing_left();
}

/// The answer to VERSION is CRIU's own message: `criu_resp { type: VERSION, success: true, version:
/// { major_number: 3, minor_number: 10 } }`. runc asks for 3.0 or newer.
#[test]
fn an_old_criu_is_refused_with_its_version() {
    criu!();
    davit_only!("runc is content with older ones");
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    let old = "#!/bin/sh\n[ \"$1\" = swrk ] || { echo Version: 3.10; exit; }\n\
        printf '\\010\\012\\020\\001\\122\\004\\010\\003\\020\\012' >&\"$2\"\nexec /bin/sleep 1\n";
    let call = c.checkpoint_call(&[]).env("PATH", with_criu(&c, old)).done();
    call.refuses(&["criu", "3.10"]);
    c.counts_beyond(before);
}

#[test]
fn a_criu_that_fails_at_once_changes_nothing() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    for broken in ["#!/bin/sh\nexit 3\n", "#!/bin/sh\nkill -9 $$\n", "#!/bin/sh\necho no >&3\n"] {
        let call = c.checkpoint_call(&[]).env("PATH", with_criu(&c, broken)).done();
        call.refuses(&["criu"]);
        assert_eq!(c.status(), "running");
    }
    c.counts_beyond(before);
}

#[test]
fn what_engines_look_for_in_the_help() {
    spec!();
    let c = Container::counter();
    // podman: whether the runtime can do it at all.
    for command in ["checkpoint", "restore"] {
        c.call(&[command, "--help"]).done().exits(0);
    }
    // podman, for pods. podman 4 knows runc's words only.
    let said = c.call(&["restore", "--lsm-mount-context"]).done().fails();
    let words = match runtime::runtime().name.as_str() {
        "crun" => "requires an argument",
        _ => "flag needs an argument",
    };
    assert!(said.err.contains(words), "{said:?}");
    if runtime::runtime().is_davit() {
        assert!(c.call(&["--version"]).done().ok().out.contains("+CRIU"));
    }
}

#[test]
fn criu_is_found_in_the_path_of_the_caller() {
    criu!();
    let c = Container::counter();
    c.up();
    let asked = c.path("asked");
    let criu = checkpoint::criu().expect("CRIU").display();
    let script = format!("#!/bin/sh\necho \"$@\" >>{asked}\nexec {criu} \"$@\"\n");
    let first = with_criu(&c, &script);
    let call = c.checkpoint_call(&[]).env("PATH", format!("{first}:{}", path())).done();
    call.exits(0);
    assert!(fs::read_to_string(&asked).expect("asked").contains("swrk"));
}

#[test]
fn explain_says_what_would_be_done() {
    criu!();
    davit_only!("no other runtime has explain");
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    let explain = |words: &[&str]| c.call(&[&["explain"], words].concat()).env("PATH", path());
    let text = explain(&["--checkpoint", &c.id]).done().ok().out;
    assert!(text.contains(&c.pid().to_string()), "{text}");
    let json = explain(&["--checkpoint", &c.id, "--format", "json"]).done().ok().json();
    assert!(json.is_object() || json.is_array());
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
    c.checkpoint(&[]);
    let text = explain(&["--restore", &c.image(), &c.path("bundle")]).done().ok().out;
    assert!(text.contains("linux.cgroupsPath"), "{text}");
    c.assert_nothing_left();
}

/// The container is not torn by two who want it at once.
#[test]
fn two_checkpoints_at_once() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    let second = c.path("second");
    let calls = [
        c.checkpoint_call(&[]).spawn(),
        c.checkpoint_call(&["--image-path", &second, "--work-path", &c.path("work-2")]).spawn(),
    ];
    let codes = calls.map(|call| call.wait().code);
    assert!(codes.contains(&0), "{codes:?} {:?}", c.criu_errors());
    let image = if codes[0] == 0 { c.image() } else { second };
    c.assert_nothing_left();
    c.restore_from(&image, &[]).counts_beyond(before);
}
