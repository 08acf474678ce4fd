//! Destinations in a devtmpfs.
//!
//! The kernel has one devtmpfs, which all of its mounts show (drivers/base/devtmpfs.c): files that
//! are created in it, and its options, are those of the host.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::{Planner, clean};
use crate::mountinfo;
use crate::options::Options;

pub(super) const DEVTMPFS: &str = "devtmpfs";

impl Planner<'_> {
    /// Whether a path is in a devtmpfs once everything is mounted.
    pub(super) fn on_devtmpfs(&self, path: &str) -> bool {
        self.lies_on_devtmpfs(usize::MAX, path)
    }

    /// Whether a path is in a devtmpfs once the first `count` entries are mounted: the last mount
    /// on the way to it decides.
    pub(super) fn lies_on_devtmpfs(&self, count: usize, path: &str) -> bool {
        let mounts = self.spec.mounts().as_deref().unwrap_or_default();
        let shares_dev = self.host.shares_dev && !self.has_overlay_root();
        if !shares_dev && !mounts.iter().any(is_devtmpfs) {
            return false;
        }
        let before = mounts.iter().take(count).rev();
        let mut covering = before.filter(|mount| is_new(mount) && lies_below(path, mount));
        match covering.next() {
            Some(mount) => is_devtmpfs(mount),
            None => shares_dev && (path == "/dev" || path.starts_with("/dev/")),
        }
    }
}

/// Whether a path in a running container with this mountinfo is in a devtmpfs once `added` are
/// mounted.
pub(super) fn lies_on_mounted_devtmpfs<'a>(
    mountinfo: &[u8],
    mut added: impl Iterator<Item = &'a Mount>,
    path: &str,
) -> bool {
    if added.any(|mount| is_new(mount) && lies_below(path, mount)) {
        return false;
    }
    let mounts = mountinfo::filesystems(mountinfo);
    let covering = mounts.filter(|(mount, _)| Path::new(path).starts_with(mount)).last();
    covering.is_some_and(|(_, fstype)| fstype == DEVTMPFS.as_bytes())
}

fn is_devtmpfs(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some(DEVTMPFS) && !options(mount).is_bind(mount)
}

/// Whether the entry creates a mount, instead of changing one.
fn is_new(mount: &Mount) -> bool {
    let options = options(mount);
    let propagates = matches!(mount.typ().as_deref(), None | Some("" | "none"));
    !options.remount && (options.is_bind(mount) || !propagates)
}

fn options(mount: &Mount) -> Options {
    Options::parse(mount.options().as_deref().unwrap_or_default())
}

fn lies_below(path: &str, mount: &Mount) -> bool {
    let rest = path.strip_prefix(&clean(&mount.destination().to_string_lossy()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
