//! `davit spec`

use std::path::PathBuf;

use anyhow::Result;
use lexopt::Parser;
use nix::errno::Errno;
use serde::Serialize;

use crate::args;
use crate::cli::CommandSpec;
use crate::cli::option::{Setter, Table};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "spec",
    summary: "write a default config.json",
    usage: &["[OPTIONS]"],
    about: "Writes a default config.json for a shell. An existing file is not replaced.",
    arguments: &[],
    options: &OPTIONS,
};

struct Arguments {
    bundle: PathBuf,
    name: PathBuf,
    rootless: bool,
}

static OPTIONS: Table<Arguments> = &[&[
    (
        "-b, --bundle",
        Setter::Directory(|spec, path| spec.bundle = path),
        "directory for the file (default: the current directory)",
    ),
    (
        "-f, --config",
        Setter::File(|spec, path| spec.name = path),
        "name of the file (default: config.json)",
    ),
    (
        "--rootless",
        Setter::Switch(|spec, on| spec.rootless = on),
        "for an unprivileged user: adds a user namespace, leaves out resource limits",
    ),
]];

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let mut arguments =
        Arguments { bundle: ".".into(), name: "config.json".into(), rootless: false };
    args::only_options(parser, OPTIONS, &mut arguments)?;
    let path = arguments.bundle.join(arguments.name);
    let config = if arguments.rootless { for_unprivileged_user() } else { Config::standard() };
    let text = format!("{}\n", serde_json::to_string_pretty(&config)?);
    davit_runtime::outside_file::create(&path, text.as_bytes()).map_err(|error| {
        match error.errno {
            Errno::EEXIST => {
                davit_runtime::Error::new(format!("{} exists already", path.display()))
                    .hint("remove it, or name another by --config")
            }
            _ => davit_runtime::Error::from(error).within(path.display()),
        }
    })?;
    Ok(Outcome::Done)
}

/// config.json, with its fields in the order of the specification and of other runtimes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    oci_version: &'static str,
    process: Process,
    root: Root,
    hostname: &'static str,
    mounts: Vec<Mount>,
    linux: Linux,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    terminal: bool,
    user: User,
    args: &'static [&'static str],
    env: &'static [&'static str],
    cwd: &'static str,
    capabilities: Capabilities,
    rlimits: [Rlimit; 1],
    no_new_privileges: bool,
}

#[derive(Serialize)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Serialize)]
struct Capabilities {
    bounding: &'static [&'static str],
    effective: &'static [&'static str],
    permitted: &'static [&'static str],
}

#[derive(Serialize)]
struct Rlimit {
    r#type: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Serialize)]
struct Root {
    path: &'static str,
    readonly: bool,
}

#[derive(Serialize)]
struct Mount {
    destination: &'static str,
    r#type: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    namespaces: Vec<Namespace>,
    masked_paths: &'static [&'static str],
    readonly_paths: &'static [&'static str],
}

#[derive(Serialize)]
struct IdMapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

#[derive(Serialize)]
struct Resources {
    devices: [DeviceRule; 1],
}

#[derive(Serialize)]
struct DeviceRule {
    allow: bool,
    access: &'static str,
}

#[derive(Serialize)]
struct Namespace {
    r#type: &'static str,
}

const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const NAMESPACES: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];

impl Config {
    /// A shell in new namespaces, with the mounts that programs expect and few capabilities.
    fn standard() -> Self {
        Self {
            oci_version: davit_runtime::state::OCI_VERSION,
            process: Process {
                terminal: true,
                user: User { uid: 0, gid: 0 },
                args: &["sh"],
                env: &[
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=xterm",
                ],
                cwd: "/",
                capabilities: Capabilities {
                    bounding: CAPABILITIES,
                    effective: CAPABILITIES,
                    permitted: CAPABILITIES,
                },
                rlimits: [Rlimit { r#type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
                no_new_privileges: true,
            },
            root: Root { path: "rootfs", readonly: true },
            hostname: "davit",
            mounts: mounts(),
            linux: Linux {
                uid_mappings: None,
                gid_mappings: None,
                resources: Some(Resources {
                    devices: [DeviceRule { allow: false, access: "rwm" }],
                }),
                namespaces: NAMESPACES.map(|kind| Namespace { r#type: kind }).into(),
                masked_paths: &[
                    "/proc/acpi",
                    "/proc/asound",
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/latency_stats",
                    "/proc/timer_list",
                    "/proc/timer_stats",
                    "/proc/sched_debug",
                    "/sys/firmware",
                    "/proc/scsi",
                ],
                readonly_paths: &[
                    "/proc/bus",
                    "/proc/fs",
                    "/proc/irq",
                    "/proc/sys",
                    "/proc/sysrq-trigger",
                ],
            },
        }
    }
}

fn mounts() -> Vec<Mount> {
    let mount = |destination, r#type, source, options: &[&'static str]| Mount {
        destination,
        r#type,
        source,
        options: options.to_vec(),
    };
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ]
}

/// The configuration for an unprivileged user, who is root in a user namespace.
fn for_unprivileged_user() -> Config {
    let mut config = Config::standard();
    config.mounts.retain(|mount| mount.destination != "/sys/fs/cgroup");
    for mount in &mut config.mounts {
        // Group 5 is not mapped.
        mount.options.retain(|option| *option != "gid=5");
    }
    let root = |id| Some([IdMapping { container_id: 0, host_id: id, size: 1 }]);
    config.linux.uid_mappings = root(nix::unistd::geteuid().as_raw());
    config.linux.gid_mappings = root(nix::unistd::getegid().as_raw());
    config.linux.resources = None;
    config.linux.namespaces.push(Namespace { r#type: "user" });
    config
}
