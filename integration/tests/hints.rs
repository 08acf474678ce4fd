//! What is said besides the errno: each row of the tables crates/*/src/hint.rs but those of limits,
//! provoked for real (D3). The texts before the hint are those that engines look at, and the hints
//! have none of those in them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use integration::config::{add_mount, drop_mount, push, set_namespace, set_userns};
use integration::*;

/// What engines look for in an error (docs/engines.md): a hint must not decide about an exit code.
const LOOKED_FOR: [&str; 12] = [
    "permission denied",
    "operation not permitted",
    "executable file not found",
    "no such file",
    "not found",
    "open executable",
    "is a directory",
    "does not exist",
    "container not running",
    "already finished",
    "no such process",
    "requires an argument",
];

/// Refused with this message and this hint.
#[track_caller]
fn hints(run: Outcome, message: &str, hint: &str) {
    run.clone().refuses(&[message, "\nhint: "]);
    let said = run.err.split_once("\nhint: ").map(|(_, said)| said.lines().next().unwrap_or(""));
    let said = said.unwrap_or_default();
    assert!(said.contains(hint), "no {hint:?} in the hint: {run:#?}");
    let found = LOOKED_FOR.iter().find(|text| said.to_lowercase().contains(**text));
    assert_eq!(found, None, "an engine takes this for its own: {said}");
}

/// A container with one more mount, `mounts[7]`.
fn mounting(destination: &str, kind: &str, source: &str, options: &[&str]) -> Container {
    Container::new(&["true"]).with(|c| add_mount(c, destination, kind, source, options))
}

fn binding(source: &str, destination: &str) -> Outcome {
    mounting(destination, "bind", source, &["bind"]).run()
}

