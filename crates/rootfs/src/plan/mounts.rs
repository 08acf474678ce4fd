//! The entries of `mounts`.

use std::ffi::CString;
use std::path::Path;

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxNamespaceType, Mount};
use sys::mount::Attr;

use super::id_maps::IdMaps;
use super::label::quoted_option;
use super::without_effect::is_values;
use super::{Planner, clean, path_string, string};
use crate::op::{Action, Change, Filesystem, Op, Rule, Setting, Source, Target};
use crate::options::{
    self, Attributes, DIRSYNC, IVERSION, LAZYTIME, MAND, Options, SILENT, SYNC, split_data,
};
use crate::origin::{Field, Origin, Subject};
use crate::{Error, Propagation};

/// One entry of `mounts`, read.
pub(super) struct Entry<'a> {
    /// `mounts[3]`
    pub(super) field: Field,
    pub(super) mount: &'a Mount,
    /// `"/srv" -> "/data"`
    pub(super) subject: Subject,
    pub(super) fstype: &'a str,
    pub(super) source: Option<&'a Path>,
    /// Clean and absolute.
    pub(super) destination: String,
    pub(super) options: Options,
}

/// fsconfig(2) takes no longer value (fs/fsopen.c).
const LONGEST_VALUE: usize = 255;

/// What may be mounted inside /proc: lxcfs and CRIU put files of their own there.
const IN_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// File systems whose superblock is not the container's alone, or that have nothing to protect:
/// `ro` is only for the mount.
const VIRTUAL: &[&str] =
    &["proc", "sysfs", "tmpfs", "ramfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

impl<'a> Planner<'a> {
    pub(super) fn mounts(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let entry = Entry::read(index, mount)?;
            self.mount(&entry)?;
        }
        Ok(())
    }

    pub(super) fn mount(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        if entry.options.remount {
            return self.remount(entry);
        }
        if entry.is_bind() {
            return self.bind(entry);
        }
        entry.refuse_id_maps()?;
        match entry.fstype {
            "" | "none" if entry.options.propagation.is_some() => self.remount(entry),
            "" | "none" => Err(Error::missing(entry.field.member("type"))),
            "cgroup" => self.cgroup(entry),
            "overlay" => self.overlay(entry),
            "sysfs" if self.host.user_namespace && !self.has_network_namespace() => {
                self.host_sysfs(entry)
            }
            _ => self.filesystem(entry),
        }
    }

    fn has_network_namespace(&self) -> bool {
        let linux = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        linux.into_iter().flatten().any(|one| one.typ() == LinuxNamespaceType::Network)
    }

    /// A sysfs shows a network namespace, and is mounted only by who rules that: whoever shares
    /// the host's shares what the host has mounted (kernel commit 7dc5dbc879bd).
    fn host_sysfs(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        let options = Options { bind: Some(true), ..entry.options.clone() };
        let destination = entry.destination.clone();
        let subject = Subject::Onto("/sys".to_owned(), destination.clone());
        let source = Some(Path::new("/sys"));
        self.bind(&Entry { subject, source, destination, options, ..*entry })
    }

    fn bind(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        entry.refuse_what_binds_lack()?;
        let source_field = entry.field.member("source");
        let source = entry.source.ok_or_else(|| Error::missing(source_field))?;
        let path = path_string(source_field, &self.in_bundle(source))?;
        let recursive = entry.options.bind == Some(true);
        let id_maps = entry.id_maps(self.spec)?;
        let early = id_maps.is_some()
            || self.parent_opens
            || self.loses_propagation(entry.options.propagation);
        let mut changes = changes(&entry.options, entry.options.plain, recursive);
        if early && self.stays_a_peer(entry.options.propagation, recursive) {
            changes.insert(0, self.contained(recursive));
        }
        let source = self.source(entry.origin(), path, recursive, early);
        if let (Some(maps), Source::Slot(tree)) = (id_maps, &source) {
            let recursive = entry.options.idmap == Some(true);
            let IdMaps { uids, gids } = maps;
            let action = Action::MapIds { tree: *tree, recursive, uids, gids };
            self.outside.push(entry.op(action));
        }
        let action = Action::Bind {
            source,
            recursive,
            target: entry.target()?,
            procfs: entry.destination == "/proc",
            changes,
        };
        self.build.push(entry.op(action));
        Ok(())
    }

    /// A copy from before [`Action::Contain`] is a peer of the host's mount until it is changed.
    pub(super) fn contained(&self, recursive: bool) -> Change {
        Change { propagation: Some(self.contain), recursive, ..Change::default() }
    }

    /// Whether something of such a copy stays a peer of the host's although nobody asked for it.
    fn stays_a_peer(&self, asked: Option<(Propagation, bool)>, recursive: bool) -> bool {
        !self.loses_propagation(asked) && asked.is_none_or(|(_, deep)| recursive && !deep)
    }

    /// Whether a copy made after [`Action::Contain`] could no longer have this propagation.
    fn loses_propagation(&self, asked: Option<(Propagation, bool)>) -> bool {
        match asked {
            Some((Propagation::Shared, _)) => true,
            Some((Propagation::Slave, _)) => self.contain == Propagation::Private,
            _ => false,
        }
    }

    fn remount(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        let mount_only = entry.is_bind() || matches!(entry.fstype, "" | "none");
        let settings = if mount_only {
            entry.refuse_what_binds_lack()?;
            None
        } else {
            entry.refuse_without_name()?;
            let mut settings = superblock_settings(entry, entry.options.single())?;
            settings.append(&mut data_settings(entry)?);
            Some(settings)
        };
        let changes = changes(&entry.options, entry.options.plain, true);
        let action = Action::Remount { target: entry.target()?, settings, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    pub(super) fn filesystem(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        let mut attributes = entry.options.single();
        self.make_read_only_later(entry, &mut attributes)?;
        let mut settings = data_settings(entry)?;
        let label = self.context(entry.fstype, &settings)?;
        let long = label.as_ref().is_some_and(is_long);
        if long || needs_old_mount(&entry.options, &settings) {
            return self.old_mount(entry, attributes, label.as_ref());
        }
        settings.extend(label);
        let mut all = superblock_settings(entry, attributes)?;
        let has_mode = settings
            .iter()
            .any(|setting| matches!(setting, Setting::Text(key, _) if key.as_bytes() == b"mode"));
        all.extend(settings);
        let filesystem = Filesystem {
            fstype: string(entry.field.member("type"), entry.fstype)?,
            source: entry.source_name()?,
            settings: all,
            attributes: attributes.set,
            inherit_mode: entry.fstype == "tmpfs" && !has_mode,
            copy_up: entry.options.copy_up,
        };
        let changes = propagation_change(&entry.options);
        let action = Action::Mount { filesystem, target: entry.target()?, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    /// A tmpfs gets directories for later mounts and `/dev` gets its nodes: read-only comes last.
    pub(super) fn make_read_only_later(
        &mut self,
        entry: &Entry<'a>,
        attributes: &mut Attributes,
    ) -> Result<(), Error> {
        let read_only = attributes.set & Attr::RDONLY.bits() != 0;
        if read_only && (entry.fstype == "tmpfs" || entry.destination == "/dev") {
            attributes.set &= !Attr::RDONLY.bits();
            let path = string(entry.field, entry.destination.as_str())?;
            self.enter.push(entry.op(Action::ReadOnlyMount(path)));
        }
        Ok(())
    }

    fn old_mount(
        &mut self,
        entry: &Entry<'a>,
        attributes: Attributes,
        label: Option<&Setting>,
    ) -> Result<(), Error> {
        if entry.options.copy_up {
            let field = entry.field.member("options");
            return Err(Error::invalid(field, "tmpcopyup", "cannot go with silent or iversion"));
        }
        let data = entry.options.data.iter().map(|(_, text)| text.as_bytes().to_vec());
        let data: Vec<Vec<u8>> = data.chain(label.map(quoted_option)).collect();
        let action = Action::OldMount {
            fstype: string(entry.field, entry.fstype)?,
            source: entry.source_name()?.unwrap_or_default(),
            flags: old_flags(&entry.options, attributes),
            data: string(entry.field, data.join(&b','))?,
            target: entry.target()?,
            changes: propagation_change(&entry.options),
        };
        self.build.push(entry.op(action));
        Ok(())
    }
}

impl<'a> Entry<'a> {
    pub(super) fn read(index: usize, mount: &'a Mount) -> Result<Self, Error> {
        let field = Field::entry("mounts", index);
        let destination = mount.destination().to_string_lossy().into_owned();
        let destination = match clean(&destination) {
            _ if destination.is_empty() => {
                return Err(Error::missing(field.member("destination")));
            }
            clean => clean,
        };
        let fstype = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let from = source.map_or(fstype.into(), Path::to_string_lossy);
        let subject = Subject::Onto(from.into_owned(), destination.clone());
        let entry = Self { field, mount, subject, fstype, source, destination, options };
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), Error> {
        if self.options.copy_up && (self.fstype != "tmpfs" || self.is_bind()) {
            let field = self.field.member("options");
            return Err(Error::invalid(field, "tmpcopyup", "is only for tmpfs"));
        }
        if self.destination == "/" {
            let field = self.field.member("destination");
            return Err(Error::invalid(field, "/", "nothing can be mounted over the root"));
        }
        Ok(())
    }

    pub(super) fn is_bind(&self) -> bool {
        self.options.is_bind(self.mount)
    }

    pub(super) fn op(&self, action: Action) -> Op {
        Op { origin: self.origin(), action }
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { field: self.field, subject: self.subject.clone() }
    }

    pub(super) fn target(&self) -> Result<Target, Error> {
        let field = self.field.member("destination");
        let destination = self.destination.as_str();
        let rule = if destination == "/proc" {
            if self.fstype != "proc" && !self.is_bind() {
                let reason = "only a procfs can be mounted over /proc";
                return Err(Error::invalid(field, destination, reason));
            }
            Rule::NoLinks
        } else if IN_PROC.contains(&destination) {
            Rule::Proc
        } else if destination.starts_with("/proc/") {
            return Err(Error::invalid(field, destination, "is inside /proc"));
        } else if matches!(self.fstype, "proc" | "sysfs") && !self.is_bind() {
            Rule::NoLinks
        } else {
            Rule::OutsideProc
        };
        Ok(Target { path: string(field, destination)?, rule })
    }

    pub(super) fn source_name(&self) -> Result<Option<CString>, Error> {
        self.source.map(|source| path_string(self.field.member("source"), source)).transpose()
    }

    /// A bind is of a mount only: options of the file system cannot be honoured. One with a value
    /// can be nothing else and has no effect, which is said; a word could be meant for the mount.
    pub(super) fn refuse_what_binds_lack(&self) -> Result<(), Error> {
        let words = self.options.data.iter().find(|(_, option)| !is_values(option));
        if let Some((index, option)) = words {
            let field = self.field.option(*index);
            return Err(Error::invalid(field, option, "is not an option of a bind mount"));
        }
        match self.options.superblock_at {
            Some(index) if self.options.superblock & !SILENT != 0 => {
                let field = self.field.option(index);
                let name = superblock_names(self.options.superblock & !SILENT).join(",");
                let reason = "belongs to the whole file system: a bind mount cannot have it";
                Err(Error::invalid(field, name, reason))
            }
            _ => Ok(()),
        }
    }

    /// For what only fsconfig(2) does.
    pub(super) fn refuse_without_name(&self) -> Result<(), Error> {
        match self.options.superblock_at {
            Some(index) if self.options.superblock & IVERSION != 0 => {
                let field = self.field.option(index);
                Err(Error::invalid(field, "iversion", "cannot be set here"))
            }
            _ => Ok(()),
        }
    }
}

/// The calls of mount_setattr(2) for a mount that exists.
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

fn superblock_names(bits: u8) -> Vec<&'static str> {
    let names = [
        (SYNC, "sync"),
        (DIRSYNC, "dirsync"),
        (MAND, "mand"),
        (LAZYTIME, "lazytime"),
        (IVERSION, "iversion"),
    ];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
}

/// The options that all file systems share, as fsconfig(2) wants them.
pub(super) fn superblock_settings(
    entry: &Entry<'_>,
    attributes: Attributes,
) -> Result<Vec<Setting>, Error> {
    let mut names = superblock_names(entry.options.superblock);
    if attributes.set & Attr::RDONLY.bits() != 0 && !VIRTUAL.contains(&entry.fstype) {
        names.push("ro");
    } else if entry.options.remount && attributes.clear & Attr::RDONLY.bits() != 0 {
        names.push("rw");
    }
    names.into_iter().map(|name| Ok(Setting::Flag(string(entry.field, name)?))).collect()
}

pub(super) fn data_settings(entry: &Entry<'_>) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    for (index, option) in &entry.options.data {
        let field = entry.field.option(*index);
        for part in split_data(option) {
            settings.push(setting(field, part)?);
        }
    }
    Ok(settings)
}

pub(super) fn setting(field: Field, option: &str) -> Result<Setting, Error> {
    let Some((key, value)) = option.split_once('=') else {
        return Ok(Setting::Flag(string(field, option)?));
    };
    // The quotes around an SELinux context protect its commas from mount(2) only.
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = unquoted.filter(|_| key.ends_with("context")).unwrap_or(value);
    Ok(Setting::Text(string(field, key)?, string(field, value)?))
}

fn needs_old_mount(options: &Options, settings: &[Setting]) -> bool {
    options.superblock & (IVERSION | SILENT) != 0 || settings.iter().any(is_long)
}

fn is_long(setting: &Setting) -> bool {
    matches!(setting, Setting::Text(_, value) if value.as_bytes().len() > LONGEST_VALUE)
}

/// `MS_*` of mount(2) for the same.
fn old_flags(options: &Options, attributes: Attributes) -> u64 {
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
    // MS_NOSYMFOLLOW (Linux 5.10), which nix does not name.
    let nosymfollow = if attributes.set & Attr::NOSYMFOLLOW.bits() != 0 { 256 } else { 0 };
    flags.bits() | nosymfollow
}
