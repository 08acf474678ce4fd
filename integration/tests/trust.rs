//! The advisory classes of runtimes of the last ten years, each as a static trap in a hostile root
//! file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use integration::*;

/// A directory outside every root that no container may touch.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let left: Vec<_> =
            fs::read_dir(self.path()).expect("read").flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "made outside the root: {left:?}");
    }
}

fn replace_with_link(root: &Path, name: &str, target: &Path) {
    let at = root.join(name);
    let _ = fs::remove_dir_all(&at);
    symlink(target, at).expect("symlink");
}

/// CVE-2023-27561, 2023-28642, youki 2025-54867; CVE-2019-19921.
#[test]
fn proc_or_sys_as_a_symlink_is_refused() {
    spec!();
    fails_with!("crun", "1.8 mounts on what the link points to, inside");
    for (name, target) in
        [("proc", "/elsewhere"), ("sys", "/elsewhere"), ("proc", "/etc"), ("sys", "../../..")]
    {
        let c = Container::new(&["true"]).with_files(|root| {
            fs::create_dir(root.join("elsewhere")).expect("mkdir");
            replace_with_link(root, name, Path::new(target));
        });
        c.run().refuses(&[&format!("/{name}")]);
    }
}

/// CVE-2026-41579, CVE-2026-47766: device nodes made on the host.
#[test]
fn dev_as_a_symlink_makes_nothing_on_the_host() {
    spec!();
    fails_with!("runc", "1.1.5 is older than the fix: it makes links on the host");
    fails_with!("crun", "1.8 is older than the fix");
    let outside = Outside::new();
    for drop_dev in [false, true] {
        let c = Container::new(&["true"])
            .with(|c| {
                if drop_dev {
                    for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
                        config::drop_mount(c, at);
                    }
                }
                c["linux"]["devices"] =
                    json!([{ "path": "/dev/deep/er", "type": "c", "major": 1, "minor": 3 }]);
            })
            .with_files(|root| replace_with_link(root, "dev", outside.path()));
        // Made inside the root, or refused: both are fine.
        let _ = c.run();
        outside.assert_untouched();
    }
}

/// CVE-2021-30465, CVE-2024-45310, CVE-2025-52565 in their static form.
#[test]
fn destinations_never_leave_the_root() {
    spec!();
    let outside = Outside::new();
    for (destination, kind) in [
        ("/link/a", "tmpfs"),
        ("/link/a/b/c", "bind"),
        ("/link", "tmpfs"),
        ("/chain/a", "bind"),
        ("/link/file", "file"),
    ] {
        let c = Container::new(&["true"]).with_files(|root| {
            symlink(outside.path(), root.join("link")).expect("symlink");
            symlink("/link/../link/./", root.join("chain")).expect("symlink");
        });
        let c = c.with(|c| match kind {
            "tmpfs" => config::add_mount(c, destination, "tmpfs", "tmpfs", &[]),
            "bind" => config::add_mount(c, destination, "bind", "/etc", &["bind", "ro"]),
            _ => config::add_mount(c, destination, "bind", "/etc/passwd", &["bind", "ro"]),
        });
        let _ = c.run();
        outside.assert_untouched();
    }
}

#[test]
fn cwd_devices_and_masked_paths_never_leave_the_root() {
    spec!();
    let outside = Outside::new();
    let rows: &[fn(&mut Value)] = &[
        |c| c["process"]["cwd"] = "/link/new/dir".into(),
        |c| {
            c["linux"]["devices"] =
                json!([{ "path": "/link/null", "type": "c", "major": 1, "minor": 3 }])
        },
        |c| c["linux"]["devices"] = json!([{ "path": "/link/deep/null", "type": "p" }]),
        |c| c["linux"]["maskedPaths"] = json!(["/link", "/link/x"]),
        |c| c["linux"]["readonlyPaths"] = json!(["/link"]),
    ];
    for edit in rows {
        let c = Container::new(&["true"])
            .with(edit)
            .with_files(|root| symlink(outside.path(), root.join("link")).expect("symlink"));
        let _ = c.run();
        outside.assert_untouched();
    }
}