fn mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_source_that_is_not_there() {
    davit_only!("other runtimes say less");
    let text = "open_tree: no such file or directory";
    hints(
        binding("/nonexistent/a/b", "/data"),
        &format!(r#"mounts[7] "/nonexistent/a/b" -> "/data": {text}"#),
        "the source is missing: /nonexistent is not there on the host",
    );
    let c = Container::new(&["true"]);
    let at = |name: &str| c.path(name);
    symlink("/nonexistent", at("dangling")).expect("symlink");
    symlink("circle", at("circle")).expect("symlink");
    fs::write(at("file"), "").expect("write");
    for (source, text, hint) in [
        ("dangling", text, "dangling is a symbolic link to /nonexistent, which is not there"),
        ("circle", "too many symbolic links encountered", "circle leads to itself"),
        ("file/below", "not a directory", "/file is not a directory of the host"),
    ] {
        hints(binding(&at(source), "/data"), text, hint);
    }
    let root = Container::new(&["true"]).with(|c| c["root"]["path"] = "nosuch".into());
    hints(root.run(), "root.path", "/bundle/nosuch is not there on the host");
}

#[test]
fn a_destination_that_cannot_be_made() {
    davit_only!("other runtimes say less");
    hints(
        binding("/etc", "/sys/data"),
        r#"mounts[7] "/etc" -> "/sys/data": mkdirat: read-only file system"#,
        r#"the destination is missing: /sys/data is not there in mounts[5] "sysfs" -> "/sys", which is read-only"#,
    );
    let writable = mounting("/sys/data", "bind", "/etc", &["bind"]).with(|c| {
        drop_mount(c, "/sys/fs/cgroup");
        c["mounts"][5]["options"] = json!([]);
    });
    let hint = r#"/sys/data is not there in mounts[5] "sysfs" -> "/sys", and cannot be created"#;
    hints(writable.run(), "mkdirat", hint);
    hints(binding("/etc", "/bin/busybox/x"), "not a directory", "/bin/busybox is not a directory");
    for (link, errno, hint) in [
        ("circle", "too many symbolic links encountered", "/circle is a symbolic link"),
        (
            "/proc",
            "no such file or directory",
            "the target of the symbolic link /link is not there",
        ),
    ] {
        let name = if link == "circle" { "circle" } else { "link" };
        let c = mounting(&format!("/{name}/x"), "bind", "/etc", &["bind"])
            .with_files(|root| symlink(link, root.join(name)).expect("symlink"));
        hints(c.run(), errno, hint);
    }
}

#[test]
fn a_file_on_a_directory() {
    davit_only!("other runtimes say less");
    let hint = "a file can only be bind mounted on a file, and a directory on a directory";
    for (source, destination) in [("/etc/passwd", "/mnt"), ("/etc", "/bin/busybox")] {
        hints(binding(source, destination), "move_mount: not a directory", hint);
    }
}

#[test]
fn a_root_on_a_read_only_file_system() {
    davit_only!("other runtimes say less");
    let c = Container::new(&["true"]);
    let root = c.path("bundle/rootfs");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let c = c.by(&["unshare", "-m", "sh", "-c", script, &root]);
    let c = c.with(|c| add_mount(c, "/data", "bind", "/etc", &["bind"]));
    let hint = "/data is not there in the root, whose file system is read-only";
    hints(c.run(), "mkdirat: read-only file system", hint);
}

#[test]
fn a_file_system_that_is_not_there() {
    davit_only!("other runtimes say less");
    let c = mounting("/mnt", "nosuchfs", "x", &[]);
    hints(c.run(), "fsopen: no such device", r#"this kernel has no file system type "nosuchfs""#);
    let c = mounting("/mnt", "ext4", "/dev/nosuch", &[]);
    hints(c.run(), "fsconfig", "the source is missing: /dev/nosuch is not there on the host");
    let c = mounting("/mnt", "ext4", "/etc/passwd", &[]);
    hints(c.run(), "block device required", "needs a loop device");
}

#[test]
fn ids_that_a_file_system_cannot_map() {
    davit_only!("Debian's runc and crun are older than this");
    let maps = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    let c = Container::new(&["true"]).with(|c| {
        let mount = json!({
            "destination": "/mnt", "type": "bind", "source": "/proc", "options": ["bind", "idmap"],
            "uidMappings": maps, "gidMappings": maps,
        });
        push(&mut c["mounts"], mount);
    });
    let hint =
        "/proc is on a file system of type proc, which this kernel cannot mount with mapped ids";
    hints(c.run(), "mount_setattr MOUNT_ATTR_IDMAP: invalid argument", hint);
}

#[test]
fn directories_of_an_overlay() {
    davit_only!("other runtimes say less");
    let c = Container::new(&["true"]);
    let at = |name: &str| {
        fs::create_dir_all(c.path(name)).expect("mkdir");
        c.path(name)
    };
    let (lower, upper, nosuch) = (at("lower"), at("upper"), c.path("nosuch"));
    let shm = tempfile::tempdir_in("/dev/shm").expect("mkdir");
    let other = shm.path().to_str().expect("utf-8").to_owned();
    let inside = at("upper/work");
    for (lower, upper, work, hint) in [
        (&nosuch, &upper, &at("work"), "/nosuch is not there on the host"),
        (&lower, &nosuch, &at("work"), "/nosuch is not there on the host"),
        (&lower, &upper, &other, "upperdir and workdir are on two file systems ("),
        (&lower, &upper, &inside, "must be two directories, neither below the other"),
    ] {
        let options =
            [format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}")];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        hints(mounting("/mnt", "overlay", "overlay", &options).run(), "mounts[7]", hint);
    }
    let proc = ["lowerdir=/etc", "upperdir=/proc/sys", "workdir=/proc/fs"];
    let c = mounting("/mnt", "overlay", "overlay", &proc);
    hints(c.run(), "invalid argument", "upperdir is on a file system of type proc");
}

#[test]
fn a_root_that_the_namespace_may_not_enter() {
    davit_only!("other runtimes name mounts[0]");
    let mapped = || Container::new(&["true"]).with(|c| set_userns(c, 100_000, 65536));
    let c = mapped().with_files(|root| mode(root, 0o700));
    let who = "uid 0 of the container's user namespace is uid 100000 here";
    hints(
        c.run(),
        r#"/bundle/rootfs": mounts[0] "proc" -> "/proc": openat2: permission denied"#,
        &format!("/bundle/rootfs is mode 0700 of 0:0; {who}"),
    );
    // What is missing in it cannot be made.
    let c = mapped().with_files(|root| fs::remove_dir(root.join("proc")).expect("rmdir"));
    hints(c.run(), "root.path", &format!("/rootfs is mode 0755 of 0:0; {who}"));
    // A hook wants the root where root.path says, which the namespace must reach then.
    let c = mapped().with(|c| {
        c["hooks"] = json!({ "createContainer": [{ "path": "/bin/true" }] });
    });
    mode(c.bundle(), 0o700);
    hints(c.run(), "root.path", &format!("/bundle is mode 0700 of 0:0; {who}"));
}

#[test]
fn a_terminal_without_devpts() {
    davit_only!("other runtimes say less");
    let c = Container::new(&["true"]).with(|c| {
        c["process"]["terminal"] = true.into();
        drop_mount(c, "/dev/pts");
    });
    let socket = c.path("console");
    let _listener = UnixListener::bind(&socket).expect("bind");
    let create = c.create_call(&["--console-socket", &socket]).done();
    let hint =
        "a terminal needs a mount of type devpts on /dev/pts, which the container does not have";
    hints(create, "process.terminal: /dev/pts/ptmx: openat2: no such file or directory", hint);
}

#[test]
fn programs_that_cannot_be_executed() {
    davit_only!("other runtimes say the errno alone");
    let with = |path: &str, text: &'static str, bits: u32| {
        let file = path.to_owned();
        Container::new(&[path]).with_files(move |root| {
            let file = root.join(file.trim_start_matches('/'));
            fs::write(&file, text).expect("write");
            mode(file, bits);
        })
    };
    let bob = |c: Container| c.with(|c| c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let denied = r#"exec: "/bin/x": permission denied"#;
    hints(with("/bin/x", "", 0o644).run(), denied, "the file has no execute permission: chmod +x");
    hints(
        bob(with("/bin/x", "", 0o700)).run(),
        denied,
        r#""/bin/x" is mode 0700 of 0:0 in the container"#,
    );
    let closed = bob(with("/bin/x", "", 0o755)).with_files(|root| mode(root.join("bin"), 0o700));
    hints(closed.run(), denied, r#"no search permission on a directory above "/bin/x""#);
    let data = with("/bin/x", "data", 0o755);
    hints(data.run(), "exec format error", "no program for this architecture");
    let c = Container::new(&["true"]).with(|c| {
        for _ in 0..16 {
            push(&mut c["process"]["args"], "x".repeat(1 << 15).into());
        }
        let limit = json!({ "type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20 });
        push(&mut c["process"]["rlimits"], limit);
    });
    hints(c.run(), "argument list too long", "at most a quarter of RLIMIT_STACK");
}

#[test]
fn programs_on_a_mount_with_noexec() {
    davit_only!("other runtimes say the errno alone");
    let c = Container::new(&["/mnt/busybox", "true"]);
    let bin = c.path("bundle/rootfs/bin");
    let c = c.with(|c| add_mount(c, "/mnt", "bind", &bin, &["bind", "noexec"]));
    let hint = r#""/mnt/busybox" is executable for all users: it is on a mount with noexec"#;
    hints(c.run(), r#"exec: "/mnt/busybox": permission denied"#, hint);
    // Told to `start`, and of a further process too.
    c.create();
    hints(c.call(&["start", &c.id]).done(), "permission denied", hint);
    let c = Container::sleeper().with(|c| add_mount(c, "/mnt", "bind", &bin, &["bind", "noexec"]));
    c.create().start();
    hints(c.exec(&["/mnt/busybox"]), "permission denied", hint);
}

#[test]
fn working_directories() {
    davit_only!("other runtimes say less");
    let at = |path: &str| Container::new(&["true"]).with(|c| c["process"]["cwd"] = path.into());
    for path in ["/bin/busybox", "/bin/busybox/x"] {
        hints(at(path).run(), "process.cwd", "a part of it, is a file in the container");
    }
    let closed = at("/secret").with(|c| set_userns(c, 100_000, 65536)).with_files(|root| {
        for name in ["", "dev", "proc", "sys", "tmp"] {
            chown(root.join(name), Some(100_000), Some(100_000)).expect("chown");
        }
        fs::create_dir(root.join("secret")).expect("mkdir");
        mode(root.join("secret"), 0o700);
    });
    hints(
        closed.run(),
        "process.cwd \"/secret\"",
        "neither root of the container nor process.user",
    );
    let c = Container::sleeper();
    c.create().start();
    hints(c.exec_with(&["--cwd", "/nosuch"], &["true"]), "process.cwd", "exec makes no directory");
    let c = at("/sys/nosuch");
    hints(c.run(), "process.cwd", "cannot be made on a read-only file system");
    let c = at("/new").with(|c| set_userns(c, 100_000, 65536));
    hints(c.run(), "process.cwd", "root of the container may not make it");
}

#[test]
fn hooks_that_cannot_be_executed() {
    davit_only!("other runtimes say the errno alone");
    let hook = |kind: &str, path: &str| {
        let hooks = json!({ kind: [{ "path": path }] });
        Container::new(&["true"]).with(|c| c["hooks"] = hooks)
    };
    let missing = "execve: no such file or directory";
    for (kind, hint) in [
        ("prestart", "the path is looked up on the host"),
        ("createRuntime", "the path is looked up on the host"),
        ("createContainer", "the path is looked up in the host's root"),
        ("startContainer", "the path is looked up in its root"),
        ("poststart", "the path is looked up on the host"),
    ] {
        let run = hook(kind, "/nosuch/hook").run();
        hints(run, &format!(r#"hooks.{kind}[0] "/nosuch/hook": {missing}"#), hint);
    }
    // A program of the host, and not of the container.
    let host = hook("startContainer", "/usr/bin/env");
    hints(host.run(), missing, "it is on the host, and not in the container's root");
    for (kind, text, bits, message, hint) in [
        ("createRuntime", "", 0o644, "permission denied", "no execute permission on the host"),
        ("createContainer", "", 0o644, "permission denied", "no execute permission on the host"),
        ("createRuntime", "#!/nosuch\n", 0o755, missing, "the interpreter that it names is not"),
    ] {
        let c = Container::new(&["true"]);
        let path = c.path("hook");
        fs::write(&path, text).expect("write");
        mode(&path, bits);
        hints(c.with(|c| c["hooks"] = json!({ kind: [{ "path": path }] })).run(), message, hint);
    }
    let inside = hook("startContainer", "/etc/passwd");
    hints(inside.run(), "permission denied", "no execute permission in the container");
}

#[test]
fn namespaces_by_path() {
    davit_only!("other runtimes say less");
    let joining =
        |path: &str| Container::new(&["true"]).with(|c| set_namespace(c, "network", Some(path)));
    hints(
        joining("/nosuch/net").run(),
        "no such file or directory",
        "/nosuch is missing on the host",
    );
    hints(
        joining("/proc/self/ns/uts").run(),
        "is not a network namespace",
        "it is a uts namespace",
    );
    hints(joining("/etc/passwd").run(), "is not a namespace", "a namespace is /proc/PID/ns/KIND");
    hints(joining("/proc/self/ns/nosuch").run(), "no such file", "/proc/self/ns/nosuch is missing");
    let stopped = Container::sleeper();
    stopped.create().start();
    let pid = stopped.pid();
    stopped.kill("KILL").ok();
    stopped.until_status("stopped");
    let path = format!("/proc/{pid}/ns/net");
    hints(joining(&path).run(), "no such file or directory", &format!("process {pid} has ended"));
}

#[test]
fn kernel_parameters() {
    davit_only!("other runtimes say less");
    let setting = |name: &str, value: &str| {
        Container::new(&["true"]).with(|c| c["linux"]["sysctl"] = json!({ name: value }))
    };
    let run = setting("net.nosuch", "1").run();
    hints(run, r#"linux.sysctl["net.nosuch"]"#, "this kernel has no /proc/sys/net/nosuch");
    let run = setting("net.ipv4.ip_forward", "x").run();
    hints(run, "invalid argument", "the kernel does not accept this value");
}

#[test]
fn more_open_files_than_the_kernel_has() {
    davit_only!("other runtimes say: operation not permitted");
    let most = fs::read_to_string("/proc/sys/fs/nr_open").expect("read");
    let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40 }]);
    let c = Container::new(&["true"]).with(|c| c["process"]["rlimits"] = limit);
    let hint = format!("the kernel accepts at most {} (/proc/sys/fs/nr_open)", most.trim());
    hints(c.run(), "process.rlimits[0] RLIMIT_NOFILE", &hint);
}

/// The container is killed while a further process is on its way into it.
#[test]
fn exec_while_the_container_ends() {
    davit_only!("its own messages");
    skip_if!(fixture::missing(&["strace"]));
    let c = Container::sleeper();
    c.create().start();
    let log = c.path("trace");
    let late = ["strace", "-f", "-qq", "-o", &log, "-e", "trace=setns,setsid", "-e"];
    let late = [late.as_slice(), &["inject=setsid:delay_enter=2000000"]].concat();
    let exec = c.call_through(&late, &["exec", &c.id, "true"]).spawn();
    let joined = call::within(call::DEADLINE, || {
        fs::read_to_string(&log).ok().filter(|log| log.contains("setns(")).map(drop)
    });
    assert!(joined.is_some(), "no setns(2)");
    std::thread::sleep(std::time::Duration::from_millis(300));
    c.kill("KILL").ok();
    let mut exec = exec.wait();
    let ours = |line: &&str| !line.starts_with("strace: ");
    exec.err = exec.err.split_inclusive('\n').filter(ours).collect();
    assert!(!exec.err.contains("before the container was made"), "{exec:#?}");
    hints(
        exec,
        "davit's init was killed by SIGKILL before the program was executed",
        "the container has ended meanwhile",
    );
}
