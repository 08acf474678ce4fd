//! A command that has returned has done what it reports, and state is true while another command
//! works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use integration::call::{patient, rounds, within};
use integration::*;
use nix::sys::signal::Signal;

/// A program of the image that passes the search of `create` and cannot be executed.
fn with_broken(c: Container) -> Container {
    c.with_files(|root| {
        fs::write(root.join("bin/broken"), "\x7fELF").expect("write");
        fs::set_permissions(root.join("bin/broken"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
    })
}

/// buildah calls create, start and delete, one after the other, whatever `start` says.
#[test]
fn a_start_that_failed_has_finished_failing() {
    davit_only!("other runtimes look for it in create");
    let (mut busy, rounds) = (0, rounds(200));
    for round in 0..rounds {
        let c = with_broken(Container::new(&["/bin/broken"]));
        c.create();
        c.call(&["start", &c.id]).done().refuses(&["exec format error"]);
        let delete = c.call(&["delete", &c.id]).done();
        if delete.code != 0 {
            busy += 1;
            c.delete();
        }
        if round % 20 == 0 {
            c.assert_nothing_left();
        }
    }
    assert_eq!(busy, 0, "deletes of {rounds} that found the container running");
}

/// The program does not begin before other commands find it, however slow the runtime is at writing
/// the identity of init.
#[test]
fn a_program_that_runs_is_found() {
    davit_only!("system calls of davit");
    skip_if!(fixture::missing(&["strace"]));
    let c = Container::sh("echo up; while :; do sleep 0.05; done");
    let trace = c.path("trace");
    // The first link is that of the cgroup.
    let delay = "inject=symlinkat:delay_enter=1000000:when=2";
    let strace = ["strace", "-qq", "-o", &trace, "-e", "trace=symlinkat", "-e", delay];
    let mut run = c.through_with_bundle(&strace, "run", &[]).spawn();
    run.until_out("up");
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    run.wait().exits(137);
    let trace = fs::read_to_string(&trace).expect("trace");
    assert!(
        trace.lines().any(|line| line.contains("DELAYED") && line.contains("\"init\"")),
        "{trace}"
    );
}

/// runtime.md, "Lifecycle", steps 7 and 9: an error, the container stopped, destroyed, and its
/// poststop hooks called.
#[test]
fn a_failing_hook_of_start_destroys_the_container() {
    davit_only!("runc and crun leave a stopped container");
    for kind in ["startContainer", "poststart"] {
        let c = Container::sleeper();
        let log = c.path("poststop");
        let hook = |script: String| json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        let c = c.with(|c| {
            c["hooks"][kind] = hook("echo broken; exit 3".to_owned());
            c["hooks"]["poststop"] = hook(format!("/bin/echo once >>{log}"));
        });
        c.create();
        let start = c.call(&["start", &c.id]).done();
        start.refuses(&[&format!("hooks.{kind}[0]"), "exit status 3: broken"]);
        assert_eq!(fs::read_to_string(&log).expect("poststop has run"), "once\n", "{kind}");
        c.call(&["state", &c.id]).done().refuses(&["does not exist"]);
        c.assert_nothing_left();
    }
}

/// A container whose setup takes as long as the test wants: the mount of a FUSE file system or a
/// dead NFS server would hang here as this hook does.
fn slow(seconds: u32) -> Container {
    let c = Container::sleeper();
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("/bin/sleep {seconds}")] });
    c.with(|c| c["hooks"]["createContainer"] = json!([hook]))
}

fn until_creating(c: &Container) {
    let creating = || {
        let state = c.call(&["state", &c.id]).done();
        (state.code == 0 && state.json()["pid"] != 0).then(|| state.json())
    };
    let state = within(Duration::from_secs(10), creating).expect("a state with a pid");
    assert_eq!(state["status"], "creating", "{state}");
}

