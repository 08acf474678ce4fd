//! What tools and engines write as config.json, made by them on the spot: each runs, and nothing in
//! it is unknown.

use std::path::Path;
use std::process::Command;

use integration::podman::installed;
use integration::*;

const FINE: &[&str] = &["sh", "-c", "echo fine"];

/// What a command writes, as config.json of its working directory or on standard output.
fn written(dir: &Path, words: &[&str]) -> Value {
    let done =
        Command::new(words[0]).args(&words[1..]).current_dir(dir).output().expect("a program");
    assert!(done.status.success(), "{words:?}: {done:?}");
    let file = dir.join("config.json");
    let text = std::fs::read(&file).unwrap_or(done.stdout);
    let _ = std::fs::remove_file(&file);
    serde_json::from_slice(&text).expect("JSON")
}

/// A container with this config.json, but for: no terminal, its own cgroup, and what is executed.
fn container(config: Value) -> Container {
    let c = Container::new(FINE);
    let cgroup = c.config["linux"]["cgroupsPath"].clone();
    c.with(|c| {
        *c = config;
        c["process"]["terminal"] = false.into();
        c["process"]["args"] = json!(FINE);
        c["linux"]["cgroupsPath"] = cgroup;
    })
}

#[test]
fn of_commands() {
    spec!();
    let runtime = runtime::runtime().path.to_str().expect("utf-8");
    let dir = tempfile::tempdir().expect("mkdir");
    let rows: &[&[&str]] = &[
        &["runc", "spec"],
        &["runc", "spec", "--rootless"],
        &["crun", "spec"],
        &["crun", "spec", "--rootless"],
        &["ctr", "oci", "spec"],
        &[runtime, "spec"],
        &[runtime, "spec", "--rootless"],
    ];
    for row in rows {
        if !row[0].contains('/') && installed(row[0]).is_none() {
            skip::say(&test_name!(), &format!("{} is not installed", row[0]));
            continue;
        }
        let run = container(written(dir.path(), row)).run();
        // A user namespace without mappings: that is said.
        let unmapped = *row == ["crun", "spec", "--rootless"];
        let run = if unmapped { run.warns(&["linux.uidMappings: are missing"]) } else { run.ok() };
        assert_eq!(run.out, "fine\n", "{row:?}");
    }
}

/// Not installed where tests run: in our own words, after what umoci(1) unpacks.
#[test]
fn of_umoci() {
    spec!();
    let c = Container::new(FINE).with(|c| {
        c["ociVersion"] = "1.0.0".into();
        c["process"]["cwd"] = "/srv/made".into();
        c["process"]["rlimits"] = Value::Null;
        c["annotations"] = json!({
            "org.opencontainers.image.architecture": "amd64", "org.opencontainers.image.author": "",
            "org.opencontainers.image.created": "2024-01-01T00:00:00Z", "org.opencontainers.image.exposedPorts": "",
            "org.opencontainers.image.os": "linux", "org.opencontainers.image.stopSignal": "",
        });
        config::set_userns(c, 100_000, 65536);
    });
    std::fs::create_dir_all(c.rootfs().join("srv/made")).expect("mkdir");
    assert_eq!(c.run().ok().out, "fine\n");
}

/// What a device of CDI adds: nodes, their rules, mounts, hooks, variables, groups.
#[test]
fn of_cdi() {
    spec!();
    let c =
        Container::sh("test -c /dev/vendor/gpu0 && cat /etc/driver.conf && echo $VENDOR && id -G");
    let driver = c.path("driver.conf");
    std::fs::write(&driver, "driver\n").expect("write");
    let c = c.with(|c| {
        c["linux"]["devices"] = json!([{ "path": "/dev/vendor/gpu0", "type": "c", "major": 1, "minor": 3, "fileMode": 0o660, "uid": 0, "gid": 0 }]);
        let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" });
        config::push(&mut c["linux"]["resources"]["devices"], rule);
        let options = ["ro", "nosuid", "nodev", "rbind", "rprivate"];
        let mount = json!({ "destination": "/etc/driver.conf", "source": driver, "options": options });
        config::push(&mut c["mounts"], mount);
        config::push(&mut c["process"]["env"], "VENDOR=gpu0".into());
        c["process"]["user"]["additionalGids"] = json!([44]);
        c["hooks"] = json!({ "createContainer": [{ "path": "/bin/true", "args": ["true", "cdi"], "env": ["A=b"] }] });
    });
    assert_eq!(c.run().ok().out, "driver\ngpu0\n0 44\n");
}

