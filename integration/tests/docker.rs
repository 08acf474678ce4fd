//! The runtime under docker: its exit codes come from the runtime's words.

use std::fs;

use integration::terminal::Screen;
use integration::*;

/// 125 is docker's own failure, 126 a program that cannot be executed, 127 one that is not there.
#[test]
fn exit_codes() {
    let d = docker!();
    let run = d.run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    let missing = d.run(&[], &["nosuch"]).exits(127);
    missing.says(&["exec: \"nosuch\": executable file not found in $PATH"]);
    d.run(&[], &["/no/such"]).exits(127);
    d.run(&[], &["/etc/passwd"]).exits(126);
    d.run(&[], &["/etc"]).exits(126);
    d.run(&["--no-such-option"], &["true"]).exits(125);
    fs::write(d.path("file"), "").expect("write");
    let onto = format!("{}:/etc", d.path("file"));
    d.run(&["--volume", &onto], &["true"]).exits(125).says(&["not a directory"]);
}

#[test]
fn life() {
    let d = docker!();
    d.sleeper("box", &[]);
    assert_eq!(d.inspect("box", "{{.State.Status}} {{.HostConfig.Runtime}}"), "running tested");
    let exec = d.exec(&["--env", "A=b"], "box", &["sh", "-c", "echo $A; echo err >&2; exit 4"]);
    assert_eq!((exec.code, exec.out.as_str(), exec.err.as_str()), (4, "b\n", "err\n"));
    assert_eq!(
        d.exec(&["--user", "bob", "--workdir", "/tmp"], "box", &["sh", "-c", "id -u; pwd"])
            .ok()
            .out,
        "1000\n/tmp\n"
    );
    let pid = d.inspect("box", "{{.State.Pid}}");
    let top = d.docker(&["top", "box", "-o", "pid,comm"]).ok().out;
    assert!(top.lines().any(|line| line.trim_start().starts_with(&pid)), "{pid}: {top}");

    d.docker(&["pause", "box"]).ok();
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "paused");
    d.docker(&["unpause", "box"]).ok();
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "running");

    d.docker(&["stop", "--time", "20", "box"]).ok();
    assert_eq!(d.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    d.docker(&["start", "box"]).ok();
    d.docker(&["restart", "--time", "20", "box"]).ok();
    d.docker(&["kill", "box"]).ok();
    assert_eq!(d.wait("box"), 137);
    d.docker(&["rm", "box"]).ok();
}

#[test]
fn programs_of_exec_that_cannot_be_executed() {
    let d = docker!();
    d.sleeper("box", &[]);
    for (options, program, says) in [
        (&[][..], "nosuch", "executable file not found in $PATH"),
        (&[], "/etc/passwd", "permission denied"),
        (&[], "/etc", "is a directory: permission denied"),
        (&["--workdir", "/nosuch"], "true", "no such file or directory"),
    ] {
        // This version of docker says 126 to each; the words are what the runtime says.
        let exec = d.exec(options, "box", &[program]);
        let said = exec.out.clone() + &exec.err;
        assert!(matches!(exec.code, 126 | 127) && said.contains(says), "{exec:?}");
    }
    d.docker(&["rm", "--force", "box"]).ok();
}

#[test]
fn logs() {
    let d = docker!();
    d.start("talker", &[], &["sh", "-c", "echo one; echo two >&2; sleep 0.1; echo three"]);
    assert_eq!(d.wait("talker"), 0);
    let logs = d.docker(&["logs", "talker"]).exits(0);
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("one\nthree\n", "two\n"));
}

