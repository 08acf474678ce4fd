//! `linux.seccomp`, by what system calls then do.

use integration::*;

/// Makes system calls by number: `syscall ABI NR [ARGS...]`, prints the result or the errno's
/// number.
const PROBE: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    unsigned long a[6] = { 0 };
    long result, nr = strtol(argv[2], 0, 0);
    for (int n = 3; n < argc && n < 9; n++) a[n - 3] = strtoul(argv[n], 0, 0);
    if (!strcmp(argv[1], "i386")) {
#ifdef __x86_64__
        int out;
        __asm__ volatile("int $0x80" : "=a"(out) : "a"((int)nr), "b"((int)a[0]), "c"((int)a[1]), "d"((int)a[2]) : "memory");
        errno = out < 0 ? -out : 0;
        result = out < 0 ? -1 : out;
#else
        errno = ENOSYS; result = -1;
#endif
    } else {
        if (!strcmp(argv[1], "x32")) nr |= 0x40000000;
        result = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    if (result < 0) printf("errno %d\n", errno); else printf("ok\n");
    return 0;
}
"#;

fn profile(profile: Value, script: &str) -> Container {
    Container::sh(script)
        .with(|c| c["linux"]["seccomp"] = profile)
        .with_files(|root| probe::install(root, "syscall", PROBE))
}

fn allow_but(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules })
}

macro_rules! x86_64 {
    () => {
        skip_if!((!cfg!(target_arch = "x86_64")).then_some("numbers of x86_64"))
    };
}

#[test]
fn errno_and_its_default() {
    spec!();
    x86_64!();
    let c = profile(
        allow_but(json!([
            { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["setuid", "setgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 },
            { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 },
        ])),
        "syscall x86_64 140; syscall x86_64 105; syscall x86_64 106; syscall x86_64 107; syscall x86_64 121",
    );
    assert_eq!(c.run().ok().out, "errno 1\nerrno 77\nerrno 77\nok\nok\n");
}

#[test]
fn the_mode_is_seen() {
    spec!();
    let c = profile(
        allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" }])),
        "grep ^Seccomp: /proc/self/status",
    );
    assert_eq!(c.run().ok().field("Seccomp:"), "2");
    let none = Container::sh("grep ^Seccomp: /proc/self/status");
    assert_eq!(none.run().ok().field("Seccomp:"), "0");
}

#[test]
fn kill() {
    spec!();
    x86_64!();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"] {
        let c = profile(
            allow_but(json!([{ "names": ["getpriority"], "action": action }])),
            "syscall x86_64 140; echo $?",
        );
        assert_eq!(c.run().out, "159\n", "{action}");
    }
    let trap = profile(
        allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_TRAP" }])),
        "syscall x86_64 140; echo $?",
    );
    assert_eq!(trap.run().out, "159\n");
    let trace = profile(
        allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_TRACE" }])),
        "syscall x86_64 140",
    );
    assert_eq!(trace.run().ok().out, "errno 38\n", "no tracer: ENOSYS");
    let log = profile(
        allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_LOG" }])),
        "syscall x86_64 140",
    );
    assert_eq!(log.run().ok().out, "ok\n");
}

#[test]
fn arguments() {
    spec!();
    x86_64!();
    // getpriority(which, who): which = 0 and who = 0 is ourselves.
    let big = 0x1_0000_0005_u64;
    for (op, value, two, matching, other) in [
        ("SCMP_CMP_EQ", 5_u64, 0_u64, "5", "6"),
        ("SCMP_CMP_NE", 5, 0, "6", "5"),
        ("SCMP_CMP_LT", 5, 0, "4", "5"),
        ("SCMP_CMP_LE", 5, 0, "5", "6"),
        ("SCMP_CMP_GT", 5, 0, "6", "5"),
        ("SCMP_CMP_GE", 5, 0, "5", "4"),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x50, "0x5f", "0x4f"),
        ("SCMP_CMP_EQ", big, 0, "0x100000005", "5"),
        ("SCMP_CMP_GT", big, 0, "0x100000006", "0xffffffff"),
        ("SCMP_CMP_LT", big, 0, "0xffffffff", "0x200000000"),
        ("SCMP_CMP_MASKED_EQ", 0xff_0000_0000, 0x1_0000_0000, "0xff01ffffffff", "0xffff"),
    ] {
        let rule = json!([{
            "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
            "args": [{ "index": 5, "value": value, "valueTwo": two, "op": op }],
        }]);
        let c = profile(
            allow_but(rule),
            &format!(
                "syscall x86_64 124 0 0 0 0 0 {matching}; syscall x86_64 124 0 0 0 0 0 {other}"
            ),
        );
        assert_eq!(c.run().ok().out, "errno 99\nok\n", "{op} {value:#x}");
    }
}

