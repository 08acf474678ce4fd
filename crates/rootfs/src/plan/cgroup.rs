//! Mounts of type `cgroup`: the container's view of its own cgroup, in whatever the host has.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use sys::mount::Attr;

use super::mounts::{Entry, changes, data_settings, propagation_change};
use super::{Planner, namespace, path_string, string};
use crate::op::{Action, Filesystem, Rule, Setting, Target};
use crate::options::Attributes;
use crate::{Cgroups, Error, Hierarchy};

impl<'a> Planner<'a> {
    pub(super) fn cgroup(&mut self, entry: &Entry<'a>) -> Result<(), Error> {
        let host = self.host;
        match &host.cgroups {
            None => Err(Error::NoCgroups { field: entry.field.into() }),
            Some(Cgroups::Unified { mountpoint, path }) => {
                if self.own_cgroup_view() {
                    self.new_view(entry, "cgroup2", data_settings(entry)?, entry.target()?)
                } else {
                    entry.refuse_what_binds_lack()?;
                    self.bind_cgroup(entry, &below(mountpoint, path), entry.target()?)
                }
            }
            Some(Cgroups::Several(hierarchies)) => self.several(entry, hierarchies),
        }
    }

    fn own_cgroup_view(&self) -> bool {
        namespace(self.spec, LinuxNamespaceType::Cgroup).is_some()
    }

    /// A new mount begins at the root of the cgroup namespace, which is the container's cgroup.
    fn new_view(
        &mut self,
        entry: &Entry<'a>,
        fstype: &str,
        settings: Vec<Setting>,
        target: Target,
    ) -> Result<(), Error> {
        let filesystem = Filesystem {
            fstype: string(entry.field, fstype)?,
            source: entry.source_name()?,
            settings,
            attributes: entry.options.single().set,
            inherit_mode: false,
            copy_up: false,
        };
        let changes = propagation_change(&entry.options);
        self.build.push(entry.op(Action::Mount { filesystem, target, changes }));
        Ok(())
    }

    /// Without a cgroup namespace a new mount would show the host's whole tree.
    fn bind_cgroup(&mut self, entry: &Entry<'a>, path: &Path, target: Target) -> Result<(), Error> {
        let mut attributes = entry.options.single();
        if self.host.user_namespace {
            // The container's root may own what a process outside it uses (CVE-2023-25809).
            attributes.set |= Attr::RDONLY.bits();
            attributes.clear &= !Attr::RDONLY.bits();
        }
        let path = path_string(entry.field, path)?;
        let mut changes = changes(&entry.options, attributes, false);
        if self.parent_opens {
            changes.insert(0, self.contained(false));
        }
        let source = self.source(entry.origin(), path, false, self.parent_opens);
        let action = Action::Bind { source, recursive: false, target, procfs: false, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    /// A tmpfs with a directory for each hierarchy.
    fn several(&mut self, entry: &Entry<'a>, hierarchies: &[Hierarchy]) -> Result<(), Error> {
        entry.refuse_what_binds_lack()?;
        let mut attributes =
            entry.options.single().then(Attributes { set: strict().bits(), clear: 0 });
        if attributes.set & Attr::RDONLY.bits() != 0 {
            attributes.set &= !Attr::RDONLY.bits();
            let path = string(entry.field, entry.destination.as_str())?;
            self.enter.push(entry.op(Action::ReadOnlyMount(path)));
        }
        let mode = Setting::Text(string(entry.field, "mode")?, string(entry.field, "755")?);
        let filesystem = Filesystem {
            fstype: string(entry.field, "tmpfs")?,
            source: Some(string(entry.field, "tmpfs")?),
            settings: std::iter::once(mode).chain(self.context("tmpfs", &[])?).collect(),
            attributes: attributes.set,
            inherit_mode: false,
            copy_up: false,
        };
        let changes = propagation_change(&entry.options);
        let target = entry.target()?;
        self.build.push(entry.op(Action::Mount { filesystem, target, changes }));
        hierarchies.iter().try_for_each(|hierarchy| self.one_of_several(entry, hierarchy))
    }

    fn one_of_several(&mut self, entry: &Entry<'a>, hierarchy: &Hierarchy) -> Result<(), Error> {
        let name = hierarchy.mountpoint.file_name().unwrap_or_default().to_string_lossy();
        let path = string(entry.field, format!("{}/{name}", entry.destination))?;
        let target = Target { path, rule: Rule::OutsideProc };
        if self.own_cgroup_view() {
            let fstype = if hierarchy.controllers.is_empty() { "cgroup2" } else { "cgroup" };
            self.new_view(entry, fstype, controllers(entry, hierarchy)?, target)?;
        } else {
            let path = below(&hierarchy.mountpoint, &hierarchy.path);
            self.bind_cgroup(entry, &path, target)?;
        }
        self.link_controllers(entry, hierarchy, &name)
    }

    /// `cpu -> cpu,cpuacct`: programs look for one controller by its name.
    fn link_controllers(
        &mut self,
        entry: &Entry<'a>,
        hierarchy: &Hierarchy,
        directory: &str,
    ) -> Result<(), Error> {
        if hierarchy.controllers.len() < 2 {
            return Ok(());
        }
        for controller in hierarchy.controllers.iter().filter(|name| !name.contains('=')) {
            let action = Action::Symlink {
                directory: entry.target()?,
                name: string(entry.field, controller.as_str())?,
                points_to: string(entry.field, directory)?,
                replace: false,
            };
            self.build.push(entry.op(action));
        }
        Ok(())
    }
}

/// Nothing in the tmpfs itself is a program, a device or set-user-ID.
fn strict() -> Attr {
    Attr::NOSUID | Attr::NODEV | Attr::NOEXEC
}

/// Names the hierarchy to mount, by its controllers or its name (cgroups(7)).
fn controllers(entry: &Entry<'_>, hierarchy: &Hierarchy) -> Result<Vec<Setting>, Error> {
    let setting = |name: &String| super::mounts::setting(entry.field, name);
    let mut settings: Vec<Setting> =
        hierarchy.controllers.iter().map(setting).collect::<Result<_, _>>()?;
    if hierarchy.controllers.iter().all(|name| name.starts_with("name=")) && !settings.is_empty() {
        settings.insert(0, Setting::Flag(string(entry.field, "none")?));
    }
    Ok(settings)
}

fn below(mountpoint: &Path, path: &Path) -> PathBuf {
    mountpoint.join(path.strip_prefix("/").unwrap_or(path))
}
