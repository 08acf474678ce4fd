//! Confinement is one thing: a created container's init, its program, a process of `exec` and a
//! startContainer hook of the image have the same, and it is what runc gives.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use integration::*;

/// Prints all that the kernel tells a process of its own confinement, a line each.
const SPY: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
static void file(const char *path, const char **keys) {
    char line[4096];
    FILE *f = fopen(path, "r");
    if (!f) { printf("%s: none\n", path); return; }
    while (fgets(line, sizeof line, f)) {
        if (!keys) { printf("%s: %s", path, line); continue; }
        for (int i = 0; keys[i]; i++)
            if (!strncmp(line, keys[i], strlen(keys[i]))) printf("%s", line);
    }
    fclose(f);
}
int main(int argc, char **argv) {
    if (argc > 1 && !freopen(argv[1], "w", stdout)) return 1;
    const char *keys[] = { "Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:", "Sig", "Shd",
        "Cpus_allowed_list", 0 };
    char keyring[256] = "none";
    file("/proc/self/status", keys);
    file("/proc/self/limits", 0);
    file("/proc/self/attr/current", 0);
    file("/proc/self/oom_score_adj", 0);
    printf("\npersonality %x\n", personality(0xffffffff));
    printf("policy %d nice %d\n", sched_getscheduler(0), getpriority(PRIO_PROCESS, 0));
    printf("ioprio %ld\n", syscall(SYS_ioprio_get, 1, 0));
    long ring = syscall(SYS_keyctl, 0, -3, 0);
    if (ring >= 0 && syscall(SYS_keyctl, 6, ring, keyring, sizeof keyring - 1) < 0) strcpy(keyring, "denied");
    /* type;uid;gid;perm;description */
    char *name = strrchr(keyring, ';');
    printf("keyring %.5s\n", name ? name + 1 : keyring);
    return 0;
}
"#;

/// A config whose confinement has something of everything.
fn confined(c: &mut Value, no_new_privileges: bool) {
    let process = &mut c["process"];
    process["user"] =
        json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 1234], "umask": 0o027 });
    process["noNewPrivileges"] = no_new_privileges.into();
    process["oomScoreAdj"] = 321.into();
    process["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
    ]);
    config::set_capabilities(c, &["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    for set in ["inheritable", "ambient"] {
        c["process"]["capabilities"][set] = json!([]);
    }
    c["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
    });
}

fn spied(c: Container) -> Container {
    c.with_files(|root| probe::install(root, "spy", SPY))
}

#[test]
fn program_exec_and_hook_have_what_runc_gives() {
    davit_only!("compares davit with runc");
    for no_new_privileges in [true, false] {
        let c = spied(Container::sh("/bin/spy; while :; do sleep 0.05; done")).with_log();
        let log = c.path("log");
        let hook = json!({ "path": "/bin/spy", "args": ["spy", format!("{log}/hook")] });
        let c = c.with(|c| {
            confined(c, no_new_privileges);
            c["hooks"]["startContainer"] = json!([hook]);
        });
        c.create().start();
        let program = c.until_output("keyring");
        let hook = fs::read_to_string(format!("{log}/hook")).expect("the hook has run");
        assert_eq!(hook, program, "the hook beside the program");
        assert_eq!(c.exec(&["/bin/spy"]).ok().out, program, "exec beside the program");
        assert!(program.contains("Seccomp:\t2") && program.contains("keyring _ses."), "{program}");
        let c = spied(Container::new(&["/bin/spy"])).with(|c| confined(c, no_new_privileges));
        c.write();
        let (root, bundle) = (c.path("runc"), c.path("bundle"));
        let runc = c.host(&["runc", "--root", &root, "run", "--bundle", &bundle, &c.id]).done();
        // runc leaves what its caller ignores.
        let all_but_ignored = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("SigIgn")).map(str::to_owned).collect()
        };
        assert_eq!(
            all_but_ignored(&runc.exits(0).out),
            all_but_ignored(&program),
            "runc beside davit"
        );
    }
}

