//! The record of one container's cgroup, and reading its files.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::{Applied, Fault, Op, Unit, check_path, file};

/// One container's cgroup: the paths of its directories, whether or not they exist.
///
/// It has no descriptors, so that it can be stored; all methods start from the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// One directory in each tree, cgroup v2 first.
    pub members: Vec<Member>,
    /// Parents of those directories that were created for this container, outermost first.
    pub parents: Vec<PathBuf>,
    /// Its unit, if systemd created it.
    #[serde(default)]
    pub unit: Option<Unit>,
}

/// The container's directory in one tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The absolute path.
    pub directory: PathBuf,
    /// Its part below the mount point: the same in every tree.
    pub path: PathBuf,
    /// The controllers of a v1 tree; none on cgroup v2.
    pub controllers: Vec<String>,
}

impl Member {
    /// Whether this is the cgroup v2 directory.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }
}

impl Cgroup {
    /// The cgroup that these operations create. It is stored before they are performed.
    #[must_use]
    pub fn planned(ops: &[Op]) -> Self {
        let members = ops.iter().filter_map(|op| match op {
            Op::Make { mountpoint, path, controllers } => Some(Member {
                directory: mountpoint.join(path),
                path: path.clone(),
                controllers: controllers.clone(),
            }),
            Op::StartUnit { mountpoint, path, .. } => Some(Member {
                directory: mountpoint.join(path),
                path: path.clone(),
                controllers: Vec::new(),
            }),
            _ => None,
        });
        let unit = ops.iter().find_map(|op| match op {
            Op::StartUnit { unit, .. } => Some(unit.clone()),
            _ => None,
        });
        Self { members: members.collect(), parents: Vec::new(), unit }
    }

    /// Checks a stored record, because processes are killed and directories removed by these paths:
    /// each directory must be one that planning returns, below a mount point, and each parent must
    /// be a parent of one of them.
    ///
    /// # Errors
    /// [`Fault::Stored`]: the first path that is refused.
    pub fn check(&self) -> Result<(), Fault> {
        let wrong = |path: &Path, reason: &str| {
            Err(Fault::Stored { path: path.to_owned(), reason: reason.to_owned() })
        };
        for member in &self.members {
            check_path(&member.path)?;
            let Member { directory, path, .. } = member;
            let is_clean = |path: &Path| path.is_absolute() && path.components().all(is_plain);
            let depth = |path: &Path| path.components().count();
            // The root directory of the host is not a mount point of cgroups.
            let has_mountpoint = depth(directory) > depth(path) + 1;
            if !is_clean(directory) || !directory.ends_with(path) || !has_mountpoint {
                return wrong(directory, "is not the directory of that cgroup");
            }
        }
        for parent in &self.parents {
            let is_above = |member: &Member| {
                let mountpoint = member.directory.ancestors().nth(member.path.components().count());
                let is_below = |top| parent.starts_with(top) && parent != top;
                member.directory.starts_with(parent) && mountpoint.is_some_and(is_below)
            };
            if !self.members.iter().any(is_above) {
                return wrong(parent, "is not above the container's cgroup");
            }
        }
        Ok(())
    }

    /// Records the parents that were created for the container, so that [`Cgroup::remove`] removes
    /// them too, if they are empty by then.
    pub fn record_parents(&mut self, applied: &Applied) {
        let own = |path: &&PathBuf| !self.members.iter().any(|member| member.directory == **path);
        self.parents = applied.created.iter().filter(own).cloned().collect();
    }

