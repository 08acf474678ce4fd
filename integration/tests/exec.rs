//! `exec`: a further process in a container, confined like the first.

use std::fs;
use std::time::Duration;

use integration::call::within;
use integration::leftovers::is_dead;
use integration::*;

fn running() -> Container {
    let c = Container::sleeper();
    c.create().start();
    c
}

#[test]
fn exit_codes() {
    spec!();
    let c = running();
    for code in [0, 1, 42, 126, 127, 255] {
        c.exec(&["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        c.exec(&["sh", "-c", &format!("kill -{signal} $$")]).exits(code);
    }
}

#[test]
fn stdio() {
    spec!();
    let c = running();
    let run =
        c.exec_call(&[], &["sh", "-c", "cat; echo problem >&2"]).input("text").done().exits(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("text", "problem\n"));
}

#[test]
fn is_in_all_namespaces_of_the_container() {
    spec!();
    let c = Container::sleeper().with(|c| {
        config::set_namespace(c, "cgroup", None);
        config::set_userns(c, 100_000, 65536);
    });
    c.create().start();
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let script = kinds.map(|kind| format!("readlink /proc/self/ns/{kind}; ")).concat();
    let seen = c.ask(&script);
    let pid = c.pid();
    for (kind, line) in kinds.iter().zip(seen.lines()) {
        assert_eq!(line, host::namespace_of(pid, kind));
        assert_ne!(line, host::namespace(kind));
    }
    assert_eq!(
        c.ask("cat /proc/self/uid_map").split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    assert_eq!(c.ask("hostname"), "davit\n");
}

#[test]
fn is_in_the_cgroup_of_the_container() {
    spec!();
    let c = running();
    let own = c.ask("cat /proc/self/cgroup");
    let first = fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).expect("cgroup");
    assert_eq!(own, first);
}

#[test]
fn cwd() {
    spec!();
    fails_with!("crun", "starts in / and not in the container's cwd");
    let c = Container::sleeper().with(|c| c["process"]["cwd"] = "/tmp".into());
    c.create().start();
    assert_eq!(c.ask("pwd"), "/tmp\n", "the container's own by default");
    assert_eq!(c.exec_with(&["--cwd", "/home/bob"], &["pwd"]).ok().out, "/home/bob\n");
    assert_eq!(c.exec_with(&["--cwd=/etc"], &["pwd"]).ok().out, "/etc\n");
    c.exec_with(&["--cwd", "relative"], &["pwd"]).refuses(&["relative"]);
}

#[test]
fn env() {
    spec!();
    fails_with!("crun", "1.8 searches no PATH when --env is given");
    let c =
        Container::sleeper().with(|c| config::push(&mut c["process"]["env"], json!("A=config")));
    c.create().start();
    let run = c
        .exec_call(&["--env", "A=1", "--env", "B=two words", "--env=C="], &["env"])
        .env("CALLER", "1")
        .done()
        .ok();
    for line in ["A=1", "B=two words", "C=", "HOME=/root", "TERM=xterm"] {
        assert!(run.lines().contains(&line), "{line}: {run:?}");
    }
    assert!(!run.out.contains("CALLER") && !run.out.contains("A=config"), "{run:?}");
    assert_eq!(
        c.exec_with(&["-e", "A=2", "-e", "A=3"], &["sh", "-c", "echo $A"]).ok().out,
        "3\n",
        "later wins"
    );
}

#[test]
fn user() {
    spec!();
    let c = running();
    let ids = |user: &str| {
        c.exec_with(&["--user", user], &["sh", "-c", "id -u; id -g; echo $HOME"]).ok().out
    };
    assert_eq!(ids("1000"), "1000\n0\n/home/bob\n");
    assert_eq!(ids("1000:1001"), "1000\n1001\n/home/bob\n");
    assert_eq!(ids("0:5"), "0\n5\n/root\n");
}

#[test]
fn user_is_read_strictly() {
    davit_only!("CVE-2026-30892 and its kin: other runtimes read with strtol or Atoi");
    let c = running();
    let wrong = [
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "1:",
        ":1",
        ":",
        "1:2:3",
        "4294967295",
        "4294967296",
        "1:4294967295",
        "root",
        "bob",
        "0x10",
        "1e3",
        "1.0",
        "１",
        "1:-1",
        "99999999999999999999999",
        "1\n",
        "1,2",
    ];
    for user in wrong {
        c.exec_with(&["--user", user], &["id"]).refuses(&["user"]);
    }
    let out = c.exec_with(&["--user", "4294967294:4294967294"], &["id", "-u"]).ok().out;
    assert_eq!(out, "4294967294\n");
}

#[test]
fn groups_are_exactly_those_asked() {
    spec!();
    fails_with!("crun", "1.8 has no -g");
    let groups = |c: &Container, options: &[&str]| {
        let run = c.exec_with(options, &["grep", "^Groups", "/proc/self/status"]).ok();
        run.field("Groups:").to_owned()
    };
    let none = running();
    assert_eq!(groups(&none, &[]), "");
    assert_eq!(groups(&none, &["-g", "5", "-g", "7"]), "5 7");
    assert_eq!(groups(&none, &["--additional-gids", "11"]), "11");
    let some = Container::sleeper().with(|c| c["process"]["user"]["additionalGids"] = json!([9]));
    some.create().start();
    assert_eq!(groups(&some, &[]), "9");
    // On top of the configured ones, as its name says.
    assert_eq!(groups(&some, &["-g", "5"]), "5 9");
}

#[test]
fn no_new_privs() {
    spec!();
    let c = Container::sleeper().with(|c| c["process"]["noNewPrivileges"] = false.into());
    c.create().start();
    let flag = |options: &[&str]| {
        let run = c.exec_with(options, &["grep", "^NoNewPrivs", "/proc/self/status"]).ok();
        run.field("NoNewPrivs:").to_owned()
    };
    assert_eq!(flag(&[]), "0");
    assert_eq!(flag(&["--no-new-privs"]), "1");
}

#[test]
fn detach_and_pid_file() {
    spec!();
    let c = running();
    c.exec_with(&["--detach", "--pid-file", &c.path("pid")], &["sleep", "1000"]).ok();
    let pid = fs::read_to_string(c.path("pid")).expect("pid file");
    let pid = pid.trim();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("alive");
    assert_eq!(line, "sleep\x001000\x00");
    assert_eq!(host::namespace_of(pid, "pid"), host::namespace_of(c.pid(), "pid"));
    c.kill("KILL").ok();
    assert!(within(Duration::from_secs(2), || is_dead(pid).then_some(())).is_some());
}

/// A directory of a new container is made where it is missing, but not for a misspelt option of
/// exec.
#[test]
fn cwd_that_is_missing() {
    spec!();
    let c = running();
    c.exec_with(&["--cwd", "/nosuch/dir"], &["pwd"]).refuses(&["/nosuch/dir", "no such file"]);
    c.exec(&["ls", "-d", "/nosuch"]).fails();
}

#[test]
fn process_file() {
    spec!();
    let c = running();
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep -E '^(CapBnd|NoNew)' /proc/self/status; ulimit -n"],
        "cwd": "/home",
        "env": ["PATH=/bin", "A=b"],
        "user": { "uid": 1000, "gid": 1000 },
        "capabilities": { "bounding": ["CAP_KILL"], "effective": [], "permitted": [] },
        "noNewPrivileges": true,
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 77 }],
    });
    fs::write(c.path("process.json"), process.to_string()).expect("write");
    for option in ["--process", "-p"] {
        let run = c.exec_with(&[option, &c.path("process.json")], &[]).ok();
        assert_eq!(run.out, "1000\n/home\nb\nCapBnd:\t0000000000000020\nNoNewPrivs:\t1\n77\n");
    }
    let wrong = [
        ("{", "process.json"),
        ("{\"user\": {\"uid\": 0, \"gid\": 0}, \"args\": 7, \"cwd\": \"/\"}", "args"),
        ("{\"user\": {\"uid\": 0, \"gid\": 0}, \"cwd\": \"/\", \"args\": []}", "args"),
    ];
    for (text, says) in wrong {
        fs::write(c.path("process.json"), text).expect("write");
        c.exec_with(&["--process", &c.path("process.json")], &[]).refuses(&[says]);
    }
    c.exec_with(&["--process", &c.path("nosuch.json")], &[])
        .refuses(&["nosuch.json", "no such file or directory"]);
}

