//! Plans of configurations, without reading anything from the host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod devtmpfs;
mod errors;
mod labels;
mod options;
mod snapshots;
mod user_namespaces;

use davit_rootfs::{Cgroups, Console, Error, Host, Op, phases, plan};
use serde_json::{Value, json};

fn host() -> Host {
    Host {
        bundle: "/bundle".into(),
        user_namespace: false,
        privileged_parent: true,
        makes_nodes: true,
        joined_user_namespace: None,
        cgroups: Some(Cgroups::Unified { mountpoint: "/sys/fs/cgroup".into() }),
        console: None,
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: false,
        mount_context: davit_rootfs::ContextType::Context,
        shares_dev: false,
        first_slot: 8,
    }
}

fn with_console(mut host: Host) -> Host {
    host.console = Some(Console { master: 1, terminal: 2 });
    host
}

fn try_plan(config: &Value, host: &Host) -> Result<Vec<Op>, Error> {
    plan(&serde_json::from_value(config.clone()).unwrap(), host)
}

/// The plan as a listing in three parts.
fn listing(config: &Value, host: &Host) -> String {
    let ops = try_plan(config, host).unwrap();
    let mut text = String::new();
    for (name, phase) in ["outside", "build", "enter"].iter().zip(phases(&ops)) {
        text += &format!("{name}:\n");
        for op in phase {
            text += &format!("  {op}\n");
        }
    }
    // What crosses to init is all but the origins.
    let crossed: Vec<Op> = serde_json::from_str(&serde_json::to_string(&ops).unwrap()).unwrap();
    assert!(crossed.iter().zip(&ops).all(|(there, here)| there.action == here.action));
    assert!(crossed.iter().all(|op| op.origin == davit_rootfs::Origin::default()));
    text
}

fn config(mounts: &Value) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "mounts": mounts,
        "linux": { "namespaces": [{ "type": "mount" }] },
    })
}

/// What is planned for one mount alone.
fn one_mount(mount: Value, host: &Host) -> Result<Vec<String>, Error> {
    let ops = try_plan(&config(&json!([mount])), host)?;
    let of_mount = ops.iter().filter(|op| op.origin.field.to_string().starts_with("mounts[0]"));
    Ok(of_mount.map(|op| op.action.to_string()).collect())
}

/// In a running container a process could open a file for writing before the mount becomes
/// read-only.
#[test]
fn a_read_only_tmpfs_that_is_added_is_read_only_from_the_start() {
    let tmpfs = |destination: &str, option: &str| json!({ "destination": destination, "type": "tmpfs", "source": "t", "options": [option] });
    let later = |mounts: Value| {
        let spec = serde_json::from_value(config(&mounts)).unwrap();
        let ops = davit_rootfs::plan_added(&spec, &host(), b"").unwrap();
        ops.iter().filter(|op| matches!(op.action, davit_rootfs::Action::ReadOnlyMount(_))).count()
    };
    assert_eq!(later(json!([tmpfs("/a", "ro"), tmpfs("/b", "ro")])), 0);
    // What comes into it needs a directory there.
    assert_eq!(later(json!([tmpfs("/a", "ro"), tmpfs("/a/b", "rw")])), 1);
    assert_eq!(later(json!([tmpfs("/a/b", "ro"), tmpfs("/a", "ro")])), 0);
}
