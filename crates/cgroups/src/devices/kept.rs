//! Device filters that outlive their container, in bpffs.
//!
//! To load a filter is a tenth of the kernel's least work for a container: it is verified and compiled. Most containers have
//! one of a few sets of rules, and a program can be attached to many cgroups. So what was loaded once is found by its
//! name, which a program has for life: somebody who moves files about in the directory gives nobody a filter of other rules.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use sys::bpf;

use super::Program;

/// In the bpffs that systemd mounts. Where there is none, nothing is kept.
const DIRECTORY: &str = "/sys/fs/bpf/davit";

/// How many filters are kept at most. A filter has one place where it can be, and takes it from another.
const PLACES: u64 = 16;

/// Six bits each of what tells programs apart. No other characters may be in a name.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.";

/// The filter: a kept one, or one that is loaded now, and kept where that is possible.
///
/// # Errors
/// Those of [`bpf::load_device_filter`].
pub(crate) fn filter(program: &Program) -> Result<OwnedFd, sys::Error> {
    let digest = digest(program);
    let place = format!("{DIRECTORY}/{}", digest % PLACES);
    let name = name(digest);
    let ours = is_ours();
    if let Some(filter) = ours.then(|| find(&place, &name)).flatten() {
        return Ok(filter);
    }
    let filter = load(program)?;
    if ours || (fs::DirBuilder::new().mode(0o700).create(DIRECTORY).is_ok() && is_ours()) {
        // One that cannot be kept is as good as any other.
        let _ = fs::remove_file(&place);
        let _ = bpf::pin(filter.as_fd(), &place);
    }
    Ok(filter)
}

/// A filter that is loaded now, under the name by which it could be found.
///
/// # Errors
/// Those of [`bpf::load_device_filter`].
pub(crate) fn load(program: &Program) -> Result<OwnedFd, sys::Error> {
    bpf::load_device_filter(&program.instructions(), &name(digest(program)))
}

fn digest(program: &Program) -> u64 {
    let mut hasher = DefaultHasher::new();
    program.words().for_each(|word| hasher.write_u64(word));
    hasher.finish()
}

fn name(digest: u64) -> [u8; bpf::NAME_LENGTH] {
    let mut name = *b"davit_.........\0";
    for (index, digit) in name.iter_mut().skip(6).take(9).enumerate() {
        let six = (digest >> (6 * index)) as usize % DIGITS.len();
        *digit = DIGITS.get(six).copied().unwrap_or(b'_');
    }
    name
}

/// Whether nobody but root can have put something there.
fn is_ours() -> bool {
    fs::symlink_metadata(DIRECTORY)
        .is_ok_and(|it| it.is_dir() && it.uid() == 0 && it.mode() & 0o022 == 0)
}

fn find(place: &str, name: &[u8]) -> Option<OwnedFd> {
    let filter = bpf::pinned(place).ok()?;
    (bpf::program_name(filter.as_fd()).ok()? == name).then_some(filter)
}
