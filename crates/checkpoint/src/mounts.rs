//! Which mounts of a container CRIU dumps, and which have a source outside.
//!
//! CRIU dumps a file system that the container alone has, such as a tmpfs, and mounts those of the
//! kernel anew. A mount of a file system that the host has too is a bind mount: the image has its
//! name, and a restore its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount as Entry, Spec};

use crate::Error;
use crate::image::{External, ExternalKind};
use crate::mountinfo::Mount;

/// The types that CRIU dumps or mounts anew.
const DUMPED: [&str; 14] = [
    "binfmt_misc",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "mqueue",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// The types that are the host's too, where the container shares the namespace.
const SHARED: [&str; 5] = ["cgroup", "cgroup2", "mqueue", "proc", "sysfs"];

/// The mounts of a container, and what they are compared with.
pub(crate) struct Mounts<'a> {
    pub(crate) spec: &'a Spec,
    /// The container's root on the host.
    pub(crate) root: &'a Path,
    /// Of the container.
    pub(crate) own: &'a [Mount],
    /// Of the host.
    pub(crate) host: &'a [Mount],
    /// Where each of `mounts` of config.json is, without symbolic links.
    pub(crate) places: &'a [Option<PathBuf>],
    /// The mount points that are device nodes, each with the node's path on the host.
    pub(crate) nodes: &'a BTreeMap<PathBuf, PathBuf>,
    /// Whether the container sees its own cgroups as the root.
    pub(crate) cgroup_namespace: bool,
}

impl Mounts<'_> {
    /// The mounts whose sources are outside, each with its field.
    pub(crate) fn external(&self) -> Vec<Result<(External, String), Error>> {
        let is_root = |mount: &&Mount| mount.mountpoint == Path::new("/");
        let dumped = self.dumped_devices();
        let others = self.own.iter().filter(|mount| !is_root(mount));
        let outside = others.filter(|mount| !dumped.contains(mount.device.as_str()));
        outside.filter_map(|mount| self.classify(mount).transpose()).collect()
    }

    /// The file systems that are dumped, or mounted anew.
    fn dumped_devices(&self) -> BTreeSet<&str> {
        let is_own = |mount: &&Mount| {
            let bind = self.entry_at(&mount.mountpoint).is_some_and(|(_, entry)| is_bind(entry));
            let whole = mount.root == Path::new("/") && DUMPED.contains(&mount.fstype.as_str());
            let shared = SHARED.contains(&mount.fstype.as_str()) && !is_cgroup(mount);
            let of_host = self.host.iter().any(|other| other.device == mount.device);
            whole && !bind && (shared || !of_host)
        };
        self.own.iter().filter(is_own).map(|mount| mount.device.as_str()).collect()
    }

    fn classify(&self, mount: &Mount) -> Result<Option<(External, String)>, Error> {
        let mountpoint = mount.mountpoint.clone();
        let external = |destination: PathBuf, kind| External {
            mountpoint: mountpoint.clone(),
            destination,
            kind,
        };
        let entry = self.entry_above(&mount.mountpoint);
        if is_cgroup(mount) && !entry.is_some_and(|(.., entry)| is_bind(entry)) {
            if self.cgroup_namespace {
                return Ok(None);
            }
            // A later mount may cover an earlier one of the same hierarchy.
            let is_whole =
                |other: &&Mount| other.device == mount.device && other.root == Path::new("/");
            let hierarchy = self.host.iter().rfind(is_whole);
            let hierarchy = hierarchy.ok_or_else(|| unknown(mount))?.mountpoint.clone();
            let field = entry.map_or_else(String::new, |(index, ..)| field(index));
            return Ok(Some((external(hierarchy, ExternalKind::Cgroup), field)));
        }
        if let Some((index, place, entry)) = entry
            && (is_bind(entry) || (is_overlay(entry) && place == mount.mountpoint))
        {
            let below = mount.mountpoint.strip_prefix(place).unwrap_or(Path::new(""));
            let destination = match below.as_os_str().is_empty() {
                true => entry.destination().clone(),
                false => entry.destination().join(below),
            };
            return Ok(Some((external(destination, ExternalKind::Bind), field(index))));
        }
        if let Some(node) = self.nodes.get(&mount.mountpoint) {
            let field = format!("device {}", mountpoint.display());
            return Ok(Some((external(node.clone(), ExternalKind::Device), field)));
        }
        let below = mount.mountpoint.strip_prefix("/").unwrap_or(&mount.mountpoint);
        if self.host.iter().any(|other| other.mountpoint == self.root.join(below)) {
            let root = external(mountpoint.clone(), ExternalKind::Root);
            return Ok(Some((root, "root.path".to_owned())));
        }
        if self.is_in_root(mount) {
            return Ok(None);
        }
        Err(self.refuse(mount))
    }

    /// Whether it shows a part of the container's root, as `readonlyPaths` does: CRIU makes that of
    /// the root's mount.
    fn is_in_root(&self, mount: &Mount) -> bool {
        let root = self.own.iter().find(|other| other.mountpoint == Path::new("/"));
        root.is_some_and(|root| root.device == mount.device && mount.root.starts_with(&root.root))
    }

    fn refuse(&self, mount: &Mount) -> Error {
        match self.entry_at(&mount.mountpoint) {
            Some((index, _)) => Error::refused(
                field(index),
                format!("a file system of type {} cannot be dumped", mount.fstype),
            ),
            None => unknown(mount),
        }
    }

    /// The entry of config.json that is mounted exactly there; of several the last.
    fn entry_at(&self, mountpoint: &Path) -> Option<(usize, &Entry)> {
        let found = self.entries().filter(|(_, place, _)| *place == mountpoint);
        found.last().map(|(index, _, entry)| (index, entry))
    }

    /// The nearest entry of config.json that is mounted there or above.
    fn entry_above(&self, mountpoint: &Path) -> Option<(usize, &Path, &Entry)> {
        let above = self.entries().filter(|(_, place, _)| mountpoint.starts_with(place));
        above.max_by_key(|(_, place, _)| place.components().count())
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &Path, &Entry)> {
        let entries = self.spec.mounts().iter().flatten().enumerate();
        entries
            .zip(self.places)
            .filter_map(|((index, entry), place)| Some((index, place.as_deref()?, entry)))
    }
}

