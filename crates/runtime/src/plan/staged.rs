//! Mounts of a container that is restored, which davit makes and CRIU binds.

use std::collections::BTreeSet;
use std::path::Path;

use super::create::labels_mounts;
use super::mounts::mounts_alone;
use crate::config::annotations::Annotations;
use crate::config::bundle::Bundle;
use crate::error::Result;
use crate::host::Host;

/// Plans the `mounts` with these indexes below a directory of the host.
///
/// # Errors
/// The first field that cannot be applied.
pub(crate) fn staged(
    bundle: &Bundle,
    directory: &Path,
    indexes: &BTreeSet<usize>,
) -> Result<Vec<davit_rootfs::Op>> {
    let spec = &bundle.spec;
    let annotations = Annotations::of(spec.annotations())?;
    let host = Host::discover(false)?;
    let host = mounts_alone(&host, bundle.directory.clone(), labels_mounts(spec), annotations);
    Ok(davit_rootfs::plan_staged(spec, &host, directory, indexes)?)
}