/// CVE-2024-21626: a leaked descriptor of a host directory.
#[test]
fn no_descriptor_but_stdio_reaches_the_container() {
    spec!();
    let script = "ls -l /proc/self/fd 2>/dev/null | grep -v ' -> /proc/' | grep -c -e '->'";
    let caller = ["sh", "-c", "exec 5</ 6</etc 7</etc/passwd 9</dev/null; exec \"$@\"", "sh"];
    let c = Container::sh(script);
    assert_eq!(c.through_with_bundle(&caller, "run", &[]).done().ok().out, "3\n");
    let c = Container::sleeper();
    c.through_with_bundle(&caller, "create", &[]).done().ok();
    c.through_with_start(&caller);
    let mut words = vec!["exec", c.id.as_str()];
    words.extend(["sh", "-c", script]);
    assert_eq!(c.call_through(&caller, &words).done().ok().out, "3\n");
    let fds = fs::read_dir(format!("/proc/{}/fd", c.pid())).expect("fds").count();
    // ash keeps one of its own for the script's terminal at most.
    assert!(fds <= 4, "the first process: {fds}");
}

trait Start {
    fn through_with_start(&self, before: &[&str]);
}

impl Start for Container {
    fn through_with_start(&self, before: &[&str]) {
        self.call_through(before, &["start", &self.id]).done().ok();
    }
}

#[test]
fn cwd_in_proc_self_fd_leads_nowhere() {
    spec!();
    fails_with!("crun", "1.8 is older than the fix");
    for n in 3..20 {
        let c = Container::sh("cat ../../../../../../../etc/hostname 2>/dev/null; ls; true")
            .with(|c| c["process"]["cwd"] = format!("/proc/self/fd/{n}").into());
        let run = c
            .through_with_bundle(
                &["sh", "-c", "exec 5</ 6</etc 7</root; exec \"$@\"", "sh"],
                "run",
                &[],
            )
            .done();
        assert_ne!(run.code, 0, "fd {n}: {run:?}");
        c.assert_nothing_left();
    }
    let c = Container::sleeper();
    c.create().start();
    for n in 3..20 {
        c.exec_with(&["--cwd", &format!("/proc/self/fd/{n}")], &["pwd"]).refuses(&[]);
    }
}

