//! Mounts outside the making of a container, with the same entries as in config.json: added to a
//! running one, or made on the host for one that is restored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::devtmpfs::lies_on_mounted_devtmpfs;
use super::entry::MountEntry;
use super::{Planner, path_string, string};
use crate::op::{Action, LookupPolicy, Op, Target};
use crate::origin::Subject;
use crate::{Error, Host};

/// File systems without a source: a source would be looked up in the container.
const SELF_CONTAINED: [&str; 6] = ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue"];

/// Plans the `mounts` of `spec` for a process that has joined the container's mount namespace.
/// The parent applies the operations of [`crate::Phase::Outside`]. `mountinfo` is the text of the
/// mountinfo of the container's first process.
///
/// # Errors
/// The mount that is invalid or cannot be added to a running container.
pub fn plan_added(spec: &Spec, host: &Host, mountinfo: &[u8]) -> Result<Vec<Op>, Error> {
    let mut planner = Planner::new(spec, host);
    planner.parent_opens = true;
    planner.check_label()?;
    planner.build.push(present_root());
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate() {
        // Otherwise a process of the container could open a file for writing before that.
        let mut later = mounts.iter().skip(index + 1).map(Mount::destination);
        planner.read_only_from_start = !later.any(|inside| inside.starts_with(mount.destination()));
        let mut entry = MountEntry::read(index, mount)?;
        let before = mounts.iter().take(index);
        entry.on_devtmpfs = lies_on_mounted_devtmpfs(mountinfo, before, &entry.destination);
        match (entry.options.remount, entry.is_bind()) {
            (true, _) => {}
            (false, true) => require_access(&entry, host)?,
            (false, false) => require_self_contained(&entry)?,
        }
        planner.mount(&entry)?;
    }
    Ok(planner.finish())
}

/// Plans those of the `mounts` of `spec` that have these indexes, for a process of the host. Each
/// is at [`staged_path`] below `directory`.
///
/// # Errors
/// The mount that is invalid; a NUL byte in `directory`.
pub fn plan_staged(
    spec: &Spec,
    host: &Host,
    directory: &Path,
    indexes: &BTreeSet<usize>,
) -> Result<Vec<Op>, Error> {
    let mut planner = Planner::new(spec, host);
    planner.check_label()?;
    // Nothing is made in them.
    planner.read_only_from_start = true;
    let root = path_string("mounts", directory)?;
    planner.build.push(Op::new("mounts", Subject::Nothing, Action::RootDirectory(root)));
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        if indexes.contains(&index) {
            let mut entry = MountEntry::read(index, mount)?;
            entry.destination = format!("/{index}");
            planner.mount(&entry)?;
        }
    }
    Ok(planner.finish())
}

/// Where [`plan_staged`] makes the mount of this index.
#[must_use]
pub fn staged_path(directory: &Path, index: usize) -> PathBuf {
    directory.join(index.to_string())
}

/// Plans to unmount the destinations of `mounts`; their other members are ignored.
///
/// # Errors
/// An invalid destination.
pub fn plan_removed(mounts: &[Mount]) -> Result<Vec<Op>, Error> {
    let mut ops = vec![present_root()];
    for (index, mount) in mounts.iter().enumerate() {
        let MountEntry { field, destination, .. } = MountEntry::read(index, mount)?;
        let path = string(field.member("destination"), destination.as_str())?;
        let action = Action::Unmount(Target { path, policy: LookupPolicy::NoLinks });
        ops.push(Op::new(field, Subject::Path(destination), action));
    }
    Ok(ops)
}

fn present_root() -> Op {
    Op::new("mounts", Subject::Nothing, Action::RootDirectory(c"/".to_owned()))
}

/// Copying a tree takes CAP_SYS_ADMIN in its mount namespace (open_tree(2)); at `create` init has
/// it, in a copy of the host's mount namespace.
fn require_access(entry: &MountEntry<'_>, host: &Host) -> Result<(), Error> {
    if host.privileged_parent {
        return Ok(());
    }
    let source = entry.source.map(|path| path.display().to_string()).unwrap_or_default();
    let reason = "an unprivileged user cannot bind mount it into a running container";
    Err(Error::invalid(entry.field.member("source"), source, reason))
}

fn require_self_contained(entry: &MountEntry<'_>) -> Result<(), Error> {
    if SELF_CONTAINED.contains(&entry.fstype) {
        return Ok(());
    }
    let reason = "cannot be added to a running container: only bind mounts and file systems without a \
        source can";
    Err(Error::invalid(entry.field.member("type"), entry.fstype, reason))
}