fn unknown(mount: &Mount) -> Error {
    let path = mount.mountpoint.display();
    Error::refused(
        format!("mount {path}"),
        "is not in mounts of config.json: its source is unknown",
    )
    .with_hint("`davit mounts remove` unmounts what `davit mounts add` has mounted")
}

fn field(index: usize) -> String {
    format!("mounts[{index}]")
}

fn is_cgroup(mount: &Mount) -> bool {
    matches!(mount.fstype.as_str(), "cgroup" | "cgroup2")
}

/// Whether an entry of `mounts` is a bind mount.
pub(crate) fn is_bind(entry: &Entry) -> bool {
    let mut options = entry.options().iter().flatten();
    entry.typ().as_deref() == Some("bind") || options.any(|option| is_bind_option(option))
}

fn is_bind_option(option: &str) -> bool {
    matches!(option, "bind" | "rbind")
}

/// Whether an entry of `mounts` is an overlay.
pub(crate) fn is_overlay(entry: &Entry) -> bool {
    entry.typ().as_deref() == Some("overlay") && !is_bind(entry)
}

/// Whether davit mounts it at the restore, and CRIU gets that mount as the source: CRIU binds what
/// it gets, as it is.
pub(crate) fn is_staged(entry: &Entry) -> bool {
    is_overlay(entry) || maps_ids(entry)
}