#[test]
fn process_file_with_a_umask() {
    spec!();
    fails_with!("runc", "1.1 has no umask for exec");
    let c = running();
    let process = json!({ "args": ["sh", "-c", "umask"], "cwd": "/", "user": { "uid": 0, "gid": 0, "umask": 0o077 } });
    fs::write(c.path("process.json"), process.to_string()).expect("write");
    assert_eq!(c.exec_with(&["--process", &c.path("process.json")], &[]).ok().out, "0077\n");
}

#[test]
fn works_in_a_created_one() {
    spec!();
    let c = Container::sleeper();
    c.create();
    assert_eq!(c.ask("echo before the start"), "before the start\n");
    assert_eq!(c.status(), "created");
}

#[test]
fn refused_in_a_stopped_one() {
    spec!();
    let c = Container::new(&["true"]);
    c.create().start();
    c.until_status("stopped");
    c.exec(&["true"]).refuses(&["container not running"]);
}

#[test]
fn refused_in_an_unknown_one() {
    spec!();
    Container::new(&["true"]).exec(&["true"]).refuses(&["does not exist"]);
}

#[test]
fn needs_a_command() {
    spec!();
    running().exec(&[]).refuses(&[]);
}

#[test]
fn options_of_the_command_belong_to_it() {
    spec!();
    let c = running();
    assert_eq!(c.exec(&["echo", "--env", "A=1", "-t", "--"]).ok().out, "--env A=1 -t --\n");
}

