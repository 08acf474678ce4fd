//! config.json's `process`: who the program is, where it stands and what it is given.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use integration::*;

/// Runs a script with a changed `process` and returns what it printed.
fn seen(script: &str, edit: impl FnOnce(&mut Value)) -> String {
    Container::sh(script).with(|c| edit(&mut c["process"])).run().ok().out
}

#[test]
fn user_and_groups() {
    spec!();
    let out = seen("grep -E '^(Uid|Gid|Groups)' /proc/self/status", |p| {
        p["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 7, 2147483647] });
    });
    assert_eq!(
        out,
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t1001\t1001\t1001\t1001\nGroups:\t5 7 2147483647 \n"
    );
}

#[test]
fn the_largest_ids() {
    spec!();
    fails_with!("runc", "1.1 ends at 2147483647");
    let out = seen("grep -E '^(Uid|Gid|Groups)' /proc/self/status", |p| {
        let id = 4_294_967_294_u32;
        p["user"] = json!({ "uid": id, "gid": id, "additionalGids": [id] });
    });
    let four = "\t4294967294".repeat(4);
    assert_eq!(out, format!("Uid:{four}\nGid:{four}\nGroups:\t4294967294 \n"));
}

#[test]
fn supplementary_groups_are_exactly_those_asked() {
    spec!();
    let c = Container::sh("grep ^Groups /proc/self/status");
    let run = c.through_with_bundle(&["setpriv", "--groups", "4,24,27"], "run", &[]).done().ok();
    assert_eq!(run.field("Groups:"), "", "none of the caller's");
}

#[test]
fn umask() {
    spec!();
    assert_eq!(seen("umask", |_| ()), "0022\n");
    for (mask, shown) in [(0o077, "0077\n"), (0, "0000\n"), (0o777, "0777\n")] {
        assert_eq!(seen("umask", |p| p["user"]["umask"] = mask.into()), shown);
    }
    let c = Container::sh("umask");
    let run = c
        .through_with_bundle(&["sh", "-c", "umask 0177; exec \"$@\"", "sh"], "run", &[])
        .done()
        .ok();
    assert_eq!(run.out, "0022\n", "not the caller's");
}

#[test]
fn umask_does_not_touch_what_the_runtime_makes() {
    spec!();
    fails_with!("runc", "makes directories under the caller's umask");
    fails_with!("crun", "makes directories under the caller's umask");
    let script = "stat -c '%a %n' /dev/null /dev/zero /dev/shm /made /made/below";
    let c = Container::sh(script).with(|c| {
        c["process"]["user"]["umask"] = 0o777.into();
        config::add_mount(c, "/made/below", "tmpfs", "tmpfs", &["mode=750"]);
    });
    let run = c
        .through_with_bundle(&["sh", "-c", "umask 0777; exec \"$@\"", "sh"], "run", &[])
        .done()
        .ok();
    assert_eq!(
        run.out,
        "666 /dev/null\n666 /dev/zero\n1777 /dev/shm\n755 /made\n750 /made/below\n"
    );
}

#[test]
fn cwd() {
    spec!();
    assert_eq!(seen("pwd", |p| p["cwd"] = "/home/bob".into()), "/home/bob\n");
    assert_eq!(
        seen("pwd; ls -ld . | cut -c1-10", |p| p["cwd"] = "/new/dir".into()),
        "/new/dir\ndrwxr-xr-x\n"
    );
    let c = Container::sh("/bin/pwd -P").with(|c| c["process"]["cwd"] = "/way".into()).with_files(
        |root| std::os::unix::fs::symlink("/home/bob", root.join("way")).expect("symlink"),
    );
    assert_eq!(c.run().ok().out, "/home/bob\n");
}

#[test]
fn cwd_that_only_the_user_may_enter() {
    spec!();
    let c = Container::sh("pwd")
        .with(|c| {
            c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            c["process"]["cwd"] = "/home/bob".into();
            config::set_capabilities(c, &[]);
        })
        .with_files(|root| {
            let home = root.join("home/bob");
            chown(&home, Some(1000), Some(1000)).expect("chown");
            fs::set_permissions(home, fs::Permissions::from_mode(0o700)).expect("chmod");
        });
    assert_eq!(c.run().ok().out, "/home/bob\n");
}

#[test]
fn cwd_that_is_a_file_is_refused() {
    spec!();
    let c = Container::sh("pwd").with(|c| c["process"]["cwd"] = "/etc/passwd".into());
    c.run().refuses(&["process.cwd", "/etc/passwd", "not a directory"]);
}

#[test]
fn environment_is_what_was_asked_and_no_more() {
    spec!();
    let c = Container::new(&["env"]).with(|c| {
        c["process"]["env"] =
            json!(["PATH=/bin", "A=first", "B=with = sign", "A=second", "EMPTY=", "HOME=/h"]);
    });
    let run = c.run_call(&[]).env("FROM_THE_CALLER", "1").done().ok();
    let mut lines = run.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["A=second", "B=with = sign", "EMPTY=", "HOME=/h", "PATH=/bin"]);
}

