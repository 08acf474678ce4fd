//! Descriptors by which a new process joins the container's cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::write;

use crate::cgroup::Member;
use crate::{Applied, Cgroup, Fault, file};

/// The descriptors by which a new process joins a cgroup.
///
/// A new cgroup namespace is created after all of them are used: its root is the cgroup of its
/// creator. (With `CLONE_NEWCGROUP` in the same clone3(2) that is the parent's cgroup, not `into`.)
#[derive(Debug, Default)]
pub struct JoinFds {
    /// The cgroup v2 directory, in which clone3(2) creates the process (`CLONE_INTO_CGROUP`).
    pub into: Option<OwnedFd>,
    /// `cgroup.procs` of each v1 tree, open for writing: the new process first writes `0` to each.
    pub procs: Vec<OwnedFd>,
    /// `cgroup.procs` of the sub-cgroup, for after the cgroup namespace is created.
    pub subgroup: Option<OwnedFd>,
}

impl Applied {
    /// The descriptors for the first process, from the directories that were just created.
    ///
    /// # Errors
    /// A failed openat(2).
    pub fn into_join_fds(self, cgroup: &Cgroup) -> Result<JoinFds, Fault> {
        let mut join = JoinFds { subgroup: self.subgroup, ..JoinFds::default() };
        for (path, directory) in self.directories {
            let member = cgroup.members.iter().find(|member| member.directory == path);
            if let Some(member) = member {
                join.add(member, directory)?;
            }
        }
        Ok(join)
    }
}

impl Cgroup {
    /// The descriptors for another process, an exec.
    ///
    /// `subs` are the arguments of `--cgroup`: `PATH`, or `CONTROLLER[,..]:PATH` for one tree of
    /// cgroup v1. They must exist, below the container's own cgroup.
    ///
    /// # Errors
    /// An invalid or missing sub-cgroup; a failed system call.
    pub fn join(&self, subs: &[String]) -> Result<JoinFds, Fault> {
        let subs: Vec<Sub<'_>> =
            subs.iter().map(|sub| Sub::parse(sub)).collect::<Result<_, _>>()?;
        if let Some(sub) = subs.iter().find(|sub| !self.members.iter().any(|m| sub.applies_to(m))) {
            return Err(sub.refused("no tree of this container has that controller"));
        }
        let mut join = JoinFds::default();
        for member in &self.members {
            let sub = subs.iter().rev().find(|sub| sub.applies_to(member));
            let directory = match sub {
                Some(sub) => sub.open(member)?,
                None => open(member)?,
            };
            join.add(member, directory)?;
        }
        Ok(join)
    }

    /// The descriptors of the cgroup that a process of the container is in, perhaps a sub-cgroup.
    ///
    /// For an exec for which [`Cgroup::join`] fails with EBUSY from clone3(2): a container that has
    /// created sub-cgroups and enabled controllers for them can have no processes at its top.
    ///
    /// # Errors
    /// The process is gone, or not below this cgroup; a failed system call.
    pub fn join_next_to(&self, pid: i32) -> Result<JoinFds, Fault> {
        let mut join = self.join(&[])?;
        let Some(member) = self.members.iter().find(|member| member.is_unified()) else {
            return Ok(join);
        };
        let source = format!("/proc/{pid}/cgroup");
        let text = file::read_path(Path::new(&source)).map_err(Fault::at(&source))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        let below =
            Path::new(path.trim_start_matches('/')).strip_prefix(&member.path).map_err(|_| {
                let reason = "is not below the container's cgroup";
                Fault::SubCgroup { name: path.to_owned(), reason }
            })?;
        if !below.as_os_str().is_empty() {
            let sub = Sub { name: path, controllers: Vec::new(), path: below };
            join.into = Some(sub.open(member)?);
        }
        Ok(join)
    }
}

impl JoinFds {
    /// Moves the process `pid`, which was created in another cgroup: the pids controller counts it,
    /// but does not refuse it (pids_can_attach in kernel/cgroup/pids.c).
    ///
    /// # Errors
    /// A failed write(2).
    pub fn move_in(&self, pid: i32) -> Result<(), davit_sys::Error> {
        let pid = pid.to_string();
        if let Some(directory) = &self.into {
            let procs = file::open(directory.as_fd(), "cgroup.procs", OFlag::O_WRONLY)?;
            write(&procs, pid.as_bytes()).syscall("write")?;
        }
        self.procs
            .iter()
            .try_for_each(|procs| write(procs, pid.as_bytes()).map(drop).syscall("write"))
    }

    fn add(&mut self, member: &Member, directory: OwnedFd) -> Result<(), Fault> {
        if member.is_unified() {
            self.into = Some(directory);
            return Ok(());
        }
        let procs = file::open(directory.as_fd(), "cgroup.procs", OFlag::O_WRONLY)
            .map_err(Fault::at(member.directory.join("cgroup.procs")))?;
        self.procs.push(procs);
        Ok(())
    }
}

/// The container's own directory in one tree.
fn open(member: &Member) -> Result<OwnedFd, Fault> {
    let path = &member.directory;
    file::directory(path).map_err(|error| match error.errno {
        Errno::ENOENT => Fault::Gone { path: path.clone() },
        _ => Fault::at(path)(error),
    })
}

/// A sub-cgroup, as given by the user.
struct Sub<'a> {
    name: &'a str,
    controllers: Vec<&'a str>,
    path: &'a Path,
}

impl<'a> Sub<'a> {
    fn parse(name: &'a str) -> Result<Self, Fault> {
        let (controllers, path) = match name.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), name),
        };
        let sub = Self { name, controllers, path: Path::new(path.trim_start_matches('/')) };
        if sub.path.components().any(|part| part == Component::ParentDir) {
            return Err(sub.refused("`..` is not allowed"));
        }
        Ok(sub)
    }

    fn refused(&self, reason: &'static str) -> Fault {
        Fault::SubCgroup { name: self.name.to_owned(), reason }
    }

    /// Without a controller it applies to all trees.
    fn applies_to(&self, member: &Member) -> bool {
        self.controllers.is_empty()
            || self.controllers.iter().any(|name| member.controllers.iter().any(|c| c == name))
    }

    fn open(&self, member: &Member) -> Result<OwnedFd, Fault> {
        let top = open(member)?;
        if self.path.as_os_str().is_empty() {
            return Ok(top);
        }
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        match openat2(&top, self.path, how) {
            Err(Errno::ENOENT) => Err(self.refused("does not exist in this container")),
            result => {
                result.syscall("openat2").map_err(Fault::at(member.directory.join(self.path)))
            }
        }
    }
}