#[test]
fn several_arguments_all_must_match_and_several_rules_any() {
    spec!();
    x86_64!();
    let both = json!([{
        "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
        "args": [{ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 2, "op": "SCMP_CMP_EQ" }],
    }]);
    let script = "syscall x86_64 124 0 1 2; syscall x86_64 124 0 1 3; syscall x86_64 124 0 0 2";
    assert_eq!(profile(allow_but(both), script).run().ok().out, "errno 99\nok\nok\n");
    let rule = |value| json!({ "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [{ "index": 1, "value": value, "op": "SCMP_CMP_EQ" }] });
    let script = "syscall x86_64 124 0 1; syscall x86_64 124 0 2; syscall x86_64 124 0 3";
    let any = json!([rule(1), rule(2)]);
    assert_eq!(profile(allow_but(any), script).run().ok().out, "errno 99\nerrno 99\nok\n");
}

#[test]
fn unknown_names_are_skipped() {
    spec!();
    x86_64!();
    let rules = json!([{ "names": ["not_a_syscall", "getpriority", "from_the_future"], "action": "SCMP_ACT_ERRNO" }]);
    assert_eq!(profile(allow_but(rules), "syscall x86_64 140").run().out, "errno 1\n");
}

/// What podman's and docker's profiles are like: everything refused but what is listed.
fn deny_but(names: &[&str]) -> Value {
    let basic = [
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "fchdir",
        "fcntl",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpgrp",
        "getpid",
        "getppid",
        "getrandom",
        "getuid",
        "ioctl",
        "lseek",
        "lstat",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pipe",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
        "pread64",
        "prlimit64",
        "pwrite64",
        "read",
        "readlink",
        "readlinkat",
        "readv",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sendfile",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setsid",
        "setuid",
        "stat",
        "statfs",
        "statx",
        "tgkill",
        "umask",
        "uname",
        "vfork",
        "wait4",
        "waitid",
        "write",
        "writev",
        "epoll_ctl",
        "epoll_wait",
        "epoll_pwait",
        "sigaltstack",
        "mremap",
        "madvise",
        "sched_getaffinity",
        "sched_yield",
        "gettid",
        "eventfd2",
        "epoll_create1",
        "fstatfs64",
        "faccessat",
        "faccessat2",
        "kill",
        "setpgid",
        "getpgid",
        "sysinfo",
        "time",
        "gettimeofday",
        "recvmsg",
        "sendmsg",
        "recvfrom",
        "sendto",
        "connect",
        "socket",
        "getsid",
        "tkill",
        "getpeername",
        "times",
    ];
    let mut all = basic.to_vec();
    all.extend(names);
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": all, "action": "SCMP_ACT_ALLOW" }],
    })
}

#[test]
fn a_profile_that_denies_by_default() {
    spec!();
    x86_64!();
    // 165 mount, 166 umount2, 39 getpid, 79 getcwd.
    let c =
        profile(deny_but(&[]), "syscall x86_64 165; syscall x86_64 39; syscall x86_64 79; echo $$");
    assert_eq!(c.run().ok().out, "errno 1\nok\nerrno 34\n1\n");
}

#[test]
fn calls_newer_than_the_profile_get_enosys() {
    spec!();
    fails_with!("crun", "gives them the default action");
    x86_64!();
    // statx (332) is the newest name of the profile once openat2 (437) and its neighbours are not:
    // so 460 and 900 are newer, 435 (clone3), 437, 436, 439 are in it.
    let c = profile(
        deny_but(&[]),
        "syscall x86_64 460; syscall x86_64 900; syscall x86_64 438; syscall x86_64 250",
    );
    let out = c.run().ok().out;
    assert_eq!(out, "errno 38\nerrno 38\nerrno 1\nerrno 1\n");
    // A default that is not an errno EPERM is left alone: a deliberate ENOSYS or kill.
    let mut own = deny_but(&[]);
    own["defaultErrnoRet"] = 38.into();
    assert_eq!(profile(own, "syscall x86_64 165").run().ok().out, "errno 38\n");
}

#[test]
fn default_errno_other_than_eperm() {
    spec!();
    x86_64!();
    let mut own = deny_but(&[]);
    own["defaultErrnoRet"] = 99.into();
    assert_eq!(profile(own, "syscall x86_64 165").run().ok().out, "errno 99\n");
}

#[test]
fn other_architectures_are_filtered_too() {
    spec!();
    x86_64!();
    // i386: 20 getpid, 21 mount, 96 getpriority. x32: 165 mount | bit.
    let c = profile(deny_but(&[]), "syscall i386 20; syscall i386 21; syscall x32 165");
    let run = c.run().ok();
    assert_eq!(run.lines()[..2], ["ok", "errno 1"], "{run:?}");
    assert_ne!(run.lines()[2], "ok");
    let c = profile(
        allow_but(
            json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 55 }]),
        ),
        "syscall x86_64 140; syscall i386 96; syscall x32 140",
    );
    assert_eq!(c.run().ok().out, "errno 55\nerrno 55\nerrno 55\n");
}