#[test]
fn environment_keeps_its_order() {
    davit_only!("other runtimes put a repeated variable where they like");
    let c = Container::new(&["env"]).with(|c| {
        c["process"]["env"] = json!(["PATH=/bin", "HOME=/h", "Z=1", "A=2", "M=3"]);
    });
    assert_eq!(c.run().ok().lines(), ["PATH=/bin", "HOME=/h", "Z=1", "A=2", "M=3"]);
}

#[test]
fn home_comes_from_passwd() {
    spec!();
    fails_with!("crun", "sets no HOME for unknown users");
    let home = |uid: u32, env: Value| {
        seen("echo $HOME", |p| {
            p["user"] = json!({ "uid": uid, "gid": 0 });
            p["env"] = env;
        })
    };
    assert_eq!(home(0, json!(["PATH=/bin"])), "/root\n");
    assert_eq!(home(1000, json!(["PATH=/bin"])), "/home/bob\n");
    assert_eq!(home(4711, json!(["PATH=/bin"])), "/\n", "not in /etc/passwd");
    assert_eq!(home(1000, json!(["PATH=/bin", "HOME=/mine"])), "/mine\n");
}

#[test]
fn an_empty_home_counts_as_unset() {
    davit_only!("podman sends HOME= ; runc 1.1 keeps it");
    let env = json!(["PATH=/bin", "HOME="]);
    assert_eq!(seen("echo $HOME", |p| p["env"] = env), "/root\n");
}

#[test]
fn home_without_any_passwd() {
    spec!();
    let c = Container::sh("echo $HOME")
        .with_files(|root| fs::remove_dir_all(root.join("etc")).expect("rm"));
    assert_eq!(c.run().ok().out, "/\n");
}

#[test]
fn home_with_a_hostile_passwd() {
    spec!();
    fails_with!("runc", "reads a passwd that is a symlink, FIFO or device");
    fails_with!("crun", "reads a passwd that is a symlink, FIFO or device");
    for make in [
        "mkfifo etc/passwd",
        "ln -s /proc/self/fd/0 etc/passwd",
        "ln -s /dev/zero etc/passwd",
        "mkdir etc/passwd",
    ] {
        let c = Container::sh("echo $HOME").with_files(|root| {
            let script = format!("rm etc/passwd; {make}");
            let done =
                std::process::Command::new("sh").args(["-c", &script]).current_dir(root).status();
            assert!(done.is_ok_and(|status| status.success()));
        });
        let run = c.run();
        assert!(run.out == "/\n" || run.code != 0, "{make}: {run:?}");
    }
}

#[test]
fn path_search() {
    spec!();
    let c = Container::new(&["tool"])
        .with(|c| c["process"]["env"] = json!(["PATH=/nowhere:/a:/b:/bin"]))
        .with_files(|root| {
            for (dir, mode) in [("a", 0o644), ("b", 0o755)] {
                fs::create_dir(root.join(dir)).expect("mkdir");
                let tool = root.join(dir).join("tool");
                fs::write(&tool, format!("#!/bin/sh\necho tool of {dir}\n")).expect("write");
                fs::set_permissions(tool, fs::Permissions::from_mode(mode)).expect("chmod");
            }
        });
    assert_eq!(c.run().ok().out, "tool of b\n", "/a/tool is not executable");
}

