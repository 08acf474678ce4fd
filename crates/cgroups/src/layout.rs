//! The cgroup trees of this host. Only as many files are read as the plan needs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use crate::file;
use crate::path::{below_mount, check_path};
use crate::request::Request;
use crate::systemd::Systemd;

/// The directory in which distributions mount them (file-hierarchy(7)).
const ROOT: &str = "/sys/fs/cgroup";

/// The controllers of cgroup v1; other mount options of a hierarchy are not controllers.
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
    /// Its mount point.
    pub mountpoint: PathBuf,
    /// The controllers that its root offers.
    pub controllers: Vec<String>,
}

/// One cgroup v1 tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Its mount point.
    pub mountpoint: PathBuf,
    /// Its controllers, or its name as `name=systemd`.
    pub controllers: Vec<String>,
}

/// The facts of the host that [`crate::plan`] needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The cgroup trees.
    pub layout: Layout,
    /// Whether the caller is an unprivileged user or root of a user namespace.
    pub rootless: bool,
    /// Whether the requested cgroup can be created. Checked for a rootless request only.
    pub writable: bool,
    /// The parent of the caller's own cgroup, if it has been delegated to the caller. Checked only
    /// if the request has no path and no cgroup can be created at the top.
    pub delegated_parent: Option<PathBuf>,
    /// The systemd manager that creates cgroups; `None` with the cgroupfs driver.
    pub systemd: Option<Systemd>,
}

impl Host {
    /// Reads the facts of this host for a request.
    ///
    /// # Errors
    /// A failed system call; a host without any cgroup file system is not an error.
    pub fn discover(request: &Request<'_>, rootless: bool) -> Result<Self, davit_sys::Error> {
        let layout = Layout::discover()?;
        // Planning refuses an invalid path.
        let writable = !rootless
            || below_mount(request.path, request.id).is_ok_and(|path| layout.writable(&path));
        let names_path = request.path.is_some_and(|path| !path.as_os_str().is_empty());
        let delegated_parent =
            if writable || names_path { None } else { layout.delegated_parent(&own_cgroup()?) };
        Ok(Self { layout, rootless, writable, delegated_parent, systemd: None })
    }
}

impl Layout {
    /// Finds the trees of this host: with one statfs(2) and one small file if it has cgroup v2
    /// alone, else from /proc/self/mountinfo.
    ///
    /// # Errors
    /// A failed system call; a host without any cgroup file system is not an error.
    pub fn discover() -> Result<Self, davit_sys::Error> {
        match statfs(ROOT) {
            Ok(root) if root.filesystem_type() == CGROUP2_SUPER_MAGIC => {
                let unified = Unified::at(PathBuf::from(ROOT))?;
                Ok(Self { unified: Some(unified), hierarchies: Vec::new() })
            }
            Ok(_) | Err(Errno::ENOENT) => {
                let mounts = std::fs::read("/proc/self/mountinfo").syscall("read")?;
                let (unified, hierarchies) = parse_mountinfo(&mounts);
                let unified = unified.map(Unified::at).transpose()?;
                Ok(Self { unified, hierarchies })
            }
            Err(errno) => Err(errno).syscall("statfs"),
        }
    }