#[test]
fn options() {
    let d = docker!();
    fs::create_dir(d.path("volume")).expect("mkdir");
    let volume = format!("{}:/mnt:ro", d.path("volume"));
    let caps = "grep CapEff /proc/self/status | cut -f2";
    for (options, script, expected) in [
        (&["--cap-drop", "all"][..], caps, "0000000000000000\n"),
        (&["--cap-drop", "all", "--cap-add", "kill"], caps, "0000000000000020\n"),
        (&["--read-only"], "{ echo >/f; } 2>&1 | grep -o 'Read-only.*'", "Read-only file system\n"),
        (
            &["--volume", &volume],
            "touch /mnt/x 2>&1 | grep -o 'Read-only.*'",
            "Read-only file system\n",
        ),
        (&["--tmpfs", "/mnt"], "stat -f -c %T /mnt", "tmpfs\n"),
        (&["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "1024\n"),
        (&["--hostname", "abc"], "hostname", "abc\n"),
        (&["--init"], "cat /proc/1/comm", "docker-init\n"),
        (&["--user", "bob", "--group-add", "9"], "id -u; id -G", "1000\n1000 9\n"),
        (&["--workdir", "/new/dir"], "pwd", "/new/dir\n"),
        (&["--device", "/dev/zero:/dev/mine"], "head -c 3 /dev/mine | wc -c", "3\n"),
        (&["--sysctl", "kernel.msgmax=9000"], "cat /proc/sys/kernel/msgmax", "9000\n"),
        (&["--ulimit", "nofile=77"], "ulimit -n", "77\n"),
        (&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj", "500\n"),
        (&[], "grep 'Seccomp:' /proc/self/status | cut -f2", "2\n"),
        (
            &["--security-opt", "seccomp=unconfined"],
            "grep 'Seccomp:' /proc/self/status | cut -f2",
            "0\n",
        ),
        (
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status | cut -f2",
            "1\n",
        ),
        (
            &["--pid=host", "--net=host", "--ipc=host", "--uts=host"],
            "echo far from alone",
            "far from alone\n",
        ),
    ] {
        assert_eq!(d.sh(options, script), expected, "{options:?}");
    }
}

#[test]
fn privileged() {
    let d = docker!();
    fails_with!("runc", "gives up where the host lacks a capability");
    assert_eq!(
        d.sh(&["--privileged"], "mount -t tmpfs none /mnt && stat -f -c %T /mnt"),
        "tmpfs\n"
    );
}

#[test]
fn limits() {
    let d = docker!();
    let options = [
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "50",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
    ];
    d.sleeper("box", &options);
    let stats = d.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"]).ok().out;
    assert!(stats.contains(" / 64MiB"), "{stats}");
    let update = [
        "update",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "--pids-limit",
        "60",
        "--cpus",
        "0.7",
        "box",
    ];
    d.docker(&update).ok();
    let stats = d.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"]).ok().out;
    assert!(stats.contains(" / 32MiB"), "{stats}");
}

/// An option of `docker update` with its value, and the file of v1 with the values there on v1 and
/// v2.
type Row = (&'static str, &'static str, &'static str, &'static str, [&'static str; 2]);

const UPDATES: [Row; 7] = [
    ("--cpu-shares", "512", "cpu", "cpu.shares", ["512", "59"]),
    ("--cpu-period", "50000", "cpu", "cpu.cfs_period_us", ["50000", "max 50000"]),
    ("--cpu-quota", "20000", "cpu", "cpu.cfs_quota_us", ["20000", "20000 50000"]),
    ("--cpuset-cpus", "0", "cpuset", "cpuset.cpus", ["0", "0"]),
    ("--cpuset-mems", "0", "cpuset", "cpuset.mems", ["0", "0"]),
    ("--pids-limit", "77", "pids", "pids.max", ["77", "77"]),
    ("--memory-reservation", "32m", "memory", "memory.soft_limit_in_bytes", ["33554432"; 2]),
];

/// C1: `docker update` sends every limit of the container each time, 0 for those that it does not
/// have.
#[test]
fn update_of_each_single_limit() {
    let d = docker!();
    d.sleeper("box", &[]);
    let all = || UPDATES.map(|(_, _, controller, file, _)| d.cgroup_file("box", controller, file));
    let update = |options: &[&str]| d.docker(&[&["update"], options, &["box"]].concat()).ok();
    let before = all();
    update(&["--restart", "no"]);
    update(&["--pids-limit", "0"]);
    assert_eq!(all(), before);
    assert_eq!(d.exec(&[], "box", &["sh", "-c", "true | echo forked"]).ok().out, "forked\n");
    for (option, value, controller, file, expected) in UPDATES {
        update(&[option, value]);
        let expected = expected[usize::from(host::has_pure_cgroup_v2())];
        assert_eq!(d.cgroup_file("box", controller, file), expected, "{option}");
    }
    // docker refuses the one beside a period, and the other without swap; it sends each as two
    // limits.
    d.sleeper("other", &[]);
    d.docker(&["update", "--cpus", "0.5", "other"]).ok();
    d.docker(&["update", "--memory", "64m", "--memory-swap", "96m", "other"]).ok();
    let found = ["cpu.cfs_quota_us", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        .map(|file| d.cgroup_file("other", &file[..file.find('.').unwrap_or(0)], file));
    let expected = match host::has_pure_cgroup_v2() {
        true => ["50000 100000", "67108864", "33554432"],
        false => ["50000", "67108864", "100663296"],
    };
    assert_eq!(found, expected);
}

#[test]
fn want_of_memory_is_reported() {
    let d = docker!();
    // The shim begins to listen after the container has started.
    let script = "sleep 0.5; dd if=/dev/zero of=/dev/null bs=200M count=1";
    let options = ["--name", "hungry", "--memory", "32m", "--memory-swap", "32m"];
    d.run_call(&options, &["sh", "-c", script]).done().exits(137);
    d.until("hungry", "{{.State.OOMKilled}}", "true");
}

#[test]
fn restart_policy() {
    let d = docker!();
    let script = "echo x >>/count; test $(wc -l </count) -lt 3 && exit 1; exit 0";
    d.start("again", &["--restart", "on-failure:5"], &["sh", "-c", script]);
    d.until("again", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", "exited 0 2");
    // What cannot be executed is not tried again.
    let missing = d.run_call(&["--name", "never", "--restart", "always"], &["nosuch"]).done();
    missing.exits(127);
    assert_eq!(d.inspect("never", "{{.State.Status}} {{.RestartCount}}"), "created 0");
}

#[test]
fn namespaces_of_another_container() {
    let d = docker!();
    d.sleeper("one", &["--ipc=shareable"]);
    let pid = d.inspect("one", "{{.State.Pid}}");
    let with = ["--network=container:one", "--ipc=container:one", "--pid=container:one"];
    let seen = d.sh(&with, "for n in net ipc pid; do readlink /proc/self/ns/$n; done");
    let expected = ["net", "ipc", "pid"].map(|kind| host::namespace_of(&pid, kind));
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_terminal() {
    let d = docker!();
    let mut screen = Screen::new(77, 22);
    let options = ["--rm", "--interactive", "--tty"];
    let run = d.run_call(&options, &["sh"]).stdio(&screen.slave()).spawn();
    screen.until("# ");
    screen.type_in("tty; stty size; exit $((4 + 4))\n");
    let seen = screen.until("22 77");
    assert!(seen.contains("/dev/pts/0"), "{seen:?}");
    run.wait().exits(8);

    d.sleeper("box", &[]);
    let exec = ["exec", "--interactive", "--tty", "box", "sh"];
    let run = d.call(&exec).stdio(&screen.slave()).spawn();
    screen.until("# ");
    screen.type_in("tty; exit $((4 + 5))\n");
    screen.until("/dev/pts/0");
    run.wait().exits(9);
}

#[test]
fn health() {
    let d = docker!();
    d.sleeper(
        "patient",
        &["--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-retries", "1"],
    );
    d.until("patient", "{{.State.Health.Status}}", "unhealthy");
    d.exec(&[], "patient", &["touch", "/well"]).ok();
    d.until("patient", "{{.State.Health.Status}}", "healthy");
}

/// `RUN` is the default runtime's work.
#[test]
fn build() {
    let d = docker!();
    fs::create_dir(d.path("context")).expect("mkdir");
    let file = format!("FROM {}\nRUN echo made >/made\nCMD [\"cat\", \"/made\"]\n", docker::IMAGE);
    fs::write(d.path("context/Dockerfile"), file).expect("write");
    let build = d.call(&["build", "--quiet", "--tag", "made", &d.path("context")]);
    // BuildKit comes with a runtime of its own.
    build.env("DOCKER_BUILDKIT", "0").done().exits(0);
    assert_eq!(d.docker(&["run", "--rm", "made"]).ok().out, "made\n");
}

/// Compose gives its containers labels, names and an order; the runtime is the daemon's.
#[test]
fn compose() {
    let d = docker!();
    skip_if!(fixture::missing(&["docker-compose"]));
    let service = |script: &str| json!({ "image": docker::IMAGE, "network_mode": "none", "command": ["sh", "-c", script] });
    let mut second = service("echo from $$NAME; exec sleep 1000");
    second["environment"] = json!({ "NAME": "second" });
    second["depends_on"] = json!(["first"]);
    let file = json!({
        "version": "2.4",
        "services": { "first": service("exec sleep 1000"), "second": second }
    });
    fs::write(d.path("compose.yml"), file.to_string()).expect("write");
    let compose = |words: &[&str]| {
        let host = format!("unix://{}", d.path("sock"));
        let file = d.path("compose.yml");
        let before = ["--host", &host, "--file", &file, "--project-name", "project"];
        d.program(&[&["docker-compose"], &before[..], words].concat())
            .env("COMPOSE_HTTP_TIMEOUT", "50")
            // Version 2 names containers as version 1 does.
            .env("COMPOSE_COMPATIBILITY", "true")
            .done()
    };
    compose(&["up", "--detach"]).exits(0);
    let runtime = "{{.State.Status}} {{.HostConfig.Runtime}}";
    assert_eq!(d.inspect("project_second_1", runtime), "running tested");
    assert_eq!(compose(&["exec", "-T", "first", "echo", "hello"]).exits(0).out, "hello\n");
    assert!(compose(&["logs", "--no-color", "second"]).exits(0).out.contains("from second"));
    compose(&["restart", "--timeout", "0", "first"]).exits(0);
    assert_eq!(d.inspect("project_first_1", runtime), "running tested");
    compose(&["down", "--timeout", "0"]).exits(0);
    assert_eq!(d.docker(&["ps", "--all", "--quiet"]).ok().out, "");
}