/// All lines of /proc/PID/status that tell of rights.
fn rights(status: &str) -> Vec<String> {
    let keys =
        ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
    let lines = status.lines().filter(|line| keys.iter().any(|key| line.starts_with(key)));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_created_init_has_no_right_that_the_program_will_not_have() {
    davit_only!("about davit's init");
    for no_new_privileges in [true, false] {
        let c = Container::sh("cat /proc/self/status; while :; do sleep 0.05; done")
            .with(|c| confined(c, no_new_privileges))
            // They outlive the exec.
            .with(|c| config::set_capabilities(c, &["CAP_KILL", "CAP_NET_BIND_SERVICE"]));
        c.create();
        let created = fs::read_to_string(format!("/proc/{}/status", c.pid())).expect("status");
        let limits = fs::read_to_string(format!("/proc/{}/limits", c.pid())).expect("limits");
        assert!(
            limits.lines().any(|line| line.starts_with("Max open files            64 ")),
            "{limits}"
        );
        // Without no_new_privs the filter needs a right that is gone by now.
        let filtered = created.contains("Seccomp:\t2");
        assert_eq!(filtered, !no_new_privileges, "{created}");
        c.start();
        let running = c.until_output("Speculation");
        assert_eq!(rights(&created), rights(&running));
        let held = caps::read(Some(c.pid()), caps::CapSet::Permitted).expect("capabilities");
        let expected = [caps::Capability::CAP_KILL, caps::Capability::CAP_NET_BIND_SERVICE];
        assert_eq!(held, expected.into_iter().collect());
    }
}

#[test]
fn what_cannot_be_had_is_an_error_of_create() {
    davit_only!("the messages are davit's");
    type Edit = fn(&mut Value);
    let rows: &[(&str, Edit)] = &[
        ("process.rlimits[0] RLIMIT_NOFILE", |c| {
            // The limit of every process is below fs.nr_open.
            c["process"]["rlimits"] =
                json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 4_000_000_000u64 }]);
        }),
        ("process.scheduler", |c| {
            c["process"]["scheduler"] =
                json!({ "policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 4, "period": 3 });
        }),
        ("process.args[3]: is longer than the 131072 bytes", |c| {
            config::push(&mut c["process"]["args"], "x".repeat(1 << 17).into());
        }),
        ("process.env and process.args", |c| {
            for n in 0..70 {
                config::push(
                    &mut c["process"]["env"],
                    format!("N{n}={}", "x".repeat(100_000)).into(),
                );
            }
        }),
    ];
    for (says, edit) in rows {
        let c = Container::sh("true").with(edit);
        c.create_call(&[]).done().refuses(&[says]);
        c.assert_nothing_left();
    }
}

/// The filter is in force at once without no_new_privs, and nothing is left to do under it but to
/// read, to write and to execute.
#[test]
fn a_filter_that_allows_little_lets_a_created_container_start() {
    davit_only!("runc's runtime library needs more");
    let names = [
        "read",
        "write",
        "execve",
        "capset",
        "capget",
        "prctl",
        "exit_group",
        "exit",
        "brk",
        "mmap",
        "munmap",
        "arch_prctl",
        "set_tid_address",
        "rt_sigprocmask",
        "rt_sigaction",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "ioctl",
        "fstat",
        "newfstatat",
        "writev",
        "uname",
        "readlink",
        "mprotect",
        "prlimit64",
        "getrandom",
        "set_robust_list",
        "rseq",
        "setuid",
        "setgid",
        "access",
        "faccessat2",
    ];
    for no_new_privileges in [true, false] {
        let c = Container::new(&["echo", "fine"]).with(|c| {
            c["process"]["noNewPrivileges"] = no_new_privileges.into();
            c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 3, "hard": 3 }]);
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{ "names": names.as_slice(), "action": "SCMP_ACT_ALLOW" }]
            });
        });
        c.create().start();
        c.until_output("fine\n");
        c.until_status("stopped");
    }
}

#[test]
fn a_filter_under_which_nothing_can_begin_is_refused() {
    davit_only!("runc: container process is already dead");
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        for no_new_privileges in [true, false] {
            let c = Container::sh("true").with(|c| {
                c["process"]["noNewPrivileges"] = no_new_privileges.into();
                c["linux"]["seccomp"] = json!({ "defaultAction": action });
            });
            c.run_call(&[]).done().refuses(&["linux.seccomp", "execve"]);
            c.create_call(&[]).done().refuses(&["linux.seccomp", "execve"]);
            c.assert_nothing_left();
        }
    }
}

/// Under a filter that allows execve alone, an init whose program cannot be executed may neither
/// say so nor exit.
#[test]
fn an_init_that_may_make_no_system_call_ends() {
    davit_only!("runc's runtime library needs more");
    let c = Container::new(&["/bin/broken"]).with_files(|root| {
        fs::write(root.join("bin/broken"), "\x7fELF").expect("write");
        fs::set_permissions(root.join("bin/broken"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
    });
    let c = c.with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_ALLOW" }]
        });
    });
    let run = c.run_call(&[]).within(std::time::Duration::from_secs(10)).done();
    run.fails();
    c.assert_nothing_left();
}

