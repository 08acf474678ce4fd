//! A cache of device filters in bpffs, which outlives the containers.
//!
//! The load of a filter is a tenth of the kernel's least work for a container: the program is
//! verified and compiled. Most containers have one of a few sets of rules, and a program can be
//! attached to many cgroups. A filter from the cache is used only if its instructions, as the
//! kernel reports them, are those of the rules.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use davit_sys::bpf::{self, Instruction};

use super::Program;

/// In the bpffs that systemd mounts. Without a bpffs there is no cache.
const DIRECTORY: &str = "/sys/fs/bpf/davit";

/// The maximum number of cached filters. Each filter has one place, and replaces another there.
const PLACES: u64 = 16;

/// The name of the programs in `bpftool prog`.
const NAME: &[u8; bpf::NAME_LENGTH] = b"davit_devices\0\0\0";

/// The filter from the cache, or one that is loaded now, and cached if that is possible.
///
/// # Errors
/// Those of [`bpf::load_device_filter`].
pub(crate) fn filter(program: &Program) -> Result<OwnedFd, davit_sys::Error> {
    let place = place(program);
    let instructions = program.instructions();
    let trusted = is_trusted();
    if let Some(filter) = trusted.then(|| find(&place, &instructions)).flatten() {
        return Ok(filter);
    }
    let filter = bpf::load_device_filter(&instructions, NAME)?;
    if trusted || (fs::DirBuilder::new().mode(0o700).create(DIRECTORY).is_ok() && is_trusted()) {
        // A filter that cannot be cached is as good as any other.
        let _ = fs::remove_file(&place);
        let _ = bpf::pin(filter.as_fd(), &place);
    }
    Ok(filter)
}

/// A filter that is loaded now, and not cached.
///
/// # Errors
/// Those of [`bpf::load_device_filter`].
pub(crate) fn load(program: &Program) -> Result<OwnedFd, davit_sys::Error> {
    bpf::load_device_filter(&program.instructions(), NAME)
}

/// The path of a filter. Another version of Rust may choose another one, and filters of other rules
/// may have the same.
fn place(program: &Program) -> String {
    let mut hasher = DefaultHasher::new();
    program.words().for_each(|word| hasher.write_u64(word));
    format!("{DIRECTORY}/{}", hasher.finish() % PLACES)
}

/// Whether only root can have put a file there.
fn is_trusted() -> bool {
    fs::symlink_metadata(DIRECTORY)
        .is_ok_and(|it| it.is_dir() && it.uid() == 0 && it.mode() & 0o022 == 0)
}

fn find(place: &str, instructions: &[Instruction]) -> Option<OwnedFd> {
    let filter = bpf::pinned(place).ok()?;
    bpf::is_device_filter(filter.as_fd(), instructions).ok()?.then_some(filter)
}
