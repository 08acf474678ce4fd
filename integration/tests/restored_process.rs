//! The program of a restored container: who it is, and what confines it.

use std::fs;

use integration::config::{push, set_capabilities};
use integration::*;

/// What the kernel says of the container's first process.
#[derive(Debug, PartialEq)]
struct Process {
    status: Vec<String>,
    limits: String,
    environment: String,
    words: String,
    places: Vec<String>,
    oom: String,
}

/// Lines of /proc/PID/status that do not change while it runs.
const KEPT: [&str; 18] = [
    "Name",
    "Umask",
    "NSpid",
    "Uid",
    "Gid",
    "Groups",
    "Seccomp",
    "NoNewPrivs",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "Seccomp_filters",
    "Threads",
];

#[track_caller]
fn process(c: &Container) -> Process {
    let pid = c.pid();
    let file = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).expect(name);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let link = |name: &str| {
        let link = fs::read_link(format!("/proc/{pid}/{name}")).expect(name);
        link.to_string_lossy().into_owned()
    };
    let kept = |line: &&str| KEPT.iter().any(|key| line.starts_with(&format!("{key}:")));
    // NSpid begins with the pid on the host.
    let without_pid = |line: &str| line.replace(&format!("NSpid:\t{pid}"), "NSpid:");
    Process {
        status: file("status").lines().filter(kept).map(without_pid).collect(),
        limits: file("limits"),
        environment: file("environ"),
        words: file("cmdline"),
        places: vec![link("cwd"), link("exe")],
        oom: file("oom_score_adj"),
    }
}

/// All of that is the same after it was restored.
#[track_caller]
fn stays_the_same(c: &Container) -> Process {
    c.up();
    let counted = c.counts_beyond(3);
    let before = process(c);
    c.moves_on();
    c.counts_beyond(counted);
    let after = process(c);
    assert_eq!(after, before);
    after
}

/// Its line of /proc/PID/status.
fn line<'a>(process: &'a Process, key: &str) -> &'a str {
    let found = process.status.iter().find_map(|line| line.strip_prefix(&format!("{key}:\t")));
    found.unwrap_or_else(|| panic!("no {key}: {process:?}"))
}

#[test]
fn the_usual_program() {
    criu!();
    let is = stays_the_same(&Container::counter());
    assert_eq!((line(&is, "NoNewPrivs"), line(&is, "Seccomp")), ("1", "0"));
    assert_eq!(line(&is, "CapEff"), "0000000020000420");
}

#[test]
fn another_user_with_groups_and_a_umask() {
    criu!();
    skip_if!(checkpoint::root_alone());
    let c = Container::counter().with(|c| {
        c["process"]["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 70_000], "umask": 0o027 });
        set_capabilities(c, &["CAP_NET_RAW", "CAP_SYS_CHROOT"]);
        c["process"]["cwd"] = "/tmp".into();
        push(&mut c["process"]["env"], "COLOUR=blue and green".into());
    });
    let is = stays_the_same(&c);
    assert_eq!(line(&is, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(line(&is, "Groups").trim(), "5 70000");
    assert_eq!(line(&is, "Umask"), "0027");
    assert_eq!(line(&is, "CapAmb"), "0000000000042000");
    assert!(is.environment.contains("COLOUR=blue and green\0"), "{is:?}");
}

#[test]
fn capabilities() {
    criu!();
    let c = Container::counter().with(|c| {
        set_capabilities(c, &["CAP_NET_RAW", "CAP_SYS_CHROOT"]);
    });
    let is = stays_the_same(&c);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(&is, set), "0000000000042000", "{set}");
    }
    let c = Container::counter().with(|c| set_capabilities(c, &[]));
    let is = stays_the_same(&c);
    assert_eq!(line(&is, "CapBnd"), "0000000000000000");
}

#[test]
fn limits_of_resources_and_the_oom_score() {
    criu!();
    let c = Container::counter().with(|c| {
        c["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 200, "hard": 333 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608 },
            { "type": "RLIMIT_NPROC", "soft": 1234, "hard": 1235 },
        ]);
        c["process"]["oomScoreAdj"] = 321.into();
    });
    let is = stays_the_same(&c);
    assert_eq!(is.oom, "321\n");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        is.limits
            .lines()
            .any(|line| words(line) == ["Max", "open", "files", "200", "333", "files"]),
        "{is:?}"
    );
}

