//! What cgroup trees this host has. Reading only, and as little as the plan needs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use sys::During;

use crate::file;
use crate::path::below_mount;
use crate::plan::Request;
use crate::systemd::Systemd;

/// Where every distribution mounts them (file-hierarchy(7)).
const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that a cgroup v1 hierarchy can carry; its other mount options are no controllers.
const V1_CONTROLLERS: [&str; 16] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    "debug",
    "dmem",
];

/// The cgroup trees of a host: cgroup v2 (`unified`), v1 (`hierarchies`), or both (hybrid).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The cgroup v2 tree.
    pub unified: Option<Unified>,
    /// The cgroup v1 trees, `name=systemd` among them.
    pub hierarchies: Vec<Hierarchy>,
}

/// The cgroup v2 tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unified {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The controllers that its root offers.
    pub controllers: Vec<String>,
}

/// One cgroup v1 tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its controllers, or its name as `name=systemd`.
    pub controllers: Vec<String>,
}

/// What [`crate::plan`] wants to know of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The cgroup trees.
    pub layout: Layout,
    /// Whether an ordinary user, or root of a user namespace, asks.
    pub rootless: bool,
    /// Whether the cgroup of the request can be made. Looked at for a rootless request only.
    pub writable: bool,
    /// The systemd that makes cgroups; none where files are written for that.
    pub systemd: Option<Systemd>,
}

impl Host {
    /// Looks at this host, for this request.
    ///
    /// # Errors
    /// A failed system call; that there is no cgroup file system at all is not one.
    pub fn discover(request: &Request<'_>, rootless: bool) -> Result<Self, sys::Error> {
        let layout = Layout::discover()?;
        // A path that cannot be planned is the plan's to refuse.
        let writable = !rootless
            || below_mount(request.path, request.id).is_ok_and(|path| layout.writable(&path));
        Ok(Self { layout, rootless, writable, systemd: None })
    }
}

impl Layout {
    /// The trees of this host: one statfs(2) and one small file where cgroup v2 is all there is,
    /// /proc/self/mountinfo elsewhere.
    ///
    /// # Errors
    /// A failed system call; that there is no cgroup file system at all is not one.
    pub fn discover() -> Result<Self, sys::Error> {
        match statfs(ROOT) {
            Ok(root) if root.filesystem_type() == CGROUP2_SUPER_MAGIC => {
                let unified = Unified::at(PathBuf::from(ROOT))?;
                Ok(Self { unified: Some(unified), hierarchies: Vec::new() })
            }
            Ok(_) | Err(Errno::ENOENT) => {
                let mounts = std::fs::read("/proc/self/mountinfo").during("read")?;
                let (unified, hierarchies) = parse_mountinfo(&mounts);
                let unified = unified.map(Unified::at).transpose()?;
                Ok(Self { unified, hierarchies })
            }
            Err(errno) => Err(errno).during("statfs"),
        }
    }

    /// The v1 tree that carries this controller.
    #[must_use]
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// The v2 tree, if it offers this controller.
    #[must_use]
    pub fn unified_with(&self, controller: &str) -> Option<&Unified> {
        self.unified.as_ref().filter(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// All mount points, v2 first: whoever is in there can be followed, frozen and killed.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &Path> {
        let unified = self.unified.iter().map(|tree| tree.mountpoint.as_path());
        unified.chain(self.hierarchies.iter().map(|tree| tree.mountpoint.as_path()))
    }

    /// Whether this process may make `path` below every mount point.
    fn writable(&self, path: &Path) -> bool {
        self.mountpoints().all(|mountpoint| {
            let nearest = mountpoint
                .join(path)
                .ancestors()
                .find(|ancestor| ancestor.exists())
                .map(Path::to_path_buf);
            let permission = AccessFlags::W_OK | AccessFlags::X_OK;
            nearest.is_some_and(|directory| access(&directory, permission).is_ok())
        })
    }
}

impl Unified {
    fn at(mountpoint: PathBuf) -> Result<Self, sys::Error> {
        let controllers = file::read_path(&mountpoint.join("cgroup.controllers"))?;
        let controllers = controllers.split_whitespace().map(str::to_owned).collect();
        Ok(Self { mountpoint, controllers })
    }
}

/// The mount points of cgroup v2 and v1 in a mountinfo file (proc_pid_mountinfo(5)).
///
/// A tree may be mounted more than once, by nested containers for instance: the one below
/// /sys/fs/cgroup counts, else the first.
fn parse_mountinfo(text: &[u8]) -> (Option<PathBuf>, Vec<Hierarchy>) {
    let mut unified: Vec<PathBuf> = Vec::new();
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match parse_mount(line) {
            Some((mountpoint, None)) => unified.push(mountpoint),
            Some((mountpoint, Some(controllers))) if !controllers.is_empty() => {
                hierarchies.push(Hierarchy { mountpoint, controllers });
            }
            _ => {}
        }
    }
    // Stable sorts: what is below /sys/fs/cgroup comes first, in the order of mounting.
    unified.sort_by_key(|mountpoint| !mountpoint.starts_with(ROOT));
    hierarchies.sort_by_key(|tree| !tree.mountpoint.starts_with(ROOT));
    let mut seen: Vec<Hierarchy> = Vec::new();
    for tree in hierarchies {
        if !seen.iter().any(|other| other.controllers == tree.controllers) {
            seen.push(tree);
        }
    }
    (unified.into_iter().next(), seen)
}