/// A process is "creating" from its first instant on, however late it gets to execute init: here it
/// waits for its id maps before that.
#[test]
fn a_process_that_has_not_executed_init_is_creating() {
    davit_only!("runc and crun have no state of it yet");
    skip_if!(fixture::missing(&["strace"]));
    let c = slow(1000).with(|c| config::set_userns(c, 100_000, 65536));
    let trace = c.path("trace");
    let delay = "inject=execveat:delay_enter=500000";
    let strace = ["strace", "-f", "-qq", "-o", &trace, "-e", "trace=execveat", "-e", delay];
    let run = c.through_with_bundle(&strace, "run", &[]).spawn();
    let delayed = || fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("DELAYED"));
    within(Duration::from_secs(10), || {
        let state = c.call(&["state", &c.id]).done();
        if state.code == 0 {
            assert_eq!(state.json()["status"], "creating", "{state:?}");
        }
        delayed().then_some(())
    })
    .expect("an execveat that was delayed");
    until_creating(&c);
    c.call(&["delete", "--force", &c.id]).done().ok();
    run.wait().fails();
    c.assert_nothing_left();
}

/// Executes itself, again and again: most of the time it has no arguments (proc(5), cmdline).
const EXECUTES_ITSELF: &str = r#"
#include <unistd.h>
int main(int argc, char **argv) { return execv("/bin/again", argv); }
"#;

/// As `exec sleep` in a shell: the first program of a container may execute others.
#[test]
fn a_program_that_executes_itself_is_running() {
    spec!();
    let c = Container::new(&["/bin/again"])
        .with_files(|root| probe::install(root, "again", EXECUTES_ITSELF));
    c.run_call(&["--detach"]).silent().done().exits(0);
    for _ in 0..rounds(200) {
        assert_eq!(c.status(), "running");
    }
    c.call(&["delete", "--force", &c.id]).done().exits(0);
}

#[test]
fn a_run_that_hangs_can_be_seen_killed_and_deleted() {
    davit_only!("runc and crun have no state of it yet");
    for (end, holder) in
        [("kill", "works"), ("delete", "works"), ("delete", "stopped"), ("kill", "stopped")]
    {
        let c = slow(1000);
        let run = c.run_call(&[]).spawn();
        until_creating(&c);
        if holder == "stopped" {
            run.signal(Signal::SIGSTOP);
        }
        let pid = c.pid();
        let start = Instant::now();
        match end {
            "kill" => c.call(&["kill", &c.id, "KILL"]).done().ok(),
            _ => c.call(&["delete", "--force", &c.id]).done().ok(),
        };
        let ended = within(Duration::from_secs(1), || leftovers::is_dead(pid).then_some(()));
        assert!(ended.is_some(), "{end}, and run {holder}: init lives");
        assert!(start.elapsed() < patient(Duration::from_secs(1)), "{end}, and run {holder}");
        run.signal(Signal::SIGCONT);
        run.wait().fails();
        c.delete();
        c.assert_nothing_left();
    }
}

#[test]
fn a_create_that_hangs_can_be_deleted() {
    davit_only!("runc and crun wait for the hook");
    let c = slow(1000);
    let create = c.create_call(&[]).spawn();
    until_creating(&c);
    let start = Instant::now();
    c.call(&["delete", "--force", &c.id]).done().ok();
    assert!(start.elapsed() < patient(Duration::from_secs(1)));
    create.wait().fails();
    c.assert_nothing_left();
}

/// Whatever instant `run` is killed at: nothing, or a container that can be seen, and nothing after
/// `delete --force`.
#[test]
fn a_killed_run_leaves_nothing_or_a_container() {
    davit_only!("counts davit's records");
    let (mut unknown, mut running, mut gone) = (0, 0, 0);
    let rounds = rounds(300);
    let step = patient(Duration::from_millis(30)) / rounds;
    for round in 0..rounds {
        let c = Container::sleeper();
        let options: &[&str] = if round % 2 == 0 { &["--detach"] } else { &[] };
        let run = c.run_call(options).spawn();
        std::thread::sleep(step * round);
        run.signal(Signal::SIGKILL);
        let _ = run.wait_or_kill();
        // A process that dies with the runtime needs a moment for it.
        let alive = || {
            let cgroups = leftovers::cgroups(&c.id);
            cgroups.iter().any(|cgroup| {
                fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|procs| !procs.is_empty())
            })
        };
        let dead = within(Duration::from_millis(30), || (!alive()).then_some(())).is_some();
        let state = c.call(&["state", &c.id]).done();
        let status =
            if state.code == 0 { state.json()["status"].to_string() } else { String::new() };
        match (dead, status.as_str()) {
            (true, _) => gone += 1,
            (false, "\"running\"" | "\"creating\"") => running += 1,
            (false, _) => {
                unknown += 1;
                eprintln!("round {round}: a process, and state says {state:?}");
            }
        }
        c.delete().exits(0);
        c.assert_nothing_left();
    }
    println!("SIGKILL of run: {gone} gone, {running} running with a record, {unknown} without");
    assert_eq!(unknown, 0, "programs without a record, of {rounds}");
}