#[test]
fn executables_that_are_none() {
    spec!();
    let c = running();
    for (name, text) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $path"),
        ("/nosuch", "exec: \"/nosuch\": no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
    ] {
        c.exec(&[name]).refuses(&[text]);
        c.exec_with(&["--detach", "--pid-file", &c.path("pid")], &[name]).refuses(&[text]);
    }
    assert_eq!(c.ask("echo still fine"), "still fine\n");
}

#[test]
fn preserve_fds() {
    spec!();
    let c = running();
    fs::write(c.path("three"), "three\n").expect("write");
    let script = format!("exec 3<{} 4</dev/null; exec \"$@\"", c.path("three"));
    let through = ["sh", "-c", &script, "sh"];
    let command = ["sh", "-c", "cat <&3; test -e /proc/self/fd/4 || echo no more"];
    let mut all = vec!["exec", "--preserve-fds", "1", c.id.as_str()];
    all.extend(command);
    let run = c.call_through(&through, &all).done().ok();
    assert_eq!(run.out, "three\nno more\n");
}

#[test]
fn children_of_a_foreground_exec_survive_it() {
    spec!();
    let c = running();
    c.exec(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo started"]).ok();
    assert!(c.ask("ps -o args").contains("sleep 1000"));
}

#[test]
fn dies_with_the_container() {
    spec!();
    let c = running();
    let exec = c.exec_call(&[], &["sleep", "1000"]).spawn();
    within(Duration::from_secs(5), || c.ask("ps -o args").contains("sleep 1000").then_some(()));
    c.kill("KILL").ok();
    exec.wait().exits(137);
}

#[test]
fn sub_cgroup() {
    davit_only!("runc 1.1 wants the controller's name and refuses others");
    cgroup_v1!();
    let c = running();
    c.exec_with(&["--cgroup", "nosuch"], &["true"]).refuses(&["cgroup"]);
    for escape in ["..", "../..", "a/../..", "/../.."] {
        c.exec_with(&["--cgroup", escape], &["true"]).refuses(&["cgroup", ".."]);
    }
    for root in leftovers::cgroups(&c.id) {
        fs::create_dir_all(root.join("below")).expect("mkdir");
        if root.join("cpuset.cpus").exists() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::copy(root.join(file), root.join("below").join(file)).expect("copy");
            }
        }
    }
    let run = c.exec_with(&["--cgroup", "below"], &["cat", "/proc/self/cgroup"]).ok();
    assert!(run.lines().iter().any(|line| line.ends_with(&format!("/{}/below", c.id))), "{run:?}");
}

#[test]
fn ignore_paused_is_accepted() {
    spec!();
    fails_with!("crun", "1.8 knows no --ignore-paused");
    let c = running();
    assert_eq!(c.exec_with(&["--ignore-paused"], &["echo", "ok"]).ok().out, "ok\n");
}

#[test]
fn a_frozen_container_refuses() {
    spec!();
    cgroup_v1!();
    fails_with!("crun", "1.8 waits for ever");
    let c = running();
    let freezer = format!("/sys/fs/cgroup/freezer/{}/freezer.state", c.id);
    fs::write(&freezer, "FROZEN").expect("freeze");
    let frozen =
        || fs::read_to_string(&freezer).is_ok_and(|state| state == "FROZEN\n").then_some(());
    assert!(within(Duration::from_secs(5), frozen).is_some(), "the kernel freezes it");
    let status = c.status();
    let refused = c
        .exec_call(&[], &["true"])
        .within(std::time::Duration::from_secs(5))
        .spawn()
        .wait_or_kill();
    fs::write(&freezer, "THAWED").expect("thaw");
    assert_eq!(status, "paused");
    refused.expect("exec hangs").refuses(&["paused"]);
}

#[test]
fn is_confined_like_the_first_process() {
    spec!();
    fails_with!("crun", "1.8 forgets no_new_privs and oom_score_adj");
    // A shell that makes processes blocks signals for a moment.
    let c = Container::sh("exec sleep 1000").with(|c| {
        c["process"]["user"] = json!({ "uid": 0, "gid": 0, "umask": 0o027 });
        c["process"]["oomScoreAdj"] = 500.into();
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42 }],
        });
    });
    c.create().start();
    let status = "grep -E '^(Cap|NoNew|Seccomp:|Groups|SigBlk)' /proc/$P/status; cat /proc/$P/oom_score_adj; cat /proc/$P/limits";
    let of = |pid: &str| c.ask(&status.replace("$P", pid));
    assert_eq!(of("self"), of("1"));
    if runtime::runtime().is_davit() {
        // runc 1.1 forgets the umask.
        assert_eq!(c.ask("umask"), "0027\n");
    }
    assert!(c.ask("mkdir /tmp/x 2>&1 || true").contains("No message of desired type"), "errno 42");
}
