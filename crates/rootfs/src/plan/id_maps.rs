//! Id-mapped mounts.

use std::fmt::Write as _;

use davit_sys::IdMapping;
use oci_spec::runtime::{LinuxIdMapping, Spec};

use super::Planner;
use super::entry::{MountEntry, has_id_maps};
use crate::Error;
use crate::op::IdMaps;
use crate::options::idmap;

/// Whether any mount of the configuration is id-mapped.
pub(super) fn any(spec: &Spec) -> bool {
    spec.mounts().iter().flatten().any(|mount| {
        has_id_maps(mount) || mount.options().iter().flatten().any(|option| idmap(option).is_some())
    })
}

/// The mappings of the container's user namespace in config.json.
fn container_maps(spec: &Spec) -> [Option<&Vec<LinuxIdMapping>>; 2] {
    let linux = spec.linux().as_ref();
    [
        linux.and_then(|linux| linux.uid_mappings().as_ref()),
        linux.and_then(|linux| linux.gid_mappings().as_ref()),
    ]
}

impl Planner<'_> {
    /// The mount's own maps: its fields', or those of its option. Without them, where an option
    /// has_id_maps for some, the container's.
    pub(super) fn id_maps(&self, entry: &MountEntry<'_>) -> Result<Option<IdMaps>, Error> {
        let mount = entry.mount;
        let [uids, gids] = match (&entry.options.id_maps, entry.options.idmap) {
            _ if has_id_maps(mount) => {
                [mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref()]
            }
            (Some((index, text)), _) => {
                let field = entry.field.option(*index);
                let maps = parse_option(text, self.spec);
                return maps.map(Some).map_err(|reason| Error::invalid(field, text, reason));
            }
            (None, None) => return Ok(None),
            (None, Some(_)) => match self.host.joined_user_namespace {
                Some(slot) if self.parent_opens => return Ok(Some(IdMaps::Namespace(slot))),
                _ => container_maps(self.spec),
            },
        };
        let lines = |name: &'static str, list: Option<&Vec<LinuxIdMapping>>| match list {
            Some(list) if !list.is_empty() => Ok(IdMapping::lines(&mappings(list))),
            _ => {
                let field = entry.field.member(name);
                let reason = "id-mapped mounts need mappings, of their own or of the container";
                Err(Error::invalid(field, "[]", reason))
            }
        };
        let (uids, gids) = (lines("uidMappings", uids)?, lines("gidMappings", gids)?);
        Ok(Some(IdMaps::Lines { uids, gids }))
    }

    /// The host ids of `uid` and `gid` in the container; root if they are not mapped.
    pub(super) fn owner_outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let [uids, gids] = container_maps(self.spec);
        (to_host(uid, uids).unwrap_or(0), to_host(gid, gids).unwrap_or(0))
    }
}

/// The mappings as lines of a map.
fn mappings(list: &[LinuxIdMapping]) -> Vec<IdMapping> {
    let mapping = |map: &LinuxIdMapping| IdMapping {
        container: map.container_id(),
        host: map.host_id(),
        size: map.size(),
    };
    list.iter().map(mapping).collect()
}

/// Parses the maps of crun(1)'s option, `uids=0-3000-10#10-20-5;gids=@0-0-10`: file id, host id and
/// count. With an `@` the second is an id of the container.
fn parse_option(text: &str, spec: &Spec) -> Result<IdMaps, &'static str> {
    let [container_uids, container_gids] = container_maps(spec);
    let (mut uids, mut gids) = (String::new(), String::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (lines, ranges, container) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges, container_uids),
            Some(("gids", ranges)) => (&mut gids, ranges, container_gids),
            _ => return Err("must be uids=FROM-TO-COUNT;gids=FROM-TO-COUNT"),
        };
        for range in ranges.split('#').filter(|range| !range.is_empty()) {
            let mapping = parse_range(range, container)?;
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{mapping}");
        }
    }
    match uids.is_empty() || gids.is_empty() {
        true => Err("needs both uids and gids"),
        false => Ok(IdMaps::Lines { uids, gids }),
    }
}

fn parse_range(
    range: &str,
    container: Option<&Vec<LinuxIdMapping>>,
) -> Result<IdMapping, &'static str> {
    let plain = range.strip_prefix('@');
    let numbers: Result<Vec<u32>, _> = plain.unwrap_or(range).split('-').map(str::parse).collect();
    let (from, to, count) = match numbers.as_deref() {
        Ok([from, to, count]) if *count > 0 => (*from, *to, *count),
        _ => return Err("must have ranges FROM-TO-COUNT, with a # between them"),
    };
    let host = match plain {
        None => to,
        Some(_) => to_host(to, container)
            .ok_or("an id is not mapped in the user namespace of the container")?,
    };
    Ok(IdMapping { container: from, host, size: count })
}

/// The host id of the id `id` of the container.
fn to_host(id: u32, maps: Option<&Vec<LinuxIdMapping>>) -> Option<u32> {
    mappings(maps?).iter().find_map(|mapping| mapping.to_host(id))
}
