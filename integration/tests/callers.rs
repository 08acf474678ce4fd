//! The caller of davit, and the state that it leaves behind: the same container comes out, or one
//! line of error with nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use integration::call::within;
use integration::*;

/// `as STATE... -- WORDS`: becomes a caller of that kind, and executes the words.
const CALLER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
static void limit(int resource, rlim_t most) {
    struct rlimit r;
    getrlimit(resource, &r);
    r.rlim_cur = most;
    if (setrlimit(resource, &r)) { perror("setrlimit"); exit(99); }
}
int main(int argc, char **argv) {
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        char *s = argv[i];
        sigset_t all;
        sigfillset(&all);
        if (!strcmp(s, "ignore-chld")) signal(SIGCHLD, SIG_IGN);
        else if (!strcmp(s, "ignore-all")) { for (int n = 1; n <= 64; n++) signal(n, SIG_IGN); }
        else if (!strcmp(s, "block-all")) sigprocmask(SIG_BLOCK, &all, 0);
        else if (!strcmp(s, "itimer")) {
            /* While the hook of these tests sleeps. */
            /* Not before davit has begun, however slow the host is. */
            char *factor = getenv("DAVIT_TEST_TIME_FACTOR");
            long first = 100000 * (factor && *factor ? atol(factor) : 1);
            struct itimerval t = { { 0, 5000 }, { first / 1000000, first % 1000000 } };
            setitimer(ITIMER_REAL, &t, 0);
        }
        else if (!strcmp(s, "pdeathsig")) prctl(PR_SET_PDEATHSIG, SIGKILL);
        else if (!strcmp(s, "nice")) setpriority(PRIO_PROCESS, 0, 7);
        else if (!strcmp(s, "batch")) { struct sched_param p = { 0 }; sched_setscheduler(0, SCHED_BATCH, &p); }
        else if (!strcmp(s, "idle")) { struct sched_param p = { 0 }; sched_setscheduler(0, SCHED_IDLE, &p); }
        else if (!strncmp(s, "umask:", 6)) umask(strtol(s + 6, 0, 8));
        else if (!strcmp(s, "cwd-gone")) {
            char dir[] = "/tmp/gone-XXXXXX";
            if (!mkdtemp(dir) || chdir(dir) || rmdir(dir)) { perror("cwd"); return 99; }
        }
        else if (!strncmp(s, "close:", 6)) { for (int n = 0; n < 3; n++) if (atoi(s + 6) & 1 << n) close(n); }
        else if (!strcmp(s, "nofile")) limit(RLIMIT_NOFILE, 3);
        else if (!strcmp(s, "stack")) limit(RLIMIT_STACK, 64 << 10);
        else if (!strcmp(s, "fsize")) limit(RLIMIT_FSIZE, 0);
        else if (!strcmp(s, "as")) limit(RLIMIT_AS, 64 << 20);
        else if (!strcmp(s, "core")) limit(RLIMIT_CORE, 0);
        else if (!strcmp(s, "cpu")) limit(RLIMIT_CPU, 30);
        else if (!strcmp(s, "keyring")) syscall(SYS_keyctl, 1, "callers");
        else if (!strcmp(s, "nnp")) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        else if (!strcmp(s, "subreaper")) prctl(PR_SET_CHILD_SUBREAPER, 1);
        else if (!strcmp(s, "children")) {
            /* An own child that has ended, and one that runs: neither is davit's to wait for. */
            if (fork() == 0) _exit(3);
            if (fork() == 0) { usleep(200000); _exit(0); }
        }
        else if (!strcmp(s, "chroot")) { if (chroot("/")) return 99; }
        else { fprintf(stderr, "what is %s?\n", s); return 99; }
    }
    if (i + 1 < argc) execvp(argv[i + 1], argv + i + 1);
    perror("exec");
    return 99;
}
"#;

/// What becomes of the container.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    /// It is the one that an ordinary caller gets.
    Same,
    /// One line of error, and nothing is left.
    Refused,
}

