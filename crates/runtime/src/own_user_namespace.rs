//! The user namespace without which an ordinary user's container cannot be, where config.json
//! does not ask for one or does not say whom it maps.

use std::fs;

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec,
};

use crate::host::Host;

/// Adds what is missing: the namespace, and maps in which root inside is the caller, and the ids
/// after it are those that subuid(5) and subgid(5) grant the caller, in their order. Where nothing
/// is granted, or newuidmap(1) and newgidmap(1) are missing, root is all there is.
pub(crate) fn complete(spec: &mut Spec, host: &Host) {
    let Some(linux) = spec.linux_mut().as_mut().filter(|_| !host.is_privileged()) else { return };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let given = namespaces.iter().find(|one| one.typ() == LinuxNamespaceType::User);
    let said = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    if given.is_some_and(|user| user.path().is_some())
        || said(linux.uid_mappings())
        || said(linux.gid_mappings())
    {
        return;
    }
    if given.is_none() {
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User);
        namespaces.push(user);
        linux.set_namespaces(Some(namespaces));
    }
    let caller = Caller::of(host.uid);
    let helpers = ["newuidmap", "newgidmap"].into_iter().all(is_installed);
    let granted = |path| {
        let text =
            if helpers { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        caller.granted(&text)
    };
    let (uids, gids) = (granted("/etc/subuid"), granted("/etc/subgid"));
    // The kernel lets a user map more than one id only through the helpers: both maps or none.
    let both = !uids.is_empty() && !gids.is_empty();
    let map = |own, ranges: Vec<_>| mappings(own, if both { ranges } else { Vec::new() });
    linux.set_uid_mappings(Some(map(host.uid, uids)));
    linux.set_gid_mappings(Some(map(nix::unistd::getegid().as_raw(), gids)));
}

/// A user as subuid(5) may call it.
struct Caller {
    id: String,
    /// From /etc/passwd; other name services are not asked, by a static program.
    name: Option<String>,
}

impl Caller {
    fn of(uid: u32) -> Self {
        let id = uid.to_string();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut users = passwd.lines().map(|line| line.split(':'));
        let name = users.find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == id).then(|| name.to_owned())
        });
        Self { id, name }
    }

    /// The ranges (first id, how many) of the lines `USER:FIRST:COUNT` that are about it.
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
        // It fails for want of a part, and has them all.
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
