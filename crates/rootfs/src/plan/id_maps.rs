//! Id-mapped mounts: which ids of a mount's files are seen as which others.

use std::fmt::Write as _;

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};

use super::mounts::Entry;
use crate::Error;

/// The maps of one mount, as the kernel takes them for a user namespace.
pub(super) struct IdMaps {
    pub(super) uids: String,
    pub(super) gids: String,
}

/// Whether any mount of the configuration is id-mapped.
pub(super) fn any(spec: &Spec) -> bool {
    spec.mounts().iter().flatten().any(|mount| {
        let option = |option: &String| option == "idmap" || option == "ridmap";
        asks(mount) || mount.options().iter().flatten().any(option)
    })
}

/// Whether a mount has mappings of its own; an empty list is as good as none.
fn asks(mount: &Mount) -> bool {
    [mount.uid_mappings(), mount.gid_mappings()]
        .into_iter()
        .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}

impl Entry<'_> {
    /// The entry's own maps; without them, where an option asks for some, the container's.
    pub(super) fn id_maps(&self, spec: &Spec) -> Result<Option<IdMaps>, Error> {
        if !asks(self.mount) && self.options.idmap.is_none() {
            return Ok(None);
        }
        let linux = spec.linux().as_ref();
        let own = asks(self.mount);
        let (uids, gids) = match own {
            true => (self.mount.uid_mappings().as_ref(), self.mount.gid_mappings().as_ref()),
            false => (
                linux.and_then(|linux| linux.uid_mappings().as_ref()),
                linux.and_then(|linux| linux.gid_mappings().as_ref()),
            ),
        };
        let lines = |name: &'static str, list: Option<&Vec<LinuxIdMapping>>| match list {
            Some(list) if !list.is_empty() => Ok(lines(list)),
            _ => {
                let field = self.field.member(name);
                let reason = "id-mapped mounts need mappings, of their own or of the container";
                Err(Error::invalid(field, "[]", reason))
            }
        };
        let (uids, gids) = (lines("uidMappings", uids)?, lines("gidMappings", gids)?);
        Ok(Some(IdMaps { uids, gids }))
    }

    /// Ids are mapped for what is bound: a file system of the container's own has its own ids.
    pub(super) fn refuse_id_maps(&self) -> Result<(), Error> {
        if asks(self.mount) || self.options.idmap.is_some() {
            let field = self.field.member("uidMappings");
            return Err(Error::invalid(field, self.fstype, "ids are mapped for bind mounts only"));
        }
        Ok(())
    }
}

fn lines(list: &[LinuxIdMapping]) -> String {
    list.iter().fold(String::new(), |mut text, map| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", map.container_id(), map.host_id(), map.size());
        text
    })
}