#[test]
fn without_a_pid_namespace_kill_ends_all_of_it() {
    spec!();
    fails_with!("crun", "1.8 ends init only");
    fails_with!("runc", "1.1 ends init only");
    let script = "(trap '' TERM; while :; do sleep 1; done) & while :; do sleep 0.05; done";
    let c = Container::sh(script).with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    within(Duration::from_secs(5), || (leftovers::processes(&c.id).len() > 2).then_some(()));
    c.kill("KILL").ok();
    let gone =
        within(Duration::from_secs(2), || leftovers::processes(&c.id).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", leftovers::processes(&c.id));
    c.kill("KILL").refuses(&["container not running"]);
    c.call(&["delete", &c.id]).done().ok();
    // And after the end of init.
    let script = "(trap '' TERM HUP; while :; do sleep 1; done) & sleep 0.2";
    let c = Container::sh(script).with(|c| config::drop_namespace(c, "pid"));
    c.create().start();
    c.until_status("stopped");
    c.kill("TERM").refuses(&["container not running"]);
    c.kill("KILL").ok();
    let gone =
        within(Duration::from_secs(2), || leftovers::processes(&c.id).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", leftovers::processes(&c.id));
}

/// A unix socket that listens and takes no connection: its backlog is full.
struct BusySocket {
    path: String,
    _ends: Vec<std::os::fd::OwnedFd>,
}

impl BusySocket {
    fn new(path: String) -> Self {
        use nix::sys::socket::*;
        let unix = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None);
        let server = unix().expect("socket");
        let address = UnixAddr::new(path.as_str()).expect("address");
        bind(std::os::fd::AsRawFd::as_raw_fd(&server), &address).expect("bind");
        listen(&server, Backlog::new(0).expect("backlog")).expect("listen");
        let client = unix().expect("socket");
        connect(std::os::fd::AsRawFd::as_raw_fd(&client), &address).expect("connect");
        Self { path, _ends: vec![server, client] }
    }
}

#[test]
fn a_socket_that_takes_nothing_is_not_waited_for_for_ever() {
    davit_only!("other runtimes wait for ever");
    let c = Container::sleeper().with(|c| c["process"]["terminal"] = true.into());
    let busy = BusySocket::new(c.path("console"));
    c.create_call(&["--console-socket", &busy.path])
        .done()
        .refuses(&["--console-socket", "no answer within 10 s"]);
    c.assert_nothing_left();
    let c = Container::sleeper();
    let busy = BusySocket::new(c.path("pidfd"));
    c.create_call(&["--pidfd-socket", &busy.path])
        .done()
        .refuses(&["--pidfd-socket", "no answer within 10 s"]);
    c.assert_nothing_left();
}

/// An unprivileged program has filled the container's cgroup: a liveness probe still gets in.
#[test]
fn exec_at_the_limit_of_pids() {
    spec!();
    controllers!();
    fails_with!("crun", "1.8 fails like runc");
    fails_with!("runc", "fails in some of the tries");
    for namespaces in [true, false] {
        let c = Container::new(&["sleep", "1000"]).with(|c| {
            c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
            if !namespaces {
                config::drop_namespace(c, "pid");
            }
        });
        c.create().start();
        let cgroup =
            leftovers::cgroups(&c.id).into_iter().find(|path| path.join("pids.max").exists());
        let cgroup = cgroup.expect("a cgroup with the pids controller");
        let file = |name: &str| cgroup.join(name);
        for places in [1, 0] {
            fs::write(file("pids.max"), (1 + places).to_string()).expect("write");
            for _ in 0..20 {
                // A shell would want a place of its own.
                let run = c.exec(&["/bin/busybox", "echo", "in"]);
                assert_eq!(run.ok().out, "in\n", "{places} free places");
            }
        }
        fs::write(file("pids.max"), "50").expect("write");
    }
}
