//! The user namespace of a container of an unprivileged user, if config.json has none or has no
//! mappings; and the mappings of root's container, if config.json has a user namespace without
//! mappings, such as that of `crun spec --rootless`.

use std::fs;

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec,
};

use crate::host::Host;
use crate::passwd;

/// Adds the namespace, and mappings if there are none: root inside is the caller, and the ids after
/// it are those that subuid(5) and subgid(5) grant the caller, in their order. If they grant
/// nothing, or newuidmap(1) and newgidmap(1) are missing, root is the only id.
///
/// A container of root gets mappings only, for a namespace in config.json. If nothing is granted to
/// root, the ids up to that of the process are mapped to themselves, as by crun; the result is then
/// a warning.
pub(crate) fn add_user_namespace(spec: &mut Spec, host: &Host) -> Option<String> {
    let user = spec.process().as_ref().map(|process| (process.user().uid(), process.user().gid()));
    let linux = spec.linux_mut().as_mut()?;
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let given = namespaces.iter().find(|one| one.typ() == LinuxNamespaceType::User);
    let has_some = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    if given.is_some_and(|user| user.path().is_some())
        || has_some(linux.uid_mappings())
        || has_some(linux.gid_mappings())
        || (host.is_privileged() && given.is_none())
    {
        return None;
    }
    if given.is_none() {
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User);
        namespaces.push(user);
        linux.set_namespaces(Some(namespaces));
    }
    let caller = Caller::of(host.uid);
    let helpers = host.is_privileged() || ["newuidmap", "newgidmap"].into_iter().all(is_installed);
    let granted = |path| {
        let text =
            if helpers { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        caller.granted(&text)
    };
    let (uids, gids) = (granted("/etc/subuid"), granted("/etc/subgid"));
    // A user can map more than one id only through the helpers: both maps or none.
    let both = !uids.is_empty() && !gids.is_empty();
    if host.is_privileged() && !both {
        let (uid, gid) = user.unwrap_or_default();
        linux.set_uid_mappings(Some(themselves(uid)));
        linux.set_gid_mappings(Some(themselves(gid)));
        let words = "are missing: ids of the user namespace are those of the host";
        return Some(format!("linux.uidMappings: {words}"));
    }
    let map = |own, ranges: Vec<_>| mappings(own, if both { ranges } else { Vec::new() });
    linux.set_uid_mappings(Some(map(host.uid, uids)));
    linux.set_gid_mappings(Some(map(nix::unistd::getegid().as_raw(), gids)));
    None
}

/// Maps the ids from 0 to `last` to themselves.
fn themselves(last: u32) -> Vec<LinuxIdMapping> {
    let map = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(0_u32);
    // The builder fails if a part is missing: none is.
    map.size(last.saturating_add(1)).build().into_iter().collect()
}

/// A user, by the names in subuid(5).
struct Caller {
    id: String,
    /// The name in /etc/passwd.
    name: Option<String>,
}

impl Caller {
    fn of(uid: u32) -> Self {
        let id = uid.to_string();
        let name = passwd::name(uid);
        Self { id, name }
    }

    /// The ranges (first id, count) of the lines `USER:FIRST:COUNT` for this user.
    fn granted(&self, text: &str) -> Vec<(u32, u32)> {
        let range = |line: &str| {
            let mut fields = line.trim().split(':');
            let user = fields.next()?;
            let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let ours = user == self.id || Some(user) == self.name.as_deref();
            (ours && count > 0).then_some((first, count))
        };
        text.lines().filter_map(range).collect()
    }
}

fn mappings(own: u32, ranges: Vec<(u32, u32)>) -> Vec<LinuxIdMapping> {
    let mut next = 0_u32;
    let mut maps = Vec::new();
    for (first, count) in std::iter::once((own, 1)).chain(ranges) {
        let map = LinuxIdMappingBuilder::default().container_id(next).host_id(first).size(count);
        // The builder fails if a part is missing: none is.
        maps.extend(map.build());
        let Some(after) = next.checked_add(count) else { break };
        next = after;
    }
    maps
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { id: "1000".to_owned(), name: Some("bob".to_owned()) }
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text =
            "alice:1:1\nbob:100000:65536\n1000:300000:10\n10000:5:5\nbob:x:1\nbob:7:0\nbob\n";
        assert_eq!(caller().granted(text), [(100_000, 65536), (300_000, 10)]);
        assert!(caller().granted("").is_empty());
    }

    #[test]
    fn root_is_the_caller_and_the_rest_follows() {
        let maps = mappings(1000, vec![(100_000, 65536), (300_000, 10)]);
        let told: Vec<_> =
            maps.iter().map(|map| (map.container_id(), map.host_id(), map.size())).collect();
        assert_eq!(told, [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]);
    }

    #[test]
    fn a_count_that_reaches_past_the_last_id_is_left_to_the_check() {
        assert_eq!(mappings(1000, vec![(1, u32::MAX), (2, 2)]).len(), 2);
    }
}