    /// Whether none of its directories exists.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let is_missing = |member: &Member| {
            file::directory(&member.directory).is_err_and(|error| file::is_gone(error.errno))
        };
        self.members.iter().all(is_missing)
    }

    /// Whether there is no cgroup: for an unprivileged user, or with cgroups disabled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The processes in the container's cgroup and below it, in any of the trees, sorted.
    ///
    /// # Errors
    /// A failed system call. A missing directory has no processes.
    pub fn procs(&self) -> Result<Vec<i32>, Fault> {
        Ok(self.procs_of(|_| true)?.into_iter().collect())
    }

    /// The processes in some of the trees.
    pub(crate) fn procs_of(
        &self,
        wanted: impl Fn(&Member) -> bool,
    ) -> Result<BTreeSet<i32>, Fault> {
        let mut pids = BTreeSet::new();
        for member in self.members.iter().filter(|member| wanted(member)) {
            collect_procs(&member.directory, &mut pids).map_err(Fault::at(&member.directory))?;
        }
        Ok(pids)
    }

    /// Refuses a cgroup that is in use. It is checked before the record is stored: davit may kill
    /// all processes in a recorded cgroup.
    ///
    /// # Errors
    /// [`Fault::Occupied`], or a failed system call.
    pub fn refuse_occupied(&self) -> Result<(), Fault> {
        // Usually it does not exist yet.
        if self.is_missing() {
            return Ok(());
        }
        let occupied = |reason| {
            let path = self.members.first().map(|member| member.directory.clone());
            Err(Fault::Occupied { path: path.unwrap_or_default(), reason })
        };
        match (self.procs()?.is_empty(), self.is_frozen()?) {
            (false, _) => occupied("is busy: it exists already, and has processes"),
            (true, true) => occupied("is busy: it exists already, and is frozen"),
            (true, false) => Ok(()),
        }
    }

    /// How many processes the OOM killer has killed here; `None` without a memory controller.
    ///
    /// # Errors
    /// A failed system call.
    pub fn oom_kills(&self) -> Result<Option<u64>, Fault> {
        for member in &self.members {
            let file = match member.controllers.as_slice() {
                [] => "memory.events",
                names if names.iter().any(|name| name == "memory") => "memory.oom_control",
                _ => continue,
            };
            let read = file::directory(&member.directory)
                .and_then(|directory| file::read(directory.as_fd(), file));
            match read {
                Ok(text) => return Ok(file::value_of(&text, "oom_kill")),
                Err(error) if file::is_gone(error.errno) => {}
                Err(error) => return Err(Fault::at(member.directory.join(file))(error)),
            }
        }
        Ok(None)
    }

    /// The memory limit; `None` if there is none.
    ///
    /// # Errors
    /// A failed system call.
    pub fn memory_limit(&self) -> Result<Option<u64>, Fault> {
        let text = match self.read("", "memory.max")? {
            Some(text) => Some(text),
            None => self.read("memory", "memory.limit_in_bytes")?,
        };
        let bytes = text.and_then(|text| text.trim_end().parse().ok());
        // No limit is `max`; on v1 it is the highest number of whole pages.
        Ok(bytes.filter(|bytes| *bytes < i64::MAX as u64 >> 16 << 16))
    }

    /// The directory in the tree of a v1 controller, or (`""`) in that of cgroup v2.
    pub(crate) fn directory(&self, controller: &str) -> Option<&Path> {
        self.member(controller).map(|member| member.directory.as_path())
    }

    /// The member with a v1 controller, or (`""`) that of cgroup v2.
    pub(crate) fn member(&self, controller: &str) -> Option<&Member> {
        let has = |names: &[String]| match controller {
            "" => names.is_empty(),
            controller => names.iter().any(|name| name == controller),
        };
        self.members.iter().find(|member| has(&member.controllers))
    }

    /// The content of a file there; `None` without the tree or the file.
    pub(crate) fn read(&self, controller: &str, name: &str) -> Result<Option<String>, Fault> {
        let Some(directory) = self.directory(controller) else { return Ok(None) };
        let read = file::directory(directory).and_then(|opened| file::read(opened.as_fd(), name));
        match read {
            Ok(text) => Ok(Some(text)),
            Err(error) if file::is_gone(error.errno) => Ok(None),
            // Pressure information that is disabled (`psi=0`), or kernel memory of v1.
            Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(None),
            Err(error) => Err(Fault::at(directory.join(name))(error)),
        }
    }
}

fn is_plain(component: Component<'_>) -> bool {
    matches!(component, Component::RootDir | Component::Normal(_))
}