const CALLERS: &[(&[&str], Expected)] = &[
    (&["ignore-chld"], Expected::Same),
    (&["ignore-all"], Expected::Same),
    (&["block-all"], Expected::Same),
    (&["ignore-all", "block-all"], Expected::Same),
    (&["itimer"], Expected::Same),
    (&["pdeathsig"], Expected::Same),
    (&["subreaper"], Expected::Same),
    (&["children"], Expected::Same),
    (&["umask:0"], Expected::Same),
    (&["umask:777"], Expected::Same),
    (&["cwd-gone"], Expected::Same),
    (&["close:1"], Expected::Same),
    (&["close:2"], Expected::Same),
    (&["close:3"], Expected::Same),
    (&["close:4"], Expected::Same),
    (&["close:5"], Expected::Same),
    (&["close:6"], Expected::Same),
    (&["close:7"], Expected::Same),
    (&["nofile"], Expected::Refused),
    (&["fsize"], Expected::Refused),
    (&["stack"], Expected::Refused),
    (&["as"], Expected::Same),
    (&["cpu"], Expected::Same),
    (&["core"], Expected::Same),
    (&["keyring"], Expected::Same),
    (&["nnp"], Expected::Same),
    (&["chroot"], Expected::Same),
];

/// What the container sees of itself; limits, niceness and policy are inherited by design.
const LOOK: &str = "grep -E '^(Sig[BIC]|Shd|Umask|Cap|NoNew|Uid|Gid|Groups)' /proc/self/status; pwd; env | sort; \
    ls -ld /made | cut -c1-10; ls /proc/self/fd | wc -l";

/// It takes long enough for a timer to fire.
fn with_hook(config: &mut Value) {
    let hook = json!({ "path": "/bin/sleep", "args": ["sleep", seconds(200)] });
    config["hooks"]["createRuntime"] = json!([hook]);
}

/// So many milliseconds on this host, as sleep(1) takes them.
fn seconds(milliseconds: u64) -> String {
    call::patient(Duration::from_millis(milliseconds)).as_secs_f64().to_string()
}

