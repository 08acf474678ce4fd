//! Mounts of type `cgroup`: the container's own cgroup, in the trees that the host has; on cgroup
//! v2 without a cgroup namespace, the whole tree.

use std::path::{Path, PathBuf};

use davit_sys::mount::Attr;
use oci_spec::runtime::LinuxNamespaceType;

use super::entry::MountEntry;
use super::fs_options::{changes, data_settings, propagation_change, setting};
use super::{Planner, namespace, path_string, string};
use crate::op::{Action, Filesystem, FsOption, LookupPolicy, Target};
use crate::options::Attributes;
use crate::{Cgroups, Error, Hierarchy};

impl<'a> Planner<'a> {
    pub(super) fn cgroup(&mut self, entry: &MountEntry<'a>) -> Result<(), Error> {
        let host = self.host;
        match &host.cgroups {
            None => Err(Error::NoCgroups { field: entry.field.into() }),
            Some(Cgroups::Unified { mountpoint }) => {
                if self.has_cgroup_namespace() {
                    self.mount_cgroup(entry, "cgroup2", data_settings(entry)?, entry.target()?)
                } else {
                    // The whole tree, as in runc and crun: /proc/self/cgroup has a path in it. The
                    // container's cgroup may not exist yet.
                    entry.refuse_what_binds_lack()?;
                    self.bind_cgroup(entry, mountpoint, entry.target()?)
                }
            }
            Some(Cgroups::Several(hierarchies)) => self.several(entry, hierarchies),
        }
    }

    fn has_cgroup_namespace(&self) -> bool {
        namespace(self.spec, LinuxNamespaceType::Cgroup).is_some()
    }

    /// The root of a new mount is that of the cgroup namespace: the container's cgroup.
    fn mount_cgroup(
        &mut self,
        entry: &MountEntry<'a>,
        fstype: &str,
        settings: Vec<FsOption>,
        target: Target,
    ) -> Result<(), Error> {
        let filesystem = Filesystem {
            fstype: string(entry.field, fstype)?,
            source: entry.source_name()?,
            settings,
            attributes: entry.options.single().set,
            inherit_mode: false,
            copy_up: false,
            mount2: None,
        };
        let changes = propagation_change(&entry.options);
        self.build.push(entry.op(Action::Mount { filesystem, target, changes }));
        Ok(())
    }

    /// Without a cgroup namespace the root of a new mount would be the host's, so this bind mounts.
    fn bind_cgroup(
        &mut self,
        entry: &MountEntry<'a>,
        path: &Path,
        target: Target,
    ) -> Result<(), Error> {
        let mut attributes = entry.options.single();
        if self.host.user_namespace {
            // The container's root user may own cgroups of processes outside (CVE-2023-25809).
            attributes.set |= Attr::RDONLY.bits();
            attributes.clear &= !Attr::RDONLY.bits();
        }
        let path = path_string(entry.field, path)?;
        let mut changes = changes(&entry.options, attributes, false);
        if self.parent_opens {
            changes.insert(0, self.initial_change(false));
        }
        let source = self.source(entry.origin(), path, false, self.parent_opens);
        let action = Action::Bind { source, recursive: false, target, procfs: false, changes };
        self.build.push(entry.op(action));
        Ok(())
    }

    /// A tmpfs with a directory for each hierarchy.
    fn several(&mut self, entry: &MountEntry<'a>, hierarchies: &[Hierarchy]) -> Result<(), Error> {
        entry.refuse_what_binds_lack()?;
        let mut attributes =
            entry.options.single().then(Attributes { set: strict().bits(), clear: 0 });
        if attributes.set & Attr::RDONLY.bits() != 0 {
            attributes.set &= !Attr::RDONLY.bits();
            let path = string(entry.field, entry.destination.as_str())?;
            self.enter.push(entry.op(Action::ReadOnlyMount(path)));
        }
        let mode = FsOption::Text(string(entry.field, "mode")?, string(entry.field, "755")?);
        let filesystem = Filesystem {
            fstype: string(entry.field, "tmpfs")?,
            source: Some(string(entry.field, "tmpfs")?),
            settings: std::iter::once(mode).chain(self.context("tmpfs", &[])?).collect(),
            attributes: attributes.set,
            inherit_mode: false,
            copy_up: false,
            mount2: None,
        };
        let changes = propagation_change(&entry.options);
        let target = entry.target()?;
        self.build.push(entry.op(Action::Mount { filesystem, target, changes }));
        hierarchies.iter().try_for_each(|hierarchy| self.one_of_several(entry, hierarchy))
    }

    fn one_of_several(
        &mut self,
        entry: &MountEntry<'a>,
        hierarchy: &Hierarchy,
    ) -> Result<(), Error> {
        let name = hierarchy.mountpoint.file_name().unwrap_or_default().to_string_lossy();
        let path = string(entry.field, format!("{}/{name}", entry.destination))?;
        let target = Target { path, policy: LookupPolicy::OutsideProc };
        if self.has_cgroup_namespace() {
            let fstype = if hierarchy.controllers.is_empty() { "cgroup2" } else { "cgroup" };
            self.mount_cgroup(entry, fstype, controllers(entry, hierarchy)?, target)?;
        } else {
            let path = below(&hierarchy.mountpoint, &hierarchy.path);
            self.bind_cgroup(entry, &path, target)?;
        }
        self.link_controllers(entry, hierarchy, &name)
    }

    /// Links such as `cpu -> cpu,cpuacct`, because programs look up a controller by its name.
    fn link_controllers(
        &mut self,
        entry: &MountEntry<'a>,
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

/// The attributes of the tmpfs, which has no programs and no devices.
fn strict() -> Attr {
    Attr::NOSUID | Attr::NODEV | Attr::NOEXEC
}

/// The options that select the hierarchy to mount, by its controllers or its name (cgroups(7)).
fn controllers(entry: &MountEntry<'_>, hierarchy: &Hierarchy) -> Result<Vec<FsOption>, Error> {
    let option = |name: &String| setting(entry.field, name);
    let mut settings: Vec<FsOption> =
        hierarchy.controllers.iter().map(option).collect::<Result<_, _>>()?;
    if hierarchy.controllers.iter().all(|name| name.starts_with("name=")) && !settings.is_empty() {
        settings.insert(0, FsOption::Flag(string(entry.field, "none")?));
    }
    Ok(settings)
}

fn below(mountpoint: &Path, path: &Path) -> PathBuf {
    mountpoint.join(path.strip_prefix("/").unwrap_or(path))
}
