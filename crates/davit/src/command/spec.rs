//! `davit spec`

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lexopt::Parser;
use serde_json::{Value, json};

use crate::args::{self, Word};
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "spec",
    summary: "write a config.json to begin with",
    usage: &["[OPTIONS]"],
    about: "Writes a config.json to begin with; an existing one is left alone.",
    options: &[&[
        ("-b, --bundle DIR", "where to (default: the working directory)"),
        ("-f, --config FILE", "under another name"),
        ("--rootless", "for an ordinary user: with a user namespace, without limits"),
    ]],
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let (mut bundle, mut name) = (PathBuf::from("."), PathBuf::from("config.json"));
    let mut rootless = false;
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => match option.as_str() {
                "--bundle" | "-b" => bundle = args::path(parser, &option)?,
                "--config" | "-f" => name = args::path(parser, &option)?,
                "--rootless" => rootless = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let path = bundle.join(name);
    let spec = if rootless { for_ordinary_user() } else { standard() };
    let text = format!("{}\n", serde_json::to_string_pretty(&spec)?);
    let mut file =
        File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
    Ok(Outcome::Done)
}

/// A shell in namespaces of its own, with the mounts that programs expect and few rights.
fn standard() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: Value| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let private = json!(["nosuid", "noexec", "nodev"]);
    json!({
        "ociVersion": runtime::state::OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "davit",
        "mounts": [
            mount("/proc", "proc", "proc", json!(null)),
            mount("/dev", "tmpfs", "tmpfs",
                json!(["nosuid", "strictatime", "mode=755", "size=65536k"])),
            mount("/dev/pts", "devpts", "devpts",
                json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])),
            mount("/dev/shm", "tmpfs", "shm",
                json!(["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])),
            mount("/dev/mqueue", "mqueue", "mqueue", private),
            mount("/sys", "sysfs", "sysfs", json!(["nosuid", "noexec", "nodev", "ro"])),
            mount("/sys/fs/cgroup", "cgroup", "cgroup",
                json!(["nosuid", "noexec", "nodev", "relatime", "ro"]))
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
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

/// The same where nothing can be had that only root may: the caller is root inside.
fn for_ordinary_user() -> Value {
    let mut spec = standard();
    let me = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    let uids = me(nix::unistd::geteuid().as_raw());
    let gids = me(nix::unistd::getegid().as_raw());
    if let Some(mounts) = spec.pointer_mut("/mounts").and_then(Value::as_array_mut) {
        mounts.retain(|mount| mount.get("destination") != Some(&json!("/sys/fs/cgroup")));
        for mount in mounts {
            // Group 5 is not mapped, and a new sysfs takes a network namespace of one's own.
            if let Some(options) = mount.pointer_mut("/options").and_then(Value::as_array_mut) {
                options.retain(|option| option != "gid=5");
            }
        }
    }
    if let Some(linux) = spec.pointer_mut("/linux").and_then(Value::as_object_mut) {
        linux.remove("resources");
        linux.insert("uidMappings".to_owned(), uids);
        linux.insert("gidMappings".to_owned(), gids);
        if let Some(namespaces) = linux.get_mut("namespaces").and_then(Value::as_array_mut) {
            namespaces.push(json!({ "type": "user" }));
        }
    }
    spec
}