/// CVE-2019-5736: the host's binary overwritten through /proc/PID/exe.
#[test]
fn the_hosts_binary_cannot_be_written() {
    spec!();
    let before = fs::read(&runtime::runtime().path).expect("the binary");
    // The entry point is the runtime itself, by way of /proc/self/exe; and a script whose
    // interpreter it is.
    let attack = "for p in /proc/[0-9]*; do (echo overwritten >$p/exe) 2>/dev/null; done; true";
    let entries: &[&[&str]] = &[&["/proc/self/exe"], &["/bin/script"], &["/bin/exe-link"]];
    for entry in entries {
        let c = Container::new(entry).with_files(|root| {
            fs::write(root.join("bin/script"), "#!/proc/self/exe\n").expect("write");
            fs::set_permissions(root.join("bin/script"), fs::Permissions::from_mode(0o755))
                .expect("chmod");
            symlink("/proc/self/exe", root.join("bin/exe-link")).expect("symlink");
        });
        let _ = c.run_call(&[]).done();
        c.assert_nothing_left();
    }
    let c = Container::sh(&format!("while :; do {attack}; done"))
        .with(|c| config::set_capabilities(c, &["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]));
    c.create().start();
    for _ in 0..20 {
        let _ = c.exec(&["/proc/self/exe"]);
        let _ = c.exec(&["true"]);
        let _ = c.exec(&["/bin/sh", "-c", "(echo overwritten >/proc/self/exe) 2>/dev/null; true"]);
    }
    c.delete().exits(0);
    let after = fs::read(&runtime::runtime().path).expect("the binary");
    assert!(before == after, "the binary on the host was changed");
}

/// What a created container runs cannot be written either: its exe is no file of the host.
#[test]
fn init_runs_a_protected_copy() {
    davit_only!("about how it is done: a read-only mount or a sealed copy");
    let c = Container::sleeper();
    c.create();
    let exe = format!("/proc/{}/exe", c.pid());
    let opened = fs::OpenOptions::new().write(true).open(&exe);
    assert!(opened.is_err(), "init's executable can be opened for writing");
    let environ = fs::read(format!("/proc/{}/environ", c.pid())).expect("environ");
    assert!(environ.is_empty(), "{:?}", String::from_utf8_lossy(&environ));
}

/// CVE-2016-9962: init and those who join are not dumpable.
#[test]
fn init_is_not_dumpable() {
    davit_only!("about the time before start");
    let c =
        Container::sleeper().with(|c| c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    c.create();
    use std::os::unix::fs::MetadataExt;
    // Files of a process that is not dumpable belong to root (proc(5)).
    let owner = fs::metadata(format!("/proc/{}/environ", c.pid())).expect("stat").uid();
    assert_eq!(owner, 0);
}

/// CVE-2025-31133: the mask of /dev/null, from a /dev/null that is another file.
#[test]
fn a_fake_dev_null_masks_nothing() {
    spec!();
    fails_with!("runc", "1.1.5 is older than the fix");
    fails_with!("crun", "1.8 is older than the fix");
    for fake in ["file", "link", "other"] {
        let c = Container::sh("cat /secret; true")
            .with(|c| {
                for at in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
                    config::drop_mount(c, at);
                }
                c["linux"]["maskedPaths"] = json!(["/secret"]);
                c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
            })
            .with_files(|root| {
                fs::write(root.join("secret"), "the secret\n").expect("write");
                let null = root.join("dev/null");
                match fake {
                    "file" => fs::write(null, "not a device\n").expect("write"),
                    "link" => symlink("/etc/passwd", null).expect("symlink"),
                    _ => assert!(
                        Command::new("mknod")
                            .arg(null)
                            .args(["c", "1", "5"])
                            .status()
                            .is_ok_and(|s| s.success())
                    ),
                }
            });
        let run = c.run_call(&[]).within(std::time::Duration::from_secs(10)).done();
        for word in ["the secret", "not a device", "root:"] {
            assert!(!run.out.contains(word), "{fake}: {run:?}");
        }
    }
}

/// CVE-2023-25809, 2019-16884, 2025-52881: what is written into /proc goes into the real one.
#[test]
fn a_fake_proc_catches_no_write() {
    spec!();
    let outside = Outside::new();
    // Sysctls, oom_score_adj and labels are written while the root's /proc is prepared by the
    // image.
    let c = Container::sh("cat /proc/sys/net/core/somaxconn /proc/self/oom_score_adj").with(|c| {
        c["linux"]["sysctl"] = json!({ "net.core.somaxconn": "77" });
        c["process"]["oomScoreAdj"] = 555.into();
    });
    let c = c.with_files(|root| {
        fs::create_dir_all(root.join("proc/sys/net/core")).expect("mkdir");
        fs::create_dir_all(root.join("proc/self")).expect("mkdir");
        symlink(outside.path().join("x"), root.join("proc/sys/net/core/somaxconn"))
            .expect("symlink");
        symlink(outside.path().join("y"), root.join("proc/self/oom_score_adj")).expect("symlink");
    });
    assert_eq!(c.run().ok().out, "77\n555\n");
    outside.assert_untouched();
}

#[test]
fn a_volume_over_proc_is_refused() {
    davit_only!("a bind of a fake procfs: writes meant for /proc would go there");
    let c = Container::new(&["true"]);
    fs::create_dir(c.path("fake")).expect("mkdir");
    let fake = c.path("fake");
    let c = c.with(|c| config::add_mount(c, "/proc", "bind", &fake, &["bind"]));
    c.run().refuses(&["mounts[7]", "/proc"]);
}

/// CVE-2022-29162 and others: nothing inheritable, nothing ambient, for init and for exec.
#[test]
fn no_capability_beyond_those_asked() {
    spec!();
    let script = "grep -E '^Cap(Inh|Amb|Bnd)' /proc/self/status";
    let none = |c: &mut Value| config::set_capabilities(c, &[]);
    let expected =
        "CapInh:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    assert_eq!(Container::sh(script).with(none).run().ok().out, expected);
    let c = Container::sleeper().with(none);
    c.create().start();
    assert_eq!(c.ask(script), expected);
    // Even when the caller has some to inherit.
    let c = Container::sh(script).with(none);
    let caller = ["setpriv", "--inh-caps", "+kill,+chown", "--ambient-caps", "+kill,+chown"];
    assert_eq!(c.through_with_bundle(&caller, "run", &[]).done().ok().out, expected);
}

#[test]
fn nothing_of_the_callers_environment() {
    spec!();
    let c = Container::sleeper();
    c.create_call(&[]).env("SECRET", "hunter2").done().ok();
    c.call(&["start", &c.id]).env("SECRET", "hunter2").done().ok();
    assert!(!c.ask("cat /proc/1/environ; env").contains("SECRET"));
    let run = c.exec_call(&[], &["env"]).env("SECRET", "hunter2").env("LD_PRELOAD", "").done().ok();
    assert!(!run.out.contains("SECRET") && !run.out.contains("LD_PRELOAD"), "{run:?}");
}

#[test]
fn sessions_and_keyrings_are_the_containers_own() {
    spec!();
    fails_with!("crun", "1.8 has no keyring of its own for exec");
    let probe = r#"
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { printf("%ld %d\n", syscall(SYS_keyctl, 0, -3, 0), getsid(0)); return 0; }
"#;
    let program = probe::compile("keyring", probe);
    let own = Command::new(&program).output().expect("probe");
    let own = String::from_utf8_lossy(&own.stdout).into_owned();
    skip_if!(own.starts_with("-1").then_some("no keyrings on this host"));
    let c =
        Container::new(&["/bin/keyring"]).with_files(|root| probe::install(root, "keyring", probe));
    let inside = c.run().ok().out;
    assert_ne!(
        inside.split(' ').next(),
        own.split(' ').next(),
        "the session keyring of the caller"
    );
    let running = Container::sleeper().with_files(|root| probe::install(root, "keyring", probe));
    running.create().start();
    let exec = running.exec(&["/bin/keyring"]).ok().out;
    assert_ne!(exec.split(' ').next(), own.split(' ').next());
}

#[test]
fn exec_cannot_be_fooled_by_the_container() {
    spec!();
    fails_with!("runc", "waits for ever for a FIFO in place of /etc/passwd");
    fails_with!("crun", "waits for ever for a FIFO in place of /etc/passwd");
    // /bin/sh of the container is replaced while it runs, /etc/passwd is a FIFO, /proc is what it
    // is.
    let c = Container::sleeper().with_files(|root| {
        assert!(
            Command::new("mkfifo").arg(root.join("etc/trap")).status().is_ok_and(|s| s.success())
        );
    });
    c.create().start();
    c.ask("rm /etc/passwd && mv /etc/trap /etc/passwd");
    let run = c
        .exec_call(&["--user", "1000"], &["sh", "-c", "echo $HOME"])
        .within(std::time::Duration::from_secs(10))
        .done();
    assert!(run.code != 0 || run.out == "/\n", "{run:?}");
}

#[test]
fn init_dies_when_its_maker_does_before_created() {
    davit_only!("see faults.rs for the many moments");
    // A hook that never ends, and the runtime killed meanwhile: no init may stay behind.
    let c = Container::new(&["true"]);
    let script = format!("echo $$ >{}; exec sleep 1000", c.path("hook"));
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let c = c.with(|c| c["hooks"] = json!({ "createRuntime": [hook] }));
    let create = c.create_call(&[]).spawn();
    let hook = call::within(std::time::Duration::from_secs(5), || {
        fs::read_to_string(c.path("hook")).ok()?.trim().parse().ok()
    });
    let hook = nix::unistd::Pid::from_raw(hook.expect("the hook runs"));
    create.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = create.wait();
    c.delete().exits(0);
    c.assert_nothing_left();
    nix::sys::signal::kill(hook, nix::sys::signal::Signal::SIGKILL).expect("kill");
}