fn collect_procs(top: &Path, pids: &mut BTreeSet<i32>) -> Result<(), davit_sys::Error> {
    let top = match file::directory(top) {
        Err(error) if file::is_gone(error.errno) => return Ok(()),
        result => result?,
    };
    file::walk(top, |directory| {
        match file::read(directory, "cgroup.procs") {
            // Removed in the meantime; or threaded: its processes are listed by its parent.
            Err(error) if file::is_gone(error.errno) || error.errno == Errno::EOPNOTSUPP => {}
            // 0 is a process of a pid namespace that is not a descendant of this one.
            result => pids.extend(
                result?.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0),
            ),
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake(root: &Path) -> Cgroup {
        let member = |name: &str, controllers: &[&str]| Member {
            directory: root.join(name),
            path: PathBuf::from(name),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let members = vec![member("v2", &[]), member("memory", &["memory"])];
        Cgroup { members, ..Cgroup::default() }
    }

    #[test]
    fn processes_are_those_of_the_whole_tree() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = fake(root.path());
        assert!(cgroup.procs().unwrap().is_empty());
        fs::create_dir_all(root.path().join("v2/a/b")).unwrap();
        fs::create_dir_all(root.path().join("memory")).unwrap();
        fs::write(root.path().join("v2/cgroup.procs"), "12\n9\n").unwrap();
        fs::write(root.path().join("v2/a/b/cgroup.procs"), "300\n0\n").unwrap();
        fs::write(root.path().join("memory/cgroup.procs"), "9\n4\n").unwrap();
        assert_eq!(cgroup.procs().unwrap(), [4, 9, 12, 300]);
    }

    #[test]
    fn oom_kills_come_from_the_memory_controller() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = fake(root.path());
        assert_eq!(cgroup.oom_kills().unwrap(), None);
        fs::create_dir_all(root.path().join("v2")).unwrap();
        fs::create_dir_all(root.path().join("memory")).unwrap();
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        fs::write(root.path().join("memory/memory.oom_control"), v1).unwrap();
        assert_eq!(cgroup.oom_kills().unwrap(), Some(2));
        fs::write(root.path().join("v2/memory.events"), "oom 1\noom_kill 5\n").unwrap();
        assert_eq!(cgroup.oom_kills().unwrap(), Some(5));
    }

    #[test]
    fn an_unlimited_memory_limit_is_none() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = fake(root.path());
        assert_eq!(cgroup.memory_limit().unwrap(), None);
        fs::create_dir_all(root.path().join("v2")).unwrap();
        fs::create_dir_all(root.path().join("memory")).unwrap();
        let limit = root.path().join("memory/memory.limit_in_bytes");
        fs::write(&limit, "9223372036854771712\n").unwrap();
        assert_eq!(cgroup.memory_limit().unwrap(), None);
        fs::write(&limit, "262144\n").unwrap();
        assert_eq!(cgroup.memory_limit().unwrap(), Some(262_144));
        fs::write(root.path().join("v2/memory.max"), "max\n").unwrap();
        assert_eq!(cgroup.memory_limit().unwrap(), None);
        fs::write(root.path().join("v2/memory.max"), "4096\n").unwrap();
        assert_eq!(cgroup.memory_limit().unwrap(), Some(4096));
    }

    #[test]
    fn stored_paths_must_be_those_of_a_container() {
        let member = |directory: &str, path: &str| Member {
            directory: directory.into(),
            path: path.into(),
            controllers: Vec::new(),
        };
        let check = |directory: &str, path: &str, parents: &[&str]| {
            let parents = parents.iter().map(PathBuf::from).collect();
            Cgroup { members: vec![member(directory, path)], parents, unit: None }.check().is_ok()
        };
        assert!(check("/sys/fs/cgroup/a/b", "a/b", &["/sys/fs/cgroup/a"]));
        for (directory, path) in [
            ("/sys/fs/cgroup", ""),
            ("/sys/fs/cgroup", "."),
            ("/sys/fs/cgroup/x", "/x"),
            ("/sys/fs/cgroup/a/..", "a/.."),
            ("/sys/fs/cgroup/../x", "x"),
            ("/sys/fs/cgroup", "x"),
            ("/x", "x"),
            ("x", "x"),
        ] {
            assert!(!check(directory, path, &[]), "{directory} {path}");
        }
        for parent in ["/", "/sys/fs/cgroup", "/sys/fs/cgroup/other", "/sys/fs/cgroup/a/../.."] {
            assert!(!check("/sys/fs/cgroup/a/b", "a/b", &[parent]), "{parent}");
        }
    }

    #[test]
    fn the_record_survives_storage() {
        let cgroup = fake(Path::new("/x"));
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }
}