/// Each of these was created by the runtime under test; nothing in it is unknown or without effect.
#[track_caller]
fn check(options: &[&str], dir: &Path) {
    let captured = capture::take(dir);
    assert!(!captured.is_empty(), "{options:?}: nothing was captured");
    for one in captured {
        let (_, warnings) = one.explained.split_once("\nwarnings\n").unwrap_or_default();
        // --privileged asks for all capabilities; a runtime in a container has not all of them to
        // give.
        let bad = |line: &&str| !line.contains("process.capabilities") || line.contains("unknown");
        let bad: Vec<&str> = warnings.lines().filter(bad).collect();
        assert!(bad.is_empty(), "{options:?}: {bad:#?}");
        assert!(!one.explained.contains("explain failed"), "{options:?}: {}", one.explained);
    }
}

#[test]
fn of_podman() {
    davit_only!("what is captured is explained");
    let p = podman!();
    let capture = capture::script(p.dir());
    let (runtime, parent) = (capture.to_str().expect("utf-8"), p.cgroup_parent());
    for options in [
        &[][..],
        &["--privileged"],
        &["--read-only"],
        &["-w", "/home/bob"],
        &["--init"],
        &["--tty"],
        &["--user", "bob", "--cap-drop", "all", "--security-opt", "no-new-privileges"],
        &["--device", "/dev/fuse", "--device", "/dev/zero:/dev/modem", "--tmpfs", "/t"],
        &[
            "--uidmap",
            "0:100000:1000",
            "--gidmap",
            "0:100000:1000",
            "--device",
            "/dev/zero:/dev/modem",
        ],
        &[
            "--memory",
            "64m",
            "--cpus",
            "1",
            "--ulimit",
            "nofile=100:200",
            "--ulimit",
            "nproc=100:200",
            "--sysctl",
            "net.ipv4.ip_forward=0",
        ],
        &["--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"],
        &[
            "--mount",
            "type=bind,src=/usr,dst=/mnt,ro,bind-propagation=rslave",
            "--volume",
            "named:/v",
        ],
        &["--mount", "type=bind,src=/usr,dst=/mnt,idmap=uids=0-3000-10;gids=0-3000-10"],
    ] {
        let run = ["--runtime", runtime, "run", "--rm", "--cgroup-parent", &parent];
        let done = p.call(&[&run, options, &[podman::IMAGE], FINE].concat()).done();
        assert_eq!(done.out.trim(), "fine", "{options:?}: {done:#?}");
        check(options, p.dir());
    }
}

#[test]
fn of_buildah() {
    davit_only!("what is captured is explained");
    let b = buildah!();
    let capture = capture::script(b.dir());
    let runtime = capture.to_str().expect("utf-8");
    for options in [
        &[][..],
        &["--workingdir", "/new/dir"],
        &["--cap-add", "CAP_SYS_ADMIN"],
        &["--volume", "/usr:/mnt:ro"],
    ] {
        let run = ["run", "--runtime", runtime, "--isolation", "oci", "--network", "none"];
        let done = b.buildah(&[&run, options, &[&*b.container, "--"], FINE].concat());
        assert_eq!(done.out, "fine\n", "{options:?}: {done:#?}");
        check(options, b.dir());
    }
}

#[test]
fn of_containerd() {
    davit_only!("what is captured is explained");
    let c = containerd!();
    let capture = capture::script(c.place.dir());
    let (runtime, root) = (capture.to_str().expect("utf-8"), c.place.path("runtime"));
    let cgroup = format!("{}/once", c.place.cgroup());
    for options in [
        &[][..],
        &["--privileged"],
        &["--read-only"],
        &["--cwd", "/tmp"],
        &["--seccomp", "--memory-limit", "67108864"],
        &["--mount", "type=bind,src=/usr,dst=/mnt,options=rbind:ro"],
    ] {
        let run =
            ["run", "--rm", "--runc-binary", runtime, "--runc-root", &root, "--cgroup", &cgroup];
        let done = c.ctr(&[&run, options, &[image::NAME, "once"], FINE].concat());
        assert_eq!(done.out, "fine\n", "{options:?}: {done:#?}");
        check(options, c.place.dir());
    }
}

#[test]
fn of_docker() {
    davit_only!("what is captured is explained");
    let d = docker!();
    for options in [
        &[][..],
        &["--privileged"],
        &["--read-only"],
        &["-w", "/new/dir"],
        &["--init"],
        &["--tty"],
        &["--user", "1000", "--cap-drop", "all", "--security-opt", "no-new-privileges"],
        &["--device", "/dev/fuse", "--device", "/dev/zero:/dev/modem", "--tmpfs", "/t"],
        &["--memory", "64m", "--cpus", "1", "--ulimit", "nofile=100:200", "--pids-limit", "50"],
        &["--pid", "host", "--ipc", "host", "--uts", "host"],
        &["--volume", "named:/v", "--mount", "type=bind,src=/usr,dst=/mnt,ro"],
    ] {
        let run = ["run", "--rm", "--runtime", "captured", "--network", "none"];
        let done = d.docker(&[&run, options, &[docker::IMAGE], FINE].concat());
        assert_eq!(done.out.trim(), "fine", "{options:?}: {done:#?}");
        check(options, d.dir());
    }
}