/// The options that map the ids of files.
fn maps_ids(entry: &Entry) -> bool {
    let mut options = entry.options().iter().flatten();
    let some = |list: &Option<Vec<oci_spec::runtime::LinuxIdMapping>>| {
        list.as_ref().is_some_and(|list| !list.is_empty())
    };
    some(entry.uid_mappings())
        || some(entry.gid_mappings())
        || options.any(|option| matches!(option.as_str(), "idmap" | "ridmap"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo;

    const HOST: &str = "\
        24 1 0:6 / /dev rw - devtmpfs devtmpfs rw\n\
        25 1 254:0 / / rw - ext4 /dev/vda rw\n\
        26 25 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        27 25 0:60 / /b/rootfs/sub rw - tmpfs tmpfs rw\n";

    const OWN: &str = "\
        65 43 254:0 /b/rootfs / rw - ext4 /dev/vda rw\n\
        66 65 0:40 / /proc rw - proc proc rw\n\
        48 66 0:40 /sys /proc/sys ro - proc proc rw\n\
        67 65 0:41 / /dev rw - tmpfs tmpfs rw\n\
        50 66 0:41 /null /proc/keys rw - tmpfs tmpfs rw\n\
        72 65 0:45 / /run/cgroup ro - tmpfs tmpfs rw\n\
        73 72 0:29 /web /run/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
        83 65 254:0 /srv /data rw - ext4 /dev/vda rw\n\
        84 83 0:61 / /data/deep rw - tmpfs tmpfs rw\n\
        85 67 0:6 /fuse /dev/fuse rw - devtmpfs devtmpfs rw\n\
        86 65 0:60 / /sub rw - tmpfs tmpfs rw\n\
        89 65 254:0 /b/rootfs/etc /etc ro - ext4 /dev/vda rw\n";

    fn spec(mounts: serde_json::Value) -> Spec {
        let spec = serde_json::json!({ "ociVersion": "1.3.0", "mounts": mounts });
        serde_json::from_value(spec).unwrap()
    }

    fn external(
        spec: &Spec,
        places: &[&str],
        own: &str,
        namespace: bool,
    ) -> Result<Vec<String>, Error> {
        let host = format!("{HOST}28 25 0:61 / /srv/deep rw - tmpfs tmpfs rw\n");
        let places: Vec<_> = places.iter().map(|place| Some(PathBuf::from(place))).collect();
        let mounts = Mounts {
            spec,
            root: Path::new("/b/rootfs"),
            own: &mountinfo::parse(own.as_bytes()),
            host: &mountinfo::parse(host.as_bytes()),
            places: &places,
            nodes: &BTreeMap::from([("/dev/fuse".into(), "/dev/fuse".into())]),
            cgroup_namespace: namespace,
        };
        let show = |(external, field): (External, String)| {
            let External { mountpoint, destination, kind } = external;
            format!("{} {} {kind:?} {field}", mountpoint.display(), destination.display())
        };
        mounts.external().into_iter().map(|one| one.map(show)).collect()
    }

    fn usual() -> Spec {
        spec(serde_json::json!([
            { "destination": "/proc", "type": "proc" },
            { "destination": "/var/run/cgroup", "type": "cgroup" },
            { "destination": "/link", "type": "bind", "source": "/srv", "options": ["rbind"] },
        ]))
    }

    #[test]
    fn mounts_with_a_source_outside_are_external() {
        let places = ["/proc", "/run/cgroup", "/data"];
        let list = external(&usual(), &places, OWN, true).unwrap();
        let expected = [
            "/data /link Bind mounts[2]",
            "/data/deep /link/deep Bind mounts[2]",
            "/dev/fuse /dev/fuse Device device /dev/fuse",
            "/sub /sub Root root.path",
        ];
        assert_eq!(list, expected);
        let list = external(&usual(), &places, OWN, false).unwrap();
        assert_eq!(list[0], "/run/cgroup/cpu /sys/fs/cgroup/cpu Cgroup mounts[1]");
    }

    #[test]
    fn a_mount_of_unknown_source_is_refused_by_its_path() {
        let own = format!("{OWN}87 65 254:0 /home /added rw - ext4 /dev/vda rw\n");
        let error = external(&usual(), &["/proc", "/run/cgroup", "/data"], &own, true).unwrap_err();
        assert!(error.to_string().starts_with("mount /added: is not in mounts"), "{error}");
        let fuse = spec(serde_json::json!([{ "destination": "/o", "type": "fuse" }]));
        let own = "88 65 0:77 / /o rw - fuse fuse rw\n";
        let error = external(&fuse, &["/o"], own, true).unwrap_err();
        assert_eq!(error.to_string(), "mounts[0]: a file system of type fuse cannot be dumped");
    }

    #[test]
    fn an_overlay_of_config_json_is_external() {
        let overlay = spec(serde_json::json!([{ "destination": "/o", "type": "overlay" }]));
        let own = "88 65 0:77 / /o rw - overlay overlay rw\n";
        let list = external(&overlay, &["/o"], own, true).unwrap();
        assert_eq!(list, ["/o /o Bind mounts[0]"]);
        // Another one in it is not.
        let own = format!("{own}89 88 0:78 / /o/in rw - overlay overlay rw\n");
        external(&overlay, &["/o"], &own, true).unwrap_err();
    }
}