#[test]
fn an_architecture_that_is_not_listed_is_no_way_around() {
    spec!();
    x86_64!();
    let mut only = allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" }]));
    only["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    // The probe is killed at its first call by another table.
    for call in ["i386 20", "x32 39"] {
        let run = profile(only.clone(), &format!("syscall {call}; echo $?")).run();
        assert!(run.out == "159\n" || !run.out.contains("ok"), "{call}: {run:?}");
    }
    let mut none = allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" }]));
    none.as_object_mut().expect("object").remove("architectures");
    assert_eq!(
        profile(none, "syscall x86_64 140").run().ok().out,
        "errno 1\n",
        "the native one by default"
    );
}

#[test]
fn sockets_of_i386_go_through_socketcall_too() {
    spec!();
    x86_64!();
    // socket is 359 directly, and call 1 of socketcall (102).
    let rules =
        json!([{ "names": ["socket", "socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 66 }]);
    let c = profile(
        allow_but(rules),
        "syscall x86_64 41 1 1 0; syscall i386 359 1 1 0; syscall i386 102 1 0",
    );
    assert_eq!(c.run().ok().out, "errno 66\nerrno 66\nerrno 66\n");
}

#[test]
fn flags() {
    spec!();
    fails_with!("runc", "1.1 knows no flags");
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]),
    ] {
        let mut with = allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" }]));
        with["flags"] = flags;
        let c = profile(
            with,
            "grep ^Seccomp: /proc/self/status; grep ^Speculation_Store_Bypass /proc/self/status",
        );
        assert_eq!(c.run().field("Seccomp:"), "2");
    }
    let mut bogus = allow_but(json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" }]));
    bogus["flags"] = json!(["SECCOMP_FILTER_FLAG_BOGUS"]);
    profile(bogus, "true").run().refuses(&["linux.seccomp.flags[0]", "SECCOMP_FILTER_FLAG_BOGUS"]);
}

#[test]
fn with_and_without_no_new_privileges() {
    spec!();
    x86_64!();
    for flag in [true, false] {
        let rules =
            json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12 }]);
        let c = profile(allow_but(rules), "syscall x86_64 140; grep ^NoNewPrivs /proc/self/status")
            .with(|c| {
                c["process"]["noNewPrivileges"] = flag.into();
                c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            });
        assert_eq!(c.run().ok().out, format!("errno 12\nNoNewPrivs:\t{}\n", u8::from(flag)));
    }
}

#[test]
fn filters_hold_for_exec() {
    spec!();
    x86_64!();
    let c = profile(
        allow_but(
            json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12 }]),
        ),
        "while :; do sleep 0.05; done",
    );
    c.create().start();
    assert_eq!(c.ask("syscall x86_64 140"), "errno 12\n");
}

#[test]
fn wrong_profiles_name_the_field() {
    davit_only!("each other runtime accepts some of these in silence");
    let rule = |change: fn(&mut Value)| {
        let mut rule = json!({ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO" });
        change(&mut rule);
        allow_but(json!([{ "names": ["setuid"], "action": "SCMP_ACT_ERRNO" }, rule]))
    };
    let top = |change: fn(&mut Value)| {
        let mut top = allow_but(json!([]));
        change(&mut top);
        top
    };
    for (profile_, says) in [
        (rule(|r| r["names"] = json!([])), "linux.seccomp.syscalls[1].names"),
        (rule(|r| r["action"] = "SCMP_ACT_BOGUS".into()), "linux.seccomp.syscalls[1].action"),
        (
            rule(|r| {
                r["action"] = "SCMP_ACT_KILL".into();
                r["errnoRet"] = 1.into();
            }),
            "linux.seccomp.syscalls[1].errnoRet",
        ),
        (
            rule(|r| {
                r["action"] = "SCMP_ACT_ALLOW".into();
                r["errnoRet"] = 1.into();
            }),
            "linux.seccomp.syscalls[1].errnoRet",
        ),
        (rule(|r| r["errnoRet"] = 4096.into()), "linux.seccomp.syscalls[1].errnoRet"),
        (
            rule(|r| r["args"] = json!([{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }])),
            "linux.seccomp.syscalls[1].args[0].index",
        ),
        (
            rule(|r| r["args"] = json!([{ "index": 0, "value": 0, "op": "SCMP_CMP_BOGUS" }])),
            "linux.seccomp.syscalls[1].args[0].op",
        ),
        (top(|t| t["defaultAction"] = "SCMP_ACT_BOGUS".into()), "linux.seccomp.defaultAction"),
        (
            top(|t| t["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_BOGUS"])),
            "linux.seccomp.architectures[1]",
        ),
        (
            top(|t| {
                t.as_object_mut().expect("object").remove("defaultAction");
            }),
            "linux.seccomp",
        ),
        (top(|t| t["defaultErrnoRet"] = 1.into()), "linux.seccomp.defaultErrnoRet"),
        (top(|t| t["defaultAction"] = "SCMP_ACT_NOTIFY".into()), "linux.seccomp"),
    ] {
        profile(profile_, "true").run().refuses(&[says]);
    }
}
