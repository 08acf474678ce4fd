//! Mounts of a container that is restored, which davit makes and CRIU binds: overlays, and bind
//! mounts that map ids. They are in the mount namespace of criu alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use davit_checkpoint::image::Image;
use davit_checkpoint::restore::staged;
use davit_sys::{OsContext, Slots};
use nix::mount::{MsFlags, mount};

use crate::config::bundle::Bundle;
use crate::error::{Error, Result, Within};
use crate::plan::{self, apply_outside};

/// Places for a tmpfs: the first that exists is taken. CRIU opens the mounts as root of the
/// container's user namespace, which a state root is closed to; and a mount on any other directory
/// of sysfs or procfs makes the kernel refuse a new one in a user namespace ("too revealing"):
/// these are there to be mounted on.
const PLACES: [&str; 3] = ["/sys/fs/pstore", "/sys/fs/fuse/connections", "/sys/kernel/debug"];

/// The mounts.
#[derive(Default)]
pub(super) struct Stage {
    directory: PathBuf,
    /// Where the entry of `mounts` with this index is.
    pub(super) paths: BTreeMap<usize, PathBuf>,
    ops: Vec<davit_rootfs::Op>,
}

impl Stage {
    /// Plans them.
    ///
    /// # Errors
    /// The first field that cannot be applied.
    pub(super) fn plan(bundle: &Bundle, image: &Image) -> Result<Self> {
        let indexes = staged(&bundle.spec, image);
        if indexes.is_empty() {
            return Ok(Self::default());
        }
        let place = PLACES.iter().map(Path::new).find(|place| place.is_dir());
        let missing = || Error::new(format!("mounts: no place for them in {PLACES:?}"));
        let directory = place.ok_or_else(missing)?.to_owned();
        let path = |index: &usize| (*index, davit_rootfs::staged_path(&directory, *index));
        let paths = indexes.iter().map(path).collect();
        let ops = plan::staged(bundle, &directory, &indexes)?;
        Ok(Self { directory, paths, ops })
    }

    /// Whether one of them is there.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.paths.values().any(|staged| path.starts_with(staged))
    }

    /// The steps as text.
    pub(super) fn steps(&self) -> impl Iterator<Item = String> {
        self.ops.iter().map(ToString::to_string)
    }

    /// Mounts them, in a mount namespace of which no other process knows.
    ///
    /// # Errors
    /// The mount that failed.
    pub(super) fn mount(&self) -> Result<()> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let (tmpfs, flags) = (Some("tmpfs"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID);
        mount(tmpfs, &self.directory, tmpfs, flags, Some("mode=755"))
            .syscall("mount")
            .within(|| format!("tmpfs -> {}", self.directory.display()))?;
        apply_outside(&self.ops, &mut davit_rootfs::Context::new(Slots::default()))
    }
}
