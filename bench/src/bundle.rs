//! The bundles that are run: the default one, podman's, and ones with much of something.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::scene::Scene;

/// A config.json that podman wrote, for a container without any option.
const PODMAN: &str = include_str!("../../crates/runtime/testdata/podman.json");

/// What `davit spec` and `crun spec` write, without the terminal. No device rules: some runtimes'
/// device filters do not fit a small RLIMIT_MEMLOCK on every kernel; the rules that are always
/// there remain.
pub(crate) fn default() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "TERM=xterm", "HOME=/"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "davit",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    })
}

/// The same, for a container that stays.
pub(crate) fn paused() -> Value {
    with(default(), "/process/args", json!(["/bin/pause"]))
}

/// The same with a root that can be written to: at the restore CRIU makes a directory in it.
pub(crate) fn moved() -> Value {
    with(paused(), "/root/readonly", json!(false))
}

/// podman's, with sources that exist here.
pub(crate) fn podman(scene: &Scene) -> Result<Value> {
    let mut spec: Value = serde_json::from_str(PODMAN)?;
    let (file, directory) = (scene.directory.join("source"), scene.directory.join("sources"));
    fs::write(&file, "")?;
    fs::create_dir_all(&directory)?;
    let mounts = spec.get_mut("mounts").and_then(Value::as_array_mut).context("mounts")?;
    for mount in mounts.iter_mut().filter(|mount| mount.get("type") == Some(&json!("bind"))) {
        let mount = mount.as_object_mut().context("mounts")?;
        let to_directory = ["/data", "/dev/shm"]
            .iter()
            .any(|place| mount.get("destination") == Some(&json!(place)));
        let source = if to_directory { &directory } else { &file };
        mount.insert("source".to_owned(), json!(source));
    }
    let linux = spec.get_mut("linux").and_then(Value::as_object_mut).context("linux")?;
    linux.remove("resources");
    if let Some(process) = spec.get_mut("process").and_then(Value::as_object_mut) {
        for label in ["apparmorProfile", "selinuxLabel"] {
            process.remove(label);
        }
    }
    let spec = with(spec, "/root", json!({ "path": "rootfs" }));
    Ok(with(spec, "/process/args", json!(["/bin/true"])))
}

/// `count` binds of one file, each to a place of its own.
pub(crate) fn mounts(scene: &Scene, count: usize) -> Result<Value> {
    let source = scene.directory.join("source");
    fs::write(&source, "")?;
    let mut spec = default();
    let list = spec.get_mut("mounts").and_then(Value::as_array_mut).context("mounts")?;
    list.extend((0..count).map(|n| {
        json!({ "destination": format!("/dev/m{n}"), "type": "bind", "source": source, "options": ["bind", "ro"] })
    }));
    Ok(spec)
}

/// A megabyte of environment.
pub(crate) fn environment() -> Value {
    let entries: Vec<_> =
        (0..1024).map(|n| format!("VARIABLE_{n:04}={}", "x".repeat(1010))).collect();
    with(default(), "/process/env", json!(entries))
}

/// 200 more device nodes.
pub(crate) fn devices() -> Value {
    let devices: Vec<_> = (0..200)
        .map(|n| json!({ "path": format!("/dev/d{n}"), "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }))
        .collect();
    with(default(), "/linux/devices", json!(devices))
}

/// 200 rules of the device filter.
pub(crate) fn device_rules() -> Value {
    let deny = json!({ "allow": false, "access": "rwm" });
    let rules = (0..200).map(
        |n| json!({ "allow": true, "type": "c", "major": 300 + n, "minor": 1, "access": "rw" }),
    );
    let rules: Vec<_> = std::iter::once(deny).chain(rules).collect();
    with(default(), "/linux/resources", json!({ "devices": rules }))
}

/// 1000 rules of the system call filter.
pub(crate) fn filter_rules() -> Value {
    let rules: Vec<_> = (0..1000)
        .map(|n| {
            json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [
                { "index": 0, "value": 1_000_000 + n, "op": "SCMP_CMP_EQ" }
            ] })
        })
        .collect();
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules });
    with(default(), "/linux/seccomp", filter)
}

/// The value with another one at a place whose parent exists.
fn with(mut spec: Value, place: &str, value: Value) -> Value {
    if let Some((parent, key)) = place.rsplit_once('/')
        && let Some(parent) = spec.pointer_mut(parent).and_then(Value::as_object_mut)
    {
        parent.insert(key.to_owned(), value);
    }
    spec
}

/// Writes a bundle, where there is none of this name yet; the floor's path in the tree of cgroups
/// is that of a container.
pub(crate) fn write(
    scene: &Scene,
    name: &str,
    spec: impl FnOnce() -> Result<Value>,
) -> Result<PathBuf> {
    let bundle = scene.directory.join(name);
    if bundle.exists() {
        return Ok(bundle);
    }
    let root = bundle.join("rootfs");
    for directory in ["bin", "proc", "dev", "sys", "etc", "run"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for program in ["true", "pause"] {
        fs::copy(scene.cache.join("program"), root.join("bin").join(program))?;
    }
    let spec = with(spec()?, "/linux/cgroupsPath", json!(format!("/containers/{name}")));
    write_json(&bundle.join("config.json"), &spec)?;
    Ok(bundle)
}

/// Gives a bundle a cgroup with a limit of memory.
pub(crate) fn limit(bundle: &Path, cgroup: &str, memory: Value) -> Result<()> {
    let spec = with(default(), "/linux/cgroupsPath", json!(cgroup));
    let spec = with(spec, "/linux/resources", json!({ "memory": memory }));
    write_json(&bundle.join("config.json"), &spec)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_vec(value)?).with_context(|| path.display().to_string())
}