/// One line: the mount point, with the controllers of a v1 tree; nothing for other file systems.
fn parse_mount(line: &[u8]) -> Option<(PathBuf, Option<Vec<String>>)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mountpoint = fields.nth(4)?;
    // Optional fields end with a dash; then: type, source, options of the super block.
    fields.find(|field| *field == b"-")?;
    let kind = fields.next()?;
    let options = fields.nth(1)?;
    let controllers = match kind {
        b"cgroup2" => None,
        b"cgroup" => Some(
            options
                .split(|byte| *byte == b',')
                .filter_map(|option| str::from_utf8(option).ok())
                .filter(|option| V1_CONTROLLERS.contains(option) || option.starts_with("name="))
                .map(str::to_owned)
                .collect(),
        ),
        _ => return None,
    };
    Some((unescape(mountpoint), controllers))
}

/// `\040` and the like, as the kernel writes blanks, newlines and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 1 0:21 / /sys rw - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
90 1 0:30 / /mnt/again\\040here rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 master:3 - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:32 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
35 31 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hybrid_mounts_are_found_once_each() {
        let (unified, hierarchies) = parse_mountinfo(HYBRID.as_bytes());
        assert_eq!(unified, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let found: Vec<_> = hierarchies
            .iter()
            .map(|tree| (tree.mountpoint.to_str().unwrap(), tree.controllers.join(",")))
            .collect();
        assert_eq!(
            found,
            [
                ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct".to_owned()),
                ("/sys/fs/cgroup/memory", "memory".to_owned()),
                ("/sys/fs/cgroup/systemd", "name=systemd".to_owned()),
            ]
        );
    }

    #[test]
    fn mounts_elsewhere_count_when_there_is_no_other() {
        let line = "90 1 0:30 / /mnt/a\\040b\\134c rw - cgroup cgroup rw,pids";
        let (unified, hierarchies) = parse_mountinfo(line.as_bytes());
        assert_eq!(unified, None);
        assert_eq!(hierarchies[0].mountpoint, Path::new("/mnt/a b\\c"));
    }

    #[test]
    fn broken_lines_are_skipped() {
        for line in ["", "1 2 3", "1 2 3 4 /x rw", "1 2 3 4 /x rw -", "1 2 3 4 /x rw - cgroup s"] {
            assert_eq!(parse_mountinfo(line.as_bytes()), (None, Vec::new()), "{line:?}");
        }
        // A v1 mount without a controller is a tree being taken down.
        let line = "90 1 0:30 / /mnt rw - cgroup cgroup rw,none";
        assert_eq!(parse_mountinfo(line.as_bytes()), (None, Vec::new()));
    }

    #[test]
    fn this_host_has_a_layout() {
        let layout = Layout::discover().unwrap();
        for mountpoint in layout.mountpoints() {
            assert!(mountpoint.join("cgroup.procs").exists(), "{mountpoint:?}");
        }
        let json = serde_json::to_string(&layout).unwrap();
        assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
    }
}