#[test]
fn path_search_happens_inside_the_root() {
    spec!();
    // This program is on the host, and not in the root.
    let c = Container::new(&["stty"]).with(|c| c["process"]["env"] = json!(["PATH=/usr/bin"]));
    c.run().refuses(&["exec: \"stty\": executable file not found in $path"]);
}

#[test]
fn a_relative_program_is_relative_to_cwd() {
    spec!();
    let c =
        Container::new(&["./sh", "-c", "echo found"]).with(|c| c["process"]["cwd"] = "/bin".into());
    assert_eq!(c.run().ok().out, "found\n");
}

#[test]
fn args_arrive_as_they_are() {
    spec!();
    let words = ["", "a b", "*", "$HOME", "new\nline", "ü", "-n", "\u{1}"];
    let mut args = vec!["sh", "-c", "for w; do printf '<%s>' \"$w\"; done", "sh"];
    args.extend(words);
    assert_eq!(
        Container::new(&args).run().ok().out,
        words.map(|word| format!("<{word}>")).concat()
    );
}

#[test]
fn large_arguments_and_environment() {
    spec!();
    let big = "x".repeat(100_000);
    let c = Container::new(&["sh", "-c", "echo ${#BIG} ${#1}", "sh", &big]).with(|c| {
        config::push(&mut c["process"]["env"], json!(format!("BIG={big}")));
        for n in 0..1000 {
            config::push(&mut c["process"]["env"], json!(format!("N{n}={n}")));
        }
    });
    assert_eq!(c.run().ok().out, "100000 100000\n");
}

#[test]
fn rlimits() {
    spec!();
    let limits = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 1000 },
        { "type": "RLIMIT_NPROC", "soft": 500, "hard": 600 },
        { "type": "RLIMIT_FSIZE", "soft": 1_000_000, "hard": 2_000_000 },
        { "type": "RLIMIT_STACK", "soft": 8_000_000, "hard": u64::MAX },
        { "type": "RLIMIT_AS", "soft": 1_000_000_000, "hard": u64::MAX },
        { "type": "RLIMIT_CPU", "soft": 100, "hard": 101 },
        { "type": "RLIMIT_DATA", "soft": 100_000_000, "hard": u64::MAX },
        { "type": "RLIMIT_RSS", "soft": 11, "hard": 12 },
        { "type": "RLIMIT_MEMLOCK", "soft": 4096, "hard": 8192 },
        { "type": "RLIMIT_LOCKS", "soft": 13, "hard": 14 },
        { "type": "RLIMIT_SIGPENDING", "soft": 15, "hard": 16 },
        { "type": "RLIMIT_MSGQUEUE", "soft": 17, "hard": 18 },
        { "type": "RLIMIT_NICE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_RTPRIO", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_RTTIME", "soft": 19, "hard": 20 },
    ]);
    let out = seen("cat /proc/self/limits", |p| p["rlimits"] = limits);
    for (name, soft, hard) in [
        ("Max open files", "100", "200"),
        ("Max core file size", "0", "1000"),
        ("Max processes", "500", "600"),
        ("Max file size", "1000000", "2000000"),
        ("Max stack size", "8000000", "unlimited"),
        ("Max address space", "1000000000", "unlimited"),
        ("Max cpu time", "100", "101"),
        ("Max data size", "100000000", "unlimited"),
        ("Max resident set", "11", "12"),
        ("Max locked memory", "4096", "8192"),
        ("Max file locks", "13", "14"),
        ("Max pending signals", "15", "16"),
        ("Max msgqueue size", "17", "18"),
        ("Max nice priority", "0", "0"),
        ("Max realtime priority", "0", "0"),
        ("Max realtime timeout", "19", "20"),
    ] {
        let line = out.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], [soft, hard], "{name}");
    }
}

#[test]
fn refused_rlimits_name_the_entry() {
    spec!();
    for (entry, texts) in [
        (
            json!({ "type": "RLIMIT_BOGUS", "soft": 1, "hard": 1 }),
            ["process.rlimits[1]", "RLIMIT_BOGUS"],
        ),
        (json!({ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }), ["process.rlimits[1]", ""]),
    ] {
        let c =
            Container::new(&["true"]).with(|c| config::push(&mut c["process"]["rlimits"], entry));
        c.run().refuses(&texts);
    }
    // The hard limit of the host without CAP_SYS_RESOURCE: the kernel refuses more.
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("open files");
    let hard: u64 =
        files.split_whitespace().nth(4).and_then(|word| word.parse().ok()).expect("a number");
    let c = Container::new(&["true"]).with(|c| {
        c["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": hard + 1 }]);
    });
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let caps = u64::from_str_radix(caps.trim(), 16).expect("hex");
    if caps & (1 << 24) == 0 {
        c.run().refuses(&["process.rlimits[0]", "RLIMIT_NOFILE", "operation not permitted"]);
    }
}

