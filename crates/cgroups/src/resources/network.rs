//! `linux.resources.network`: cgroup v1 only; v2 leaves it to eBPF and the firewall.

use oci_spec::runtime::LinuxNetwork;

use super::{ControllerDir, Field, Plan, Version, one_word};
use crate::{Error, IfMissing};

const CLASS_ID: Field = Field::Borrowed("linux.resources.network.classID");
const PRIORITIES: Field = Field::Borrowed("linux.resources.network.priorities");

pub(super) fn plan(plan: &mut Plan<'_>, network: &LinuxNetwork) -> Result<(), Error> {
    // Class 0 is "no class", the default.
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        let dir = dir(plan, "net_cls", CLASS_ID)?;
        plan.write(&dir, "net_cls.classid", class, CLASS_ID);
    }
    let mut lines = Vec::new();
    for (index, entry) in network.priorities().iter().flatten().enumerate() {
        one_word(entry.name(), &format!("{PRIORITIES}[{index}].name"))?;
        lines.push(format!("{} {}", entry.name(), entry.priority()));
    }
    if !lines.is_empty() {
        let dir = dir(plan, "net_prio", PRIORITIES)?;
        plan.write_or(&dir, "net_prio.ifpriomap", lines, IfMissing::Fail, PRIORITIES);
    }
    Ok(())
}

fn dir(plan: &Plan<'_>, controller: &'static str, field: Field) -> Result<ControllerDir, Error> {
    let layout = plan.layout;
    match layout.hierarchy(controller) {
        Some(tree) => {
            Ok(ControllerDir { version: Version::V1, directory: tree.mountpoint.join(plan.path) })
        }
        None if layout.hierarchies.is_empty() && layout.unified.is_some() => {
            Err(Error::NotOnV2 { field })
        }
        None => Err(Error::NoController { field, controller: controller.into() }),
    }
}
