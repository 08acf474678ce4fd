//! The record of one container's cgroup, and what can be read through it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::{Applied, Fault, Op, Unit, file};

/// One container's cgroup: where its directories are, whether or not they exist (yet, still).
///
/// It holds no descriptor, so it can be stored; everything it can do starts from the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// One directory in each tree, cgroup v2 first.
    pub members: Vec<Member>,
    /// Directories above them that were made for this container, parents first.
    pub parents: Vec<PathBuf>,
    /// The unit that has it, where systemd made it.
    #[serde(default)]
    pub unit: Option<Unit>,
}

/// The container's directory in one tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The whole path.
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
    /// The cgroup that these steps are going to make. To be stored before they are done.
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

    /// Takes note of directories above the container's that were made for it, so that
    /// [`Cgroup::remove`] removes them too, if nobody else is in there by then.
    pub fn note_parents(&mut self, applied: &Applied) {
        let own = |path: &&PathBuf| !self.members.iter().any(|member| member.directory == **path);
        self.parents = applied.created.iter().filter(own).cloned().collect();
    }

    /// Whether there is no cgroup: of an ordinary user, or with cgroups disabled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The processes in the container's cgroup and below it, in any of the trees, sorted.
    ///
    /// # Errors
    /// A failed system call. A directory that is not there has no processes.
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

    /// Refuses a cgroup that somebody else uses. To be asked before the record is stored: what a
    /// record names is ours to kill.
    ///
    /// # Errors
    /// [`Fault::Occupied`]; a failed system call.
    pub fn refuse_occupied(&self) -> Result<(), Fault> {
        // Most often there is none yet.
        let is_missing = |member: &Member| {
            file::directory(&member.directory).is_err_and(|error| error.errno == Errno::ENOENT)
        };
        if self.members.iter().all(is_missing) {
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

    /// How many processes the kernel has killed here for want of memory; `None` where there is no
    /// memory controller.
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
                Err(error) if error.errno == Errno::ENOENT => {}
                Err(error) => return Err(Fault::at(member.directory.join(file))(error)),
            }
        }
        Ok(None)
    }

    /// The limit of memory; `None` where there is none.
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

    /// The same, with what else is known of it.
    pub(crate) fn member(&self, controller: &str) -> Option<&Member> {
        let has = |names: &[String]| match controller {
            "" => names.is_empty(),
            controller => names.iter().any(|name| name == controller),
        };
        self.members.iter().find(|member| has(&member.controllers))
    }

    /// The content of a file there; `None` where there is no tree or no file.
    pub(crate) fn read(&self, controller: &str, name: &str) -> Result<Option<String>, Fault> {
        let Some(directory) = self.directory(controller) else { return Ok(None) };
        let read = file::directory(directory).and_then(|opened| file::read(opened.as_fd(), name));
        match read {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_gone(error.errno) => Ok(None),
            // Pressure that the administrator has switched off (`psi=0`), kernel memory of v1.
            Err(error) if error.errno == Errno::EOPNOTSUPP => Ok(None),
            Err(error) => Err(Fault::at(directory.join(name))(error)),
        }
    }
}

fn collect_procs(top: &Path, pids: &mut BTreeSet<i32>) -> Result<(), sys::Error> {
    let top = match file::directory(top) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(()),
        result => result?,
    };
    let mut todo = vec![top];
    while let Some(directory) = todo.pop() {
        match file::read(directory.as_fd(), "cgroup.procs") {
            // Removed in this moment; or threaded, then its processes are listed further up.
            Err(error) if is_gone(error.errno) || error.errno == Errno::EOPNOTSUPP => {}
            // 0 is a process of a pid namespace that is not below ours.
            result => pids.extend(
                result?.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0),
            ),
        }
        for name in file::children(directory.as_fd())? {
            match file::subdirectory(directory.as_fd(), Path::new(&name)) {
                Err(error) if is_gone(error.errno) => {}
                result => todo.push(result?),
            }
        }
    }
    Ok(())
}

/// What the kernel says of a cgroup that was removed: no such name, or a dead open file.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
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
    fn no_limit_of_memory_is_none() {
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
    fn the_record_survives_storage() {
        let cgroup = fake(Path::new("/x"));
        let json = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&json).unwrap(), cgroup);
    }
}