#[test]
fn no_new_privileges() {
    spec!();
    for (flag, shown) in [(json!(true), "1"), (json!(false), "0"), (Value::Null, "0")] {
        let c = Container::sh("grep NoNewPrivs /proc/self/status").with(|c| {
            if flag.is_null() {
                c["process"].as_object_mut().expect("process").remove("noNewPrivileges");
            } else {
                c["process"]["noNewPrivileges"] = flag;
            }
        });
        assert_eq!(c.run().ok().field("NoNewPrivs:"), shown);
    }
}

#[test]
fn oom_score_adj() {
    spec!();
    let own = fs::read_to_string("/proc/self/oom_score_adj").expect("oom_score_adj");
    assert_eq!(seen("cat /proc/self/oom_score_adj", |_| ()), own, "the caller's when not asked");
    for value in [1000, 321] {
        let out = seen("cat /proc/self/oom_score_adj", |p| p["oomScoreAdj"] = value.into());
        assert_eq!(out.trim(), value.to_string());
    }
}

#[test]
fn personality() {
    spec!();
    fails_with!("runc", "1.1 has no personality");
    skip_if!((!cfg!(target_arch = "x86_64")).then_some("names of x86_64"));
    for (domain, shown) in [("LINUX32", "i686"), ("LINUX", "x86_64")] {
        let with = |c: &mut Value| c["linux"]["personality"] = json!({ "domain": domain });
        assert_eq!(Container::sh("uname -m").with(with).run().ok().out.trim(), shown);
        let c = Container::sleeper().with(with);
        c.create().start();
        assert_eq!(c.ask("uname -m").trim(), shown, "exec");
    }
}

#[test]
fn signals_are_as_for_a_fresh_process() {
    spec!();
    fails_with!("runc", "leaves signals ignored that the caller ignored");
    fails_with!("crun", "leaves signals ignored that the caller ignored");
    // Without a shell: it ignores SIGQUIT.
    let c = Container::new(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let caller = ["sh", "-c", "trap '' INT QUIT HUP PIPE USR1 TERM CHLD; exec \"$@\"", "sh"];
    let run = c.through_with_bundle(&caller, "run", &[]).done().ok();
    assert_eq!(run.field("SigBlk:"), "0000000000000000");
    assert_eq!(run.field("SigIgn:"), "0000000000000000");
}

#[test]
fn blocked_signals_are_unblocked() {
    spec!();
    fails_with!("runc", "leaves the caller's mask");
    fails_with!("crun", "leaves the caller's mask");
    let block = r#"
#include <signal.h>
#include <unistd.h>
int main(int argc, char **argv) { sigset_t all; sigfillset(&all); sigprocmask(SIG_SETMASK, &all, 0); execvp(argv[1], argv + 1); return 1; }
"#;
    let program = probe::compile("block", block);
    let c = Container::sh("grep -E '^Sig(Blk|Ign)' /proc/self/status");
    let run = c.through_with_bundle(&[program.to_str().expect("utf-8")], "run", &[]).done().ok();
    assert_eq!(run.field("SigBlk:"), "0000000000000000");
}

#[test]
fn a_process_without_user_is_root() {
    spec!();
    // The schema requires cwd alone.
    let out = seen("id -u; id -g", |p| {
        p.as_object_mut().expect("process").remove("user");
    });
    assert_eq!(out, "0\n0\n");
    assert_eq!(seen("id -u; id -g", |p| p["user"] = json!({ "gid": 5 })), "0\n5\n");
}

#[test]
fn a_session_of_its_own() {
    spec!();
    // Fields of stat: pid, comm, state, ppid, pgrp, session.
    let out = seen("cut -d' ' -f1,5,6 /proc/1/stat", |_| ());
    assert_eq!(out, "1 1 1\n");
}
