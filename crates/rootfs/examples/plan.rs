//! Plans the mounts of a bundle and prints the operations, phase by phase. It changes nothing.
//!
//! ```text
//! cargo run -p davit-rootfs --example plan -- BUNDLE
//! ```

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

use davit_rootfs::{Cgroups, Console, ContextType, Host, phases, plan};
use oci_spec::runtime::Spec;

fn main() -> Result<(), Box<dyn Error>> {
    let bundle = std::env::args_os().nth(1).ok_or("usage: plan BUNDLE")?;
    let bundle = PathBuf::from(bundle).canonicalize()?;
    let spec: Spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let ops = plan(&spec, &host(bundle, &spec))?;
    for (phase, ops) in ["outside", "build", "enter"].into_iter().zip(phases(&ops)) {
        println!("{phase}:");
        ops.iter().for_each(|op| println!("  {op}"));
    }
    Ok(())
}

/// Root on a host with cgroup v2. The slots 0 to 7 are left to the caller.
fn host(bundle: PathBuf, spec: &Spec) -> Host {
    let process = spec.process().as_ref();
    let has_terminal = process.is_some_and(|process| process.terminal() == Some(true));
    Host {
        bundle,
        user_namespace: false,
        privileged_parent: true,
        makes_nodes: true,
        joined_user_namespace: None,
        cgroups: Some(Cgroups::Unified { mountpoint: "/sys/fs/cgroup".into() }),
        console: has_terminal.then_some(Console { master: 0, terminal: 1 }),
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: false,
        mount_context: ContextType::default(),
        shares_dev: false,
        first_slot: 8,
    }
}
