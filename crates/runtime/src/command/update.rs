//! `update`: changes the limits of a running container, all of them or none.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde_json::Value;

use super::build::explain;
use super::{LOCK, pause};
use crate::config::resources;
use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::log::warn;
use crate::plan::ExecConfig;
use crate::state::Status;
use crate::state::{ContainerDir, StateRoot};

/// The command line.
#[derive(Debug, Default)]
pub struct UpdateRequest {
    /// The file with the object `linux.resources`; `-` is standard input.
    pub resources: Option<PathBuf>,
    /// Single limits on top of it: the object in `linux.resources`, the field, the value.
    pub limits: Vec<(&'static str, &'static str, Value)>,
    /// Device rules, appended to the present ones.
    pub devices: Vec<LinuxDeviceCgroup>,
}

/// Changes the limits of a container.
///
/// # Errors
/// The limit that cannot be set; the others are then restored, or the message names those that are
/// not.
pub fn update(root: &StateRoot, id: &Id, request: &UpdateRequest) -> Result<()> {
    let (resources, warnings) = resources::read(request.resources.as_deref(), &request.limits)?;
    warnings.into_iter().for_each(warn);
    let dir = root.get(id)?;
    let _lock = dir.lock(LOCK)?;
    let record = dir.record()?;
    Status::of_living(&record)?;
    let cgroup = pause::cgroup(&record)?;
    let layout = davit_cgroups::Layout::discover().within(|| "cgroups")?;
    let current = davit_cgroups::Current::read(cgroup)?;
    let Some(path) = cgroup.members.first().map(|member| member.path.as_path()) else {
        return Err(Error::new("this container has no cgroup of its own"));
    };
    warn_of_devices(&resources, &dir)?;
    let mut ops =
        davit_cgroups::plan_update(&resources, path, cgroup.unit.as_ref(), &layout, current)?;
    if request.devices.is_empty() {
        return apply(&ops);
    }
    let config = ExecConfig::read(&dir.plan_file()?)?.devices;
    let mut before = dir.device_rules()?;
    // Last, because these cannot be restored.
    let devices =
        davit_cgroups::plan_device_update(&config, &before, &request.devices, path, &layout)?;
    ops.extend(devices);
    apply(&ops)?;
    before.extend(request.devices.iter().cloned());
    note(&dir, &before)
}

/// Engines send the rules of config.json with every update. Rules that their helpers (for GPUs)
/// have added since must stay, so only other rules are a change.
fn warn_of_devices(resources: &LinuxResources, dir: &ContainerDir) -> Result<()> {
    if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty())
        && *rules != ExecConfig::read(&dir.plan_file()?)?.devices
    {
        warn("devices: left as they are: --device-allow and --device-deny change them");
    }
    Ok(())
}

fn note(dir: &ContainerDir, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    dir.write_device_rules(rules)
        .map_err(|error| error.hint("the new device rules are in effect, but were not recorded"))
}

fn apply(ops: &[davit_cgroups::Op]) -> Result<()> {
    davit_cgroups::update(ops).map_err(|unfinished| {
        let failure = unfinished.failure;
        let op = ops.get(failure.op);
        let error = explain(op, &failure.error, &unfinished.detail);
        let hint = error.advice().map(str::to_owned);
        let changed = unfinished.changed.join(", ");
        let left = (!changed.is_empty()).then(|| format!("changed, and not restored: {changed}"));
        let hints: Vec<String> = hint.into_iter().chain(left).collect();
        if hints.is_empty() { error } else { error.hint(hints.join("; ")) }
    })
}
