//! Configurations in, plans out: nothing of the machine is looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod errors;
mod labels;
mod options;
mod stories;

use rootfs::{Cgroups, Console, Error, Host, Op, phases, plan};
use serde_json::{Value, json};

fn host() -> Host {
    Host {
        bundle: "/bundle".into(),
        user_namespace: false,
        privileged_parent: true,
        cgroups: Some(Cgroups::Unified {
            mountpoint: "/sys/fs/cgroup".into(),
            path: "/machine/web".into(),
        }),
        console: None,
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: false,
        mount_context: rootfs::ContextType::Context,
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

/// The plan as a story in three parts.
fn story(config: &Value, host: &Host) -> String {
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
    assert!(crossed.iter().all(|op| op.origin == rootfs::Origin::default()));
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
