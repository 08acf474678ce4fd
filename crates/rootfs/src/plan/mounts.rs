//! The entries of `mounts`.

use std::ffi::CString;
use std::path::Path;

use davit_sys::mount::Attr;
use oci_spec::runtime::LinuxNamespaceType;

use super::devtmpfs::DEVTMPFS;
use super::entry::MountEntry;
use super::fs_options::{
    changes, data_settings, is_long, mount2, mount2_flags, needs_mount2, propagation_change,
    superblock_settings,
};
use super::label::quoted_option;
use super::{Planner, clean, path_string, string};
use crate::op::{Action, Change, Filesystem, FsOption, Source};
use crate::options::{Attributes, Options};
use crate::origin::Subject;
use crate::{Error, Propagation};

impl<'a> Planner<'a> {
    pub(super) fn mounts(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let mut entry = MountEntry::read(index, mount)?;
            entry.on_devtmpfs = self.lies_on_devtmpfs(index, &entry.destination);
            if !entry.options.remount {
                self.forget_below(&entry.destination);
            }
            self.mount(&entry)?;
            if !entry.options.remount {
                self.covered.push(entry.destination);
            }
        }
        Ok(())
    }

    /// A later mount covers those at its destination and below: a delayed read-only operation on
    /// them would change the later mount.
    fn forget_below(&mut self, destination: &str) {
        let is_below = |path: &CString| {
            path.to_str().is_ok_and(|path| Path::new(path).starts_with(destination))
        };
        self.enter
            .retain(|op| !matches!(&op.action, Action::ReadOnlyMount(path) if is_below(path)));
    }

    pub(super) fn mount(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        if entry.options.remount {
            return self.remount(entry);
        }
        if entry.is_bind() {
            return self.bind(entry);
        }
        entry.refuse_id_maps()?;
        entry.refuse_what_devtmpfs_lacks()?;
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

    /// A sysfs shows a network namespace, and mounting it takes privileges over that: with the
    /// network namespace of the host, the sysfs of the host is bind mounted (kernel commit
    /// 7dc5dbc879bd).
    fn host_sysfs(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        let options = Options { bind: Some(true), ..entry.options.clone() };
        let destination = entry.destination.clone();
        let subject = Subject::Onto("/sys".to_owned(), destination.clone());
        let source = Some(Path::new("/sys"));
        self.bind(&MountEntry { subject, source, destination, options, ..*entry })
    }

    fn bind(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        entry.refuse_what_binds_lack()?;
        let source_field = entry.field.member("source");
        let source = entry.source.ok_or_else(|| Error::missing(source_field))?;
        let path = path_string(source_field, &self.in_bundle(source))?;
        let recursive = entry.options.bind == Some(true);
        let id_maps = self.id_maps(entry)?;
        let early = id_maps.is_some()
            || self.parent_opens
            || self.loses_propagation(entry.options.propagation);
        let inside = if early { self.below_a_mount(source) } else { None };
        let mut changes = changes(&entry.options, entry.options.plain, recursive);
        if early && inside.is_none() && self.stays_a_peer(entry.options.propagation, recursive) {
            changes.insert(0, self.initial_change(recursive));
        }
        let source = match inside {
            Some(path) if id_maps.is_some() => {
                let reason = "is below an earlier mount, whose ids cannot be mapped";
                return Err(Error::invalid(source_field, path, reason));
            }
            Some(path) => Source::Inside(string(source_field, path)?),
            None => self.source(entry.origin(), path, recursive, early),
        };
        if let (Some(maps), Source::Slot(tree)) = (id_maps, &source) {
            let recursive = entry.options.idmap == Some(true);
            let action = Action::MapIds { tree: *tree, recursive, maps };
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

    /// The path in the container's root of a source that an earlier mount covers: a copy from
    /// before that mount would show the covered files.
    fn below_a_mount(&self, source: &Path) -> Option<String> {
        let root = self.spec.root().as_ref().filter(|root| !root.path().as_os_str().is_empty())?;
        let clean = |path: &Path| clean(&self.in_bundle(path).to_string_lossy());
        let (source, root) = (clean(source), clean(root.path()));
        let inside = Path::new("/").join(Path::new(&source).strip_prefix(root).ok()?);
        let covered = self.covered.iter().any(|mount| inside.starts_with(mount));
        covered.then(|| inside.to_string_lossy().into_owned())
    }

    /// The change for a copy from before [`Action::SetPropagation`], which is a peer of the host's
    /// mount.
    pub(super) fn initial_change(&self, recursive: bool) -> Change {
        Change { propagation: Some(self.initial_propagation), recursive, ..Change::default() }
    }

    /// Whether a part of such a copy would stay a peer of the host's mount without being
    /// configured.
    fn stays_a_peer(&self, propagation: Option<(Propagation, bool)>, recursive: bool) -> bool {
        !self.loses_propagation(propagation)
            && propagation.is_none_or(|(_, deep)| recursive && !deep)
    }

    /// Whether a copy from after [`Action::SetPropagation`] could not have this propagation.
    fn loses_propagation(&self, propagation: Option<(Propagation, bool)>) -> bool {
        match propagation {
            Some((Propagation::Shared, _)) => true,
            Some((Propagation::Slave, _)) => self.initial_propagation == Propagation::Private,
            _ => false,
        }
    }

    fn remount(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        let mount_only = entry.is_bind() || matches!(entry.fstype, "" | "none");
        let settings = if mount_only {
            entry.refuse_what_binds_lack()?;
            None
        } else if entry.fstype == DEVTMPFS {
            entry.refuse_what_devtmpfs_lacks()?;
            None
        } else {
            entry.refuse_mount2_options()?;
            let mut settings = superblock_settings(entry, entry.options.single())?;
            settings.append(&mut data_settings(entry)?);
            Some(settings)
        };
        let changes = changes(&entry.options, entry.options.plain, true);
        let action = Action::Remount { target: entry.target()?, settings, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    pub(super) fn filesystem(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        let mut attributes = entry.options.single();
        self.make_read_only_later(entry, &mut attributes)?;
        let mut settings = data_settings(entry)?;
        let label = self.context(entry.fstype, &settings)?;
        let long = label.as_ref().is_some_and(is_long);
        if long || needs_mount2(&entry.options, &settings) {
            return self.legacy_mount(entry, attributes, label.as_ref());
        }
        let label_free = label.is_none();
        settings.extend(label);
        let mut all = superblock_settings(entry, attributes)?;
        let has_mode = settings
            .iter()
            .any(|setting| matches!(setting, FsOption::Text(key, _) if key.as_bytes() == b"mode"));
        all.extend(settings);
        let inherit_mode = entry.fstype == "tmpfs" && !has_mode;
        let simple = !inherit_mode && !entry.options.copy_up && label_free;
        let filesystem = Filesystem {
            fstype: string(entry.field.member("type"), entry.fstype)?,
            source: entry.source_name()?,
            mount2: if simple { mount2(entry, attributes, &all)? } else { None },
            settings: all,
            attributes: attributes.set,
            inherit_mode,
            copy_up: entry.options.copy_up,
        };
        let changes = propagation_change(&entry.options);
        let action = Action::Mount { filesystem, target: entry.target()?, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    /// Delays read-only for a tmpfs, in which mount points are created, and for `/dev` with its
    /// nodes.
    pub(super) fn make_read_only_later(
        &mut self,
        entry: &MountEntry<'a>,
        attributes: &mut Attributes,
    ) -> Result<(), Error> {
        let read_only = attributes.set & Attr::RDONLY.bits() != 0;
        let gets_content = entry.options.copy_up || !self.read_only_from_start;
        if read_only && gets_content && (entry.fstype == "tmpfs" || entry.destination == "/dev") {
            attributes.set &= !Attr::RDONLY.bits();
            let path = string(entry.field, entry.destination.as_str())?;
            self.enter.push(entry.op(Action::ReadOnlyMount(path)));
        }
        Ok(())
    }

    fn legacy_mount(
        &mut self,
        entry: &MountEntry<'a>,
        attributes: Attributes,
        label: Option<&FsOption>,
    ) -> Result<(), Error> {
        if entry.options.copy_up {
            let field = entry.field.member("options");
            return Err(Error::invalid(
                field,
                "tmpcopyup",
                "cannot be combined with silent or iversion",
            ));
        }
        let options = entry.options.data.iter().filter(|_| entry.fstype != DEVTMPFS);
        let data = options.map(|(_, text)| text.as_bytes().to_vec());
        let data: Vec<Vec<u8>> = data.chain(label.map(quoted_option)).collect();
        let action = Action::LegacyMount {
            fstype: string(entry.field, entry.fstype)?,
            source: entry.source_name()?.unwrap_or_default(),
            flags: mount2_flags(&entry.options, attributes),
            data: string(entry.field, data.join(&b','))?,
            target: entry.target()?,
            changes: propagation_change(&entry.options),
        };
        self.build.push(entry.op(action));
        Ok(())
    }
}