    /// A warning if the trees are not mounted in the usual directory.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let elsewhere = self.mountpoints().find(|mountpoint| !is_usual(mountpoint))?;
        let elsewhere = elsewhere.display();
        Some(format!(
            "no cgroup file system is mounted below {ROOT}: the one at {elsewhere} is used"
        ))
    }

    /// The v1 tree with this controller.
    #[must_use]
    pub fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// The v2 tree, if it offers this controller.
    #[must_use]
    pub fn unified_with(&self, controller: &str) -> Option<&Unified> {
        self.unified.as_ref().filter(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// All mount points, v2 first: it can freeze and kill all processes of a cgroup.
    pub(crate) fn mountpoints(&self) -> impl Iterator<Item = &Path> {
        let unified = self.unified.iter().map(|tree| tree.mountpoint.as_path());
        unified.chain(self.hierarchies.iter().map(|tree| tree.mountpoint.as_path()))
    }

    /// The parent of the cgroup v2 `own`, if it has been delegated to this user (cgroups(7)): the
    /// user can create other cgroups in it, and move processes between them.
    fn delegated_parent(&self, own: &Path) -> Option<PathBuf> {
        let ([], Some(tree)) = (self.hierarchies.as_slice(), &self.unified) else { return None };
        let parent = own.parent().filter(|parent| check_path(parent).is_ok())?;
        let directory = tree.mountpoint.join(parent);
        let permission = AccessFlags::W_OK | AccessFlags::X_OK;
        let delegated = access(&directory, permission).is_ok()
            && access(&directory.join("cgroup.procs"), AccessFlags::W_OK).is_ok();
        delegated.then(|| parent.to_path_buf())
    }

    /// Whether this process may create `path` below every mount point.
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

/// The cgroup v2 of this process, below the mount point.
fn own_cgroup() -> Result<PathBuf, davit_sys::Error> {
    let text = file::read_path(Path::new("/proc/self/cgroup"))?;
    let cgroup = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(PathBuf::from(cgroup.unwrap_or_default()))
}

impl Unified {
    fn at(mountpoint: PathBuf) -> Result<Self, davit_sys::Error> {
        let controllers = file::read_path(&mountpoint.join("cgroup.controllers"))?;
        let controllers = controllers.split_whitespace().map(str::to_owned).collect();
        Ok(Self { mountpoint, controllers })
    }
}

/// The mount points of cgroup v2 and v1 in a mountinfo file (proc_pid_mountinfo(5)).
///
/// The host's trees are those below /sys/fs/cgroup. A tree that is mounted elsewhere (in a
/// container's root, or as a private view of a program) is used only if there is none below. Of
/// several mounts of one tree the first is used.
pub(crate) fn parse_mountinfo(text: &[u8]) -> (Option<PathBuf>, Vec<Hierarchy>) {
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
    let mut all = unified.iter().chain(hierarchies.iter().map(|tree| &tree.mountpoint));
    if all.any(|mountpoint| is_usual(mountpoint)) {
        unified.retain(|mountpoint| is_usual(mountpoint));
        hierarchies.retain(|tree| is_usual(&tree.mountpoint));
    }
    let mut seen: Vec<Hierarchy> = Vec::new();
    for tree in hierarchies {
        if !seen.iter().any(|other| other.controllers == tree.controllers) {
            seen.push(tree);
        }
    }
    (unified.into_iter().next(), seen)
}

/// Whether a tree is mounted in the usual directory.
fn is_usual(mountpoint: &Path) -> bool {
    mountpoint.starts_with(ROOT)
}

/// Parses one line: the mount point, and the controllers of a v1 tree; `None` for other file
/// systems.
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

/// Decodes escapes such as `\040`: the kernel escapes blanks, newlines and backslashes.
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
    fn mounts_elsewhere_are_used_if_there_is_no_other() {
        let line = "90 1 0:30 / /mnt/a\\040b\\134c rw - cgroup cgroup rw,pids";
        let (unified, hierarchies) = parse_mountinfo(line.as_bytes());
        assert_eq!(unified, None);
        assert_eq!(hierarchies[0].mountpoint, Path::new("/mnt/a b\\c"));
    }

    #[test]
    fn mounts_elsewhere_are_ignored_next_to_those_of_the_host() {
        let others = "\
91 1 0:33 / /mnt/two rw - cgroup2 cgroup2 rw
92 1 0:34 / /mnt/pids rw - cgroup cgroup rw,pids
";
        let without_v2: String =
            HYBRID.lines().filter(|line| !line.contains("cgroup2")).collect::<Vec<_>>().join("\n");
        let (unified, hierarchies) = parse_mountinfo(format!("{others}{without_v2}").as_bytes());
        assert_eq!(unified, None);
        assert!(
            hierarchies.iter().all(|tree| tree.mountpoint.starts_with(ROOT)),
            "{hierarchies:?}"
        );
        assert_eq!(hierarchies.len(), 3);
        let (unified, hierarchies) = parse_mountinfo(others.as_bytes());
        assert_eq!(unified.as_deref(), Some(Path::new("/mnt/two")));
        let unified = unified.map(|mountpoint| Unified { mountpoint, controllers: Vec::new() });
        let warning = Layout { unified, hierarchies }.warning().unwrap();
        assert!(warning.contains("the one at /mnt/two is used"), "{warning}");
        assert_eq!(Layout::default().warning(), None);
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
