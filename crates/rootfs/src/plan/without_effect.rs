//! Options that are accepted but have no effect here; reported as warnings.

use oci_spec::runtime::{Mount, Spec};

use super::devtmpfs::DEVTMPFS;
use super::{Planner, clean, label};
use crate::Host;
use crate::options::{Options, split_data};

/// A warning for each part of config.json that [`super::plan`] accepts and that has no effect on
/// this host.
#[must_use]
pub fn without_effect(spec: &Spec, host: &Host) -> Vec<String> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mounts = mounts.flat_map(|(index, mount)| of_mount(index, mount));
    let devices = of_devices(&Planner::new(spec, host));
    mounts.chain(devices).chain(label::without_effect(spec, host)).collect()
}

/// Nothing is created in a /dev of the host.
fn of_devices(planner: &Planner<'_>) -> Vec<String> {
    let linux = planner.spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.devices().as_ref()).into_iter().flatten();
    let paths = listed.map(|device| clean(&device.path().to_string_lossy())).enumerate();
    let hosts = paths.filter(|(_, path)| planner.is_hosts(path));
    let warning = |(index, path)| {
        format!("linux.devices[{index}]: {path} is not created: it is in the host's own /dev")
    };
    hosts.map(warning).collect()
}

/// The kernel ignores the data of a bind mount (mount(2)), to which unknown options belong. Those
/// of a devtmpfs would change the host's.
fn of_mount(index: usize, mount: &Mount) -> Vec<String> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let what = match (options.is_bind(mount), mount.typ().as_deref()) {
        (true, _) => "a bind mount",
        (false, Some(DEVTMPFS)) => "a devtmpfs, which is the host's",
        _ => return Vec::new(),
    };
    let warning = |(at, option): &(usize, String)| {
        format!("mounts[{index}].options[{at}]: {option:?} has no effect on {what}")
    };
    options.data.iter().map(warning).collect()
}

/// Whether all parts of an option are `name=value`, for the file system.
pub(super) fn is_values(option: &str) -> bool {
    split_data(option).iter().all(|part| part.contains('='))
}