fn caller<'a>(program: &'a str, states: &[&'a str]) -> Vec<&'a str> {
    [&[program], states, &["--"]].concat()
}

/// A container that writes what it sees to a file of its root: its streams may be closed.
fn looking() -> Container {
    Container::sh(&format!("{{ {LOOK}; }} >/seen 2>&1; mv /seen /done; exec sleep 1000"))
        .with(|c| c["process"]["cwd"] = "/made".into())
        .with(with_hook)
}

fn seen(c: &Container) -> Option<String> {
    within(Duration::from_secs(10), || fs::read_to_string(c.rootfs().join("done")).ok())
}

/// Asserts that a caller in these states gets one line of error and that nothing is left; and that
/// no command takes anything away from an existing container, whether it can work or not.
fn refused_without_a_trace(c: &Container, through: &[&str], states: &[&str], create: Outcome) {
    // Standard error is a file here, and may not grow either.
    let said = create.fails().err;
    let is_one_line = said.lines().count() == 1 || (said.is_empty() && states.contains(&"fsize"));
    assert!(is_one_line, "{states:?} {said}");
    c.assert_nothing_left();
    c.create().start();
    let commands: [&[&str]; 3] =
        [&["exec", &c.id, "true"], &["start", &c.id], &["update", "--pids-limit", "90", &c.id]];
    for words in commands {
        let refused = c.call_through(through, words).done();
        assert!(refused.code < 256, "{states:?} {refused:?}");
    }
    assert_eq!(c.status(), "running", "{states:?}");
    assert_eq!(c.delete().code, 0);
}

#[test]
fn create_start_exec_and_the_others() {
    davit_only!("other runtimes inherit much of this");
    let program = probe::compile("caller", CALLER);
    let program = program.to_str().expect("utf-8");
    let usual = looking();
    usual.create().start();
    let usual_seen = seen(&usual).expect("a usual container");
    let usual_exec = usual.ask(LOOK);
    for (states, expected) in CALLERS {
        let through = caller(program, states);
        let c = looking();
        let create = c.through_with_bundle(&through, "create", &[]).done();
        if *expected == Expected::Refused {
            refused_without_a_trace(&c, &through, states, create);
            continue;
        }
        let closed = states.iter().any(|state| state.starts_with("close"));
        let fine = |outcome: Outcome, what: &str| {
            assert_eq!(outcome.code, 0, "{states:?} {what}: {outcome:?}");
            outcome
        };
        fine(create, "create");
        fine(c.call_through(&through, &["start", &c.id]).done(), "start");
        assert_eq!(seen(&c).as_ref(), Some(&usual_seen), "{states:?}");
        let look = ["exec", &c.id, "sh", "-c", LOOK];
        let exec = fine(c.call_through(&through, &look).done(), "exec");
        assert!(closed || exec.out == usual_exec, "{states:?} exec: {exec:?}");
        let fails = ["exec", &c.id, "sh", "-c", "exit 7"];
        c.call_through(&through, &fails).done().exits(7);
        for words in [
            &["state", &c.id][..],
            &["ps", &c.id],
            &["list"],
            &["events", "--stats", &c.id],
            &["update", "--pids-limit", "90", &c.id],
            &["pause", &c.id],
            &["resume", &c.id],
            &["kill", &c.id, "KILL"],
        ] {
            fine(c.call_through(&through, words).done(), words[0]);
        }
        c.until_status("stopped");
        fine(c.call_through(&through, &["delete", &c.id]).done(), "delete");
        c.assert_nothing_left();
    }
}

#[test]
fn run() {
    davit_only!("other runtimes inherit much of this");
    let program = probe::compile("caller", CALLER);
    let program = program.to_str().expect("utf-8");
    let script = format!("{{ {LOOK}; }} >/done 2>&1; exit 5");
    let container =
        || Container::sh(&script).with(|c| c["process"]["cwd"] = "/made".into()).with(with_hook);
    let usual = container();
    usual.run().exits(5);
    let usual = seen(&usual);
    for (states, expected) in CALLERS {
        let c = container();
        let run = c.through_with_bundle(&caller(program, states), "run", &[]).done();
        match expected {
            Expected::Refused => {
                assert!((1..256).contains(&run.code) && run.code != 5, "{states:?} {run:?}")
            }
            Expected::Same => {
                assert_eq!(run.code, 5, "{states:?}: {run:?}");
                assert_eq!(seen(&c), usual, "{states:?}");
            }
        }
        c.assert_nothing_left();
    }
}

/// root is not subject to RLIMIT_NPROC.
#[test]
fn a_user_who_may_make_no_process_is_told_so() {
    davit_only!("its own messages");
    let c = Container::sh("true").with(|c| config::make_rootless(c, 4712, 4712));
    c.write();
    c.give_to(4712);
    let as_user = [
        "setpriv",
        "--reuid=4712",
        "--regid=4712",
        "--clear-groups",
        "--inh-caps=-all",
        "prlimit",
        "--nproc=1",
        "--",
    ];
    let run = c.through_with_bundle(&as_user, "run", &[]).env("XDG_RUNTIME_DIR", c.path("")).done();
    run.refuses(&["clone3", "RLIMIT_NPROC"]);
    c.assert_nothing_left();
}

/// A timer outlives the exec of davit, and its signal waits in davit while that is blocked; kill(2)
/// may send it too.
#[test]
fn a_timer_of_the_caller_does_not_reach_the_program() {
    davit_only!("runc and crun pass the signal on");
    let program = probe::compile("caller", CALLER);
    let through = caller(program.to_str().expect("utf-8"), &["itimer"]);
    let sleeps = format!("sleep {}; exit 5", seconds(300));
    let c = Container::sh(&sleeps);
    c.through_with_bundle(&through, "run", &[]).done().exits(5);
    let c = Container::sleeper();
    c.create().start();
    let exec = ["exec", &c.id, "sh", "-c", &sleeps];
    c.call_through(&through, &exec).done().exits(5);
    let trap = "trap 'exit 6' ALRM; echo ready; while :; do sleep 0.05; done";
    let mut exec = c.call(&["exec", &c.id, "sh", "-c", trap]).spawn();
    exec.until_out("ready\n");
    exec.signal(nix::sys::signal::Signal::SIGALRM);
    exec.wait().exits(6);
}

#[test]
fn hooks_begin_with_default_signals_and_the_callers_umask() {
    davit_only!("the other runtimes' hooks inherit what their callers ignore");
    let program = probe::compile("caller", CALLER);
    let program = program.to_str().expect("utf-8");
    let c = Container::sh("sleep 0.2");
    let log = c.path("log");
    fs::create_dir(&log).expect("mkdir");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).expect("chmod");
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let c = c.with(|c| {
        for kind in kinds {
            let script = format!("cat >/dev/null; cat /proc/self/status >{log}/{kind}");
            c["hooks"][kind] = json!([config::shell_hook(&script)]);
        }
    });
    let through = caller(program, &["ignore-all", "block-all", "umask:27"]);
    c.through_with_bundle(&through, "run", &[]).done().ok();
    for kind in kinds {
        let status = fs::read_to_string(format!("{log}/{kind}")).expect("log");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim().to_owned()
        };
        assert_eq!(field("SigBlk:"), "0000000000000000", "{kind}");
        // Real-time signals keep what two programs agreed upon (signal(7)).
        let ignored = u64::from_str_radix(&field("SigIgn:"), 16).expect("a mask");
        assert_eq!(ignored & 0xffff_ffff, 0, "{kind}: {ignored:x}");
        if kind != "createContainer" {
            assert_eq!(field("Umask:"), "0027", "{kind}");
        }
    }
}

