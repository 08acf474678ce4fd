//! What is asked for, may be asked for, and changes nothing: the caller says so.

use oci_spec::runtime::{Mount, Spec};

use super::label;
use crate::Host;
use crate::options::{Options, split_data};

/// A sentence for each part of the configuration that [`super::plan`] accepts and that has no
/// effect on this machine.
#[must_use]
pub fn without_effect(spec: &Spec, host: &Host) -> Vec<String> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mounts = mounts.flat_map(|(index, mount)| of_mount(index, mount));
    mounts.chain(label::without_effect(spec, host)).collect()
}

/// The kernel passes over the data of a bind mount (mount(2)), as the spec knows: unknown options
/// go there.
fn of_mount(index: usize, mount: &Mount) -> Vec<String> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    if !options.is_bind(mount) {
        return Vec::new();
    }
    let say = |(at, option): &(usize, String)| {
        format!("mounts[{index}].options[{at}]: {option:?} has no effect on a bind mount")
    };
    options.data.iter().map(say).collect()
}

/// Whether all of an option are values for a file system, none of them a word.
pub(super) fn is_values(option: &str) -> bool {
    split_data(option).iter().all(|part| part.contains('='))
}
