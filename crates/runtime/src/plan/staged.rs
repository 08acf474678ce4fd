//! Mounts of a container that is restored, which davit makes and CRIU binds.

use std::collections::BTreeSet;
use std::path::Path;

use super::create::labels_mounts;
use crate::config::annotations::Annotations;
use crate::config::bundle::Bundle;
use crate::error::Result;
use crate::host::{Host, has_selinux};
use crate::slot;

/// Plans the `mounts` with these indexes below a directory of the host.
///
/// # Errors
/// The first field that cannot be applied.
pub(crate) fn staged(
    bundle: &Bundle,
    directory: &Path,
    indexes: &BTreeSet<usize>,
) -> Result<Vec<davit_rootfs::Op>> {
    let host = Host::discover(false)?;
    let host = davit_rootfs::Host {
        bundle: bundle.directory.clone(),
        user_namespace: host.in_user_namespace,
        privileged_parent: host.is_privileged(),
        makes_nodes: false,
        joined_user_namespace: None,
        cgroups: None,
        console: None,
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: labels_mounts(&bundle.spec) && has_selinux(),
        mount_context: Annotations::of(bundle.spec.annotations())?.mount_context,
        shares_dev: false,
        first_slot: slot::SOURCES,
    };
    Ok(davit_rootfs::plan_staged(&bundle.spec, &host, directory, indexes)?)
}
