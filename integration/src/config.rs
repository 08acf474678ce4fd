//! The config.json that tests start from, and short ways to change it.

use serde_json::{Value, json};

/// What `runc spec` writes, but for: no terminal, a writable root, the command, and a cgroup of the
/// test's own.
pub fn default(command: &[&str], cgroup: &str) -> Value {
    let few = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": command,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": few, "effective": few, "permitted": few },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "davit",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn mounts() -> Value {
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &shm),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"]
        ),
    ])
}

/// One entry of `mounts`.
pub fn mount(destination: &str, kind: &str, source: impl Into<String>, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source.into(), "options": options })
}

/// Appends to an array of the config, making it if needed.
pub fn push(array: &mut Value, item: Value) {
    if array.is_null() {
        *array = json!([]);
    }
    array.as_array_mut().expect("an array").push(item);
}

/// Appends a mount.
pub fn add_mount(
    config: &mut Value,
    destination: &str,
    kind: &str,
    source: &str,
    options: &[&str],
) {
    push(&mut config["mounts"], mount(destination, kind, source, options));
}

/// Appends a namespace, or gives the one of this type its path.
pub fn set_namespace(config: &mut Value, kind: &str, path: Option<&str>) {
    drop_namespace(config, kind);
    let entry = match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    };
    push(&mut config["linux"]["namespaces"], entry);
}

/// Removes a namespace: the container shares the host's.
pub fn drop_namespace(config: &mut Value, kind: &str) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|entry| entry["type"] != kind);
}

/// Removes the mount at this destination.
pub fn drop_mount(config: &mut Value, destination: &str) {
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|entry| entry["destination"] != destination);
}

/// A user namespace in which the ids from 0 are the host's from `host` on.
pub fn set_userns(config: &mut Value, host: u32, size: u32) {
    set_namespace(config, "user", None);
    let map = json!([{ "containerID": 0, "hostID": host, "size": size }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// Gives all five capability sets the same content.
pub fn set_capabilities(config: &mut Value, names: &[&str]) {
    let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    config["process"]["capabilities"] =
        sets.iter().map(|set| ((*set).to_owned(), json!(names))).collect();
}

/// What an unprivileged user may run: a user namespace with the ids of that user alone, and nothing
/// that needs a cgroup.
pub fn make_rootless(config: &mut Value, uid: u32, gid: u32) {
    set_userns(config, uid, 1);
    config["linux"]["gidMappings"][0]["hostID"] = gid.into();
    let linux = config["linux"].as_object_mut().expect("linux");
    linux.remove("cgroupsPath");
    linux.remove("resources");
    drop_mount(config, "/sys/fs/cgroup");
    for mount in config["mounts"].as_array_mut().expect("mounts") {
        if let Some(options) = mount["options"].as_array_mut() {
            // Group 5 is not mapped.
            options.retain(|option| option != "gid=5");
        }
    }
}

/// A hook that runs a shell script. Hooks of the container run inside its root or its mount
/// namespace: a shell at the same path serves all.
pub fn shell_hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}