#[test]
fn create_container_hooks_begin_in_the_containers_root() {
    spec!();
    fails_with!("crun", "1.8 runs them in the bundle");
    let c = Container::sh("sleep 0.2");
    let log = c.path("log");
    fs::create_dir(&log).expect("mkdir");
    let c = c.with(|c| {
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            let script = format!("cat >/dev/null; pwd -P >{log}/{kind}");
            c["hooks"][kind] = json!([config::shell_hook(&script)]);
        }
    });
    c.create().start();
    c.until_status("stopped");
    c.call(&["delete", &c.id]).done().ok();
    let (bundle, root) =
        (format!("{}\n", c.bundle().display()), format!("{}\n", c.rootfs().display()));
    for (kind, expected) in [
        ("prestart", &bundle),
        ("createRuntime", &bundle),
        ("createContainer", &root),
        ("poststart", &bundle),
        ("poststop", &bundle),
    ] {
        let seen = fs::read_to_string(format!("{log}/{kind}")).expect("log");
        assert_eq!(seen, *expected, "{kind}");
    }
}

#[test]
fn a_start_container_hook_has_the_programs_environment_unless_it_names_its_own() {
    spec!();
    fails_with!("crun", "1.8 gives it the runtime's");
    let c = Container::sh("env | sort >$LOG/program").with_log();
    let log = c.path("log");
    let c = c.with(|c| {
        config::push(&mut c["process"]["env"], format!("LOG={log}").into());
        let shell = |script: String| json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        let mut own = shell(format!("env | sort >{log}/own"));
        own["env"] = json!(["ONLY=this"]);
        c["hooks"]["startContainer"] = json!([shell("env | sort >$LOG/hook".to_owned()), own]);
    });
    c.create().start();
    c.until_status("stopped");
    let read = |name: &str| fs::read_to_string(format!("{log}/{name}")).expect("log");
    let clean = |text: String| -> Vec<String> {
        let own = ["_=", "PWD=", "SHLVL=", "OLDPWD="];
        text.lines()
            .filter(|line| !own.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(clean(read("hook")), clean(read("program")));
    assert!(read("own").contains("ONLY=this") && !read("own").contains("LOG="), "{}", read("own"));
}

/// `exec` repeats the filter of the container's plan: a plan that lost it is no permission.
#[test]
fn exec_refuses_a_plan_without_the_filter() {
    davit_only!("davit's own file");
    let filtered = Container::sleeper().with(|c| confined(c, true));
    let plain = Container::sleeper().with(|c| {
        confined(c, true);
        c["linux"].as_object_mut().expect("linux").remove("seccomp");
    });
    filtered.create().start();
    plain.create().start();
    let file = |c: &Container| c.state_root().join(&c.id).join("plan");
    let filter_of = |c: &Container| {
        let parts = plan_parts::read(&file(c));
        parts.into_iter().find(|(name, _)| name == "filter").expect("the part").1
    };
    let whole = plan_parts::read(&file(&filtered));
    let instructions = filter_of(&filtered);
    assert!(!instructions.is_empty() && filter_of(&plain).is_empty());
    let half = instructions[..instructions.len() - 8].to_vec();
    for other in [filter_of(&plain), half, [instructions.clone(), instructions].concat()] {
        let mut parts = whole.clone();
        parts.iter_mut().filter(|(name, _)| name == "filter").for_each(|(_, part)| {
            part.clone_from(&other);
        });
        plan_parts::write(&file(&filtered), &parts);
        filtered.exec(&["true"]).refuses(&["plan", "filter is not whole"]);
    }
    let without: Vec<_> = whole.iter().filter(|(name, _)| name != "filter").cloned().collect();
    plan_parts::write(&file(&filtered), &without);
    filtered.exec(&["true"]).refuses(&["plan", "part Filter is missing"]);
    plan_parts::write(&file(&filtered), &whole);
    filtered.exec(&["true"]).ok();
    plain.exec(&["true"]).ok();
}

/// What runs as a startContainer hook comes from the image: it gets no right of the runtime's.
#[test]
fn a_hook_of_the_image_cannot_remount() {
    spec!();
    let c = Container::sh("sleep 0.1").with_log();
    let log = c.path("log");
    let script = format!(
        "mount -o remount,rw /proc/sys 2>/dev/null && touch {log}/remounted; touch {log}/ran; true"
    );
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let c = c.with(|c| {
        confined(c, true);
        c["hooks"]["startContainer"] = json!([hook]);
    });
    c.run_call(&[]).done();
    assert!(fs::exists(format!("{log}/ran")).expect("stat"));
    assert!(!fs::exists(format!("{log}/remounted")).expect("stat"), "the hook had CAP_SYS_ADMIN");
}