#[test]
fn a_seccomp_filter() {
    criu!();
    let c = Container::counter().with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
        });
    });
    let is = stays_the_same(&c);
    assert_eq!((line(&is, "Seccomp"), line(&is, "Seccomp_filters")), ("2", "1"));
    c.exec(&["mkdir", "/new"]).says(&["Function not implemented"]);
}

/// The restored program itself is bound by its filter, not only what `exec` starts.
#[test]
fn a_seccomp_filter_binds_the_program() {
    criu!();
    let script =
        "while :; do [ -e /go ] && { mkdir /new; echo $? >/said; rm /go; }; sleep 0.02; done";
    let c = Container::sh(script).with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        });
    });
    c.up().moves_on();
    fs::write(c.rootfs().join("go"), "").expect("write");
    let said = call::within(call::DEADLINE, || {
        fs::read_to_string(c.rootfs().join("said")).ok().filter(|said| said.ends_with('\n'))
    });
    assert_eq!(said.as_deref(), Some("1\n"));
    assert!(!fs::exists(c.rootfs().join("new")).expect("stat"));
}

#[test]
fn signals_that_it_ignores_and_catches() {
    criu!();
    let script = format!("trap '' HUP; trap 'exit 6' TERM; {}", checkpoint::COUNTER);
    let c = Container::sh(&script);
    stays_the_same(&c);
    c.kill("HUP").ok();
    c.counts_beyond(c.counted());
    let running = c.state();
    assert_eq!(running["status"], "running");
    c.kill("TERM").ok();
    c.until_status("stopped");
}

/// The device rules are the cgroup's, which is made anew.
#[test]
fn device_rules() {
    criu!();
    let c = Container::counter().with(|c| set_capabilities(c, &["CAP_MKNOD"]));
    c.up().moves_on();
    for (node, allowed) in [("c 1 7", true), ("c 1 1", false)] {
        let script = format!("rm -f /tmp/d; mknod /tmp/d {node} && head -c 1 /tmp/d | wc -c");
        let said = c.exec(&["sh", "-c", &script]);
        assert_eq!(said.out == "1\n", allowed, "{node}: {said:?}");
    }
}

/// Writes the name of its session keyring into memory, again and again.
const KEYRING: &str = r#"
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    for (;; usleep(20000)) {
        char text[256] = "";
        syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, text, sizeof text - 1);
        int fd = open("/dev/shm/keyring", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        write(fd, text, strlen(text));
        close(fd);
    }
}
"#;

/// CRIU does not know keyrings: a restored container has one of its own by its id.
#[test]
fn a_session_keyring_of_its_own() {
    criu!();
    fails_with!("runc", "the restored program has the keyring of runc's caller");
    let c = Container::new(&["/bin/keyring"])
        .with_files(|root| probe::install(root, "keyring", KEYRING))
        .with(|c| c["linux"].as_object_mut().map_or((), |linux| drop(linux.remove("seccomp"))));
    c.up();
    let is_in = |name: String| {
        let file = format!("/proc/{}/root/dev/shm/keyring", c.pid());
        let read = || fs::read_to_string(&file).ok();
        let found = call::within(call::DEADLINE, || read().filter(|text| text.ends_with(&name)));
        assert!(found.is_some(), "{:?} is not {name}", read());
    };
    is_in(format!(";_ses.{}", c.id));
    c.moves_on();
    is_in(format!(";_ses.{}", c.id));
}