#[test]
fn a_terminal_that_nobody_has_is_an_error_at_once() {
    spec!();
    let c = Container::sh("cat").with(|c| c["process"]["terminal"] = true.into());
    c.run_call(&[]).done().fails();
    c.assert_nothing_left();
    let c = Container::sleeper();
    c.create().start();
    c.exec_with(&["--tty"], &["cat"]).fails();
}

/// With a terminal, and standard input a pipe: its end is the program's too.
#[test]
fn the_end_of_input_reaches_a_program_with_a_terminal() {
    davit_only!("runc does not pass it on");
    let screen = terminal::Screen::new(80, 24);
    let c = Container::sh("cat; echo the end").with(|c| c["process"]["terminal"] = true.into());
    let call = c.run_call(&[]).stdio(&screen.slave()).stdin(Stdio::null());
    call.done().exits(0);
    c.assert_nothing_left();
    let c = Container::sleeper();
    c.create().start();
    let call = c.exec_call(&["--tty"], &["cat"]).stdio(&screen.slave()).stdin(Stdio::null());
    call.done().exits(0);
}

#[test]
fn a_read_only_run_is_named() {
    davit_only!("its own messages");
    let c = Container::sh("true");
    c.write();
    let script = "mount -t tmpfs -o ro none /run && exec \"$@\"";
    let davit = runtime::runtime().path.to_string_lossy().into_owned();
    let words = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        &davit,
        "run",
        "--bundle",
        &c.path("bundle"),
        &c.id,
    ];
    c.host(&words).done().refuses(&["/run/davit", "read-only file system"]);
    c.assert_nothing_left();
}

#[test]
fn a_full_tmp_and_another_root_do_not_matter() {
    davit_only!("other runtimes need /tmp for some of this");
    let c = Container::sh("echo fine");
    c.write();
    let (davit, bundle) =
        (runtime::runtime().path.to_string_lossy().into_owned(), c.path("bundle"));
    let state = c.path("state");
    for script in [
        "mkdir -p $0/tmp && mount -t tmpfs -o size=4k none /var/tmp && cat /dev/zero >/var/tmp/x 2>/dev/null; exec \"$@\"",
        // A root that is a mount below the host's.
        "mkdir -p $0/root && mount --rbind / $0/root && exec chroot $0/root \"$@\"",
    ] {
        let dir = c.path("other");
        let words = [
            "unshare", "-m", "sh", "-c", script, &dir, &davit, "--root", &state, "run", "--bundle",
            &bundle, &c.id,
        ];
        assert_eq!(c.host(&words).done().exits(0).out, "fine\n", "{script}");
    }
    c.assert_nothing_left();
}

#[test]
fn variables_of_the_caller_change_nothing() {
    davit_only!("about davit's own process");
    let c = Container::sh("env | sort");
    let usual = c.run().ok().out;
    let variables = [
        ("TZ", "/etc/passwd"),
        ("LANG", "xx_XX"),
        ("LC_ALL", "xx"),
        ("RUST_BACKTRACE", "full"),
        ("LD_PRELOAD", "/no/such.so"),
        ("LD_LIBRARY_PATH", "/no"),
        ("TMPDIR", "/no/such"),
        ("HOME", "/no/such"),
        ("PATH", ""),
        ("MALLOC_CHECK_", "3"),
    ];
    for (name, value) in variables {
        let run = c.run_call(&[]).env(name, value).done();
        assert_eq!(run.exits(0).out, usual, "{name}={value}");
    }
}
