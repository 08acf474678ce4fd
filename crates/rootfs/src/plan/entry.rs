//! One entry of `mounts`, parsed and checked.

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::Mount;

use super::devtmpfs::DEVTMPFS;
use super::without_effect::is_values;
use super::{clean, path_string, string};
use crate::Error;
use crate::op::{Action, LookupPolicy, Op, Target};
use crate::options::{IVERSION, Options, SILENT, superblock_names};
use crate::origin::{Field, Origin, Subject};

/// One entry of `mounts`, parsed.
pub(super) struct MountEntry<'a> {
    /// `mounts[3]`
    pub(super) field: Field,
    pub(super) mount: &'a Mount,
    /// `"/srv" -> "/data"`
    pub(super) subject: Subject,
    pub(super) fstype: &'a str,
    pub(super) source: Option<&'a Path>,
    /// Normalized and absolute.
    pub(super) destination: String,
    pub(super) options: Options,
    /// Whether its destination is in the devtmpfs of the host, where nothing may be created.
    pub(super) on_devtmpfs: bool,
}

/// The files in /proc that may be covered by a mount: lxcfs and CRIU do that.
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

impl<'a> MountEntry<'a> {
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
        let on_devtmpfs = false;
        let entry =
            Self { field, mount, subject, fstype, source, destination, options, on_devtmpfs };
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
        let policy = if destination == "/proc" {
            if self.fstype != "proc" && !self.is_bind() {
                let reason = "only a procfs can be mounted over /proc";
                return Err(Error::invalid(field, destination, reason));
            }
            LookupPolicy::NoLinks
        } else if IN_PROC.contains(&destination) {
            LookupPolicy::Proc
        } else if destination.starts_with("/proc/") {
            return Err(Error::invalid(field, destination, "is inside /proc"));
        } else if self.on_devtmpfs {
            LookupPolicy::MustExist
        } else if matches!(self.fstype, "proc" | "sysfs") && !self.is_bind() {
            LookupPolicy::NoLinks
        } else {
            LookupPolicy::OutsideProc
        };
        Ok(Target { path: string(field, destination)?, policy })
    }

    pub(super) fn source_name(&self) -> Result<Option<CString>, Error> {
        self.source.map(|source| path_string(self.field.member("source"), source)).transpose()
    }

    /// Refuses options of the file system for a bind mount, which cannot have them. One with a
    /// value is accepted with a warning, as it cannot be an attribute of the mount.
    pub(super) fn refuse_what_binds_lack(&self) -> Result<(), Error> {
        let unknown = self.options.data.iter().find(|(_, option)| !is_values(option));
        if let Some((index, option)) = unknown {
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

    /// Refuses options of the superblock for a devtmpfs: it is the one of the host.
    pub(super) fn refuse_what_devtmpfs_lacks(&self) -> Result<(), Error> {
        match self.options.superblock_at {
            Some(index) if self.fstype == DEVTMPFS && self.options.superblock & !SILENT != 0 => {
                let name = superblock_names(self.options.superblock & !SILENT).join(",");
                let reason = "belongs to the whole file system, and a devtmpfs is the host's";
                Err(Error::invalid(self.field.option(index), name, reason))
            }
            _ => Ok(()),
        }
    }

    /// Refuses options that fsconfig(2) does not have.
    pub(super) fn refuse_mount2_options(&self) -> Result<(), Error> {
        match self.options.superblock_at {
            Some(index) if self.options.superblock & IVERSION != 0 => {
                let field = self.field.option(index);
                Err(Error::invalid(field, "iversion", "cannot be set here"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses id mappings for a new file system: only bind mounts have them.
    pub(super) fn refuse_id_maps(&self) -> Result<(), Error> {
        if has_id_maps(self.mount) || self.options.idmap.is_some() {
            let field = self.field.member("uidMappings");
            return Err(Error::invalid(field, self.fstype, "ids are mapped for bind mounts only"));
        }
        Ok(())
    }
}

/// Whether a mount has id mappings of its own; an empty list counts as none.
pub(super) fn has_id_maps(mount: &Mount) -> bool {
    [mount.uid_mappings(), mount.gid_mappings()]
        .into_iter()
        .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}
