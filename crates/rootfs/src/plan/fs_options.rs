//! The options of an entry of `mounts`, for fsconfig(2), mount_setattr(2) and mount(2).

use davit_sys::mount::Attr;
use nix::mount::MsFlags;

use super::devtmpfs::DEVTMPFS;
use super::entry::MountEntry;
use super::string;
use crate::Error;
use crate::op::{Change, ClassicMount, FsOption};
use crate::options::{self, Attributes, IVERSION, Options, SILENT, split_data};
use crate::origin::Field;

/// Maximum length of a value of fsconfig(2) (fs/fsopen.c).
const MAX_VALUE: usize = 255;

/// File systems whose superblock is shared with others, or needs no protection: `ro` applies to the
/// mount alone.
const VIRTUAL: &[&str] =
    &["proc", "sysfs", "tmpfs", "ramfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// The calls of mount_setattr(2) for an existing mount.
pub(super) fn changes(options: &Options, plain: Attributes, recursive: bool) -> Vec<Change> {
    let propagation = options.propagation;
    let deep = propagation.filter(|(_, deep)| *deep && recursive).map(|(kind, _)| kind);
    let flat = propagation.filter(|(_, deep)| !*deep || !recursive).map(|(kind, _)| kind);
    let (plain, all) = if recursive {
        (plain, options.recursive)
    } else {
        (plain.then(options.recursive), Attributes::default())
    };
    let change = |attributes: Attributes, propagation, recursive| {
        let Attributes { set, clear } = attributes;
        let wanted = !attributes.is_empty() || Option::is_some(&propagation);
        wanted.then_some(Change { set, clear, propagation, recursive })
    };
    [change(plain, flat, false), change(all, deep, true)].into_iter().flatten().collect()
}

pub(super) fn propagation_change(options: &Options) -> Vec<Change> {
    let change = |(kind, _)| Change { propagation: Some(kind), ..Change::default() };
    options.propagation.map(change).into_iter().collect()
}

/// The options that all file systems have, for fsconfig(2).
pub(super) fn superblock_settings(
    entry: &MountEntry<'_>,
    attributes: Attributes,
) -> Result<Vec<FsOption>, Error> {
    let mut names = options::superblock_names(entry.options.superblock);
    if attributes.set & Attr::RDONLY.bits() != 0 && !VIRTUAL.contains(&entry.fstype) {
        names.push("ro");
    } else if entry.options.remount && attributes.clear & Attr::RDONLY.bits() != 0 {
        names.push("rw");
    }
    names.into_iter().map(|name| Ok(FsOption::Flag(string(entry.field, name)?))).collect()
}

pub(super) fn data_settings(entry: &MountEntry<'_>) -> Result<Vec<FsOption>, Error> {
    let mut settings = Vec::new();
    // They would change the devtmpfs of the host.
    if entry.fstype == DEVTMPFS {
        return Ok(settings);
    }
    for (index, option) in &entry.options.data {
        let field = entry.field.option(*index);
        for part in split_data(option) {
            settings.push(setting(field, part)?);
        }
    }
    Ok(settings)
}

pub(super) fn setting(field: Field, option: &str) -> Result<FsOption, Error> {
    let Some((key, value)) = option.split_once('=') else {
        return Ok(FsOption::Flag(string(field, option)?));
    };
    // The quotes around an SELinux context are only for mount(2), which splits at commas.
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = unquoted.filter(|_| key.ends_with("context")).unwrap_or(value);
    Ok(FsOption::Text(string(field, key)?, string(field, value)?))
}

pub(super) fn needs_mount2(options: &Options, settings: &[FsOption]) -> bool {
    options.superblock & (IVERSION | SILENT) != 0 || settings.iter().any(is_long)
}

pub(super) fn is_long(setting: &FsOption) -> bool {
    matches!(setting, FsOption::Text(_, value) if value.as_bytes().len() > MAX_VALUE)
}

/// The same for mount(2), if it needs no other call: no change of propagation, no special character
/// in an option, and a file system of the kernel that parses its options in the same way. Not for
/// read-only mounts: mount(2) would make the superblock read-only too.
pub(super) fn mount2(
    entry: &MountEntry<'_>,
    attributes: Attributes,
    settings: &[FsOption],
) -> Result<Option<ClassicMount>, Error> {
    let text = |setting: &FsOption| match setting {
        FsOption::Flag(name) => name.as_bytes().to_vec(),
        FsOption::Text(name, value) => [name.as_bytes(), value.as_bytes()].join(&b'='),
    };
    let texts: Vec<Vec<u8>> = settings.iter().map(text).collect();
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\\');
    if !VIRTUAL.contains(&entry.fstype)
        || attributes.set & Attr::RDONLY.bits() != 0
        || entry.options.propagation.is_some()
        || entry.options.superblock != 0
        || texts.iter().flatten().any(special)
    {
        return Ok(None);
    }
    let data = string(entry.field, texts.join(&b','))?;
    Ok(Some(ClassicMount { flags: mount2_flags(&entry.options, attributes), data }))
}

/// The `MS_*` flags of mount(2).
pub(super) fn mount2_flags(options: &Options, attributes: Attributes) -> u64 {
    let attribute = |attr: Attr, flag: MsFlags| {
        if attributes.set & attr.bits() == attr.bits() { flag } else { MsFlags::empty() }
    };
    let superblock = |bit: u8, flag: MsFlags| {
        if options.superblock & bit != 0 { flag } else { MsFlags::empty() }
    };
    let flags = attribute(Attr::RDONLY, MsFlags::MS_RDONLY)
        | attribute(Attr::NOSUID, MsFlags::MS_NOSUID)
        | attribute(Attr::NODEV, MsFlags::MS_NODEV)
        | attribute(Attr::NOEXEC, MsFlags::MS_NOEXEC)
        | attribute(Attr::NODIRATIME, MsFlags::MS_NODIRATIME)
        | attribute(Attr::NOATIME, MsFlags::MS_NOATIME)
        | attribute(Attr::STRICTATIME, MsFlags::MS_STRICTATIME)
        | superblock(options::SYNC, MsFlags::MS_SYNCHRONOUS)
        | superblock(options::DIRSYNC, MsFlags::MS_DIRSYNC)
        | superblock(options::MAND, MsFlags::MS_MANDLOCK)
        | superblock(options::LAZYTIME, MsFlags::MS_LAZYTIME)
        | superblock(options::IVERSION, MsFlags::MS_I_VERSION)
        | superblock(options::SILENT, MsFlags::MS_SILENT);
    // MS_NOSYMFOLLOW (Linux 5.10), which nix lacks.
    let nosymfollow = if attributes.set & Attr::NOSYMFOLLOW.bits() != 0 { 256 } else { 0 };
    flags.bits() | nosymfollow
}
