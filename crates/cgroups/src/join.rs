//! How a new process gets into the container's cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use sys::During;

use crate::cgroup::Member;
use crate::{Applied, Cgroup, Fault, file};

/// The open ends through which a new process enters.
///
/// A new cgroup namespace has to come after all of them: its root is where its maker is then. (With
/// `CLONE_NEWCGROUP` in the same clone3(2) that would be the parent's cgroup, not `into`.)
#[derive(Debug, Default)]
pub struct Join {
    /// The cgroup v2 directory: clone3(2) makes the process in it (`CLONE_INTO_CGROUP`).
    pub into: Option<OwnedFd>,
    /// `cgroup.procs` of each v1 tree, open for writing: the new process writes `0` into each of them
    /// before it does anything else.
    pub procs: Vec<OwnedFd>,
    /// `cgroup.procs` of the sub-cgroup for the container's own use, for after its cgroup namespace.
    pub own: Option<OwnedFd>,
}

impl Applied {
    /// The way in for the first process, through the directories as they were just made.
    ///
    /// # Errors
    /// A failed openat(2).
    pub fn into_join(self, cgroup: &Cgroup) -> Result<Join, Fault> {
        let mut join = Join { own: self.own, ..Join::default() };
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
    /// The way in for a further process, an exec.
    ///
    /// `subs` are sub-cgroups as typed after `--cgroup`: `PATH`, or `CONTROLLER[,..]:PATH` for one
    /// tree of cgroup v1. They have to exist, and stay below the container's own cgroup.
    ///
    /// # Errors
    /// A sub-cgroup that is refused or missing; a failed system call.
    pub fn join(&self, subs: &[String]) -> Result<Join, Fault> {
        let subs: Vec<Sub<'_>> =
            subs.iter().map(|sub| Sub::parse(sub)).collect::<Result<_, _>>()?;
        if let Some(sub) = subs.iter().find(|sub| !self.members.iter().any(|m| sub.concerns(m))) {
            return Err(sub.refused("no tree of this container has that controller"));
        }
        let mut join = Join::default();
        for member in &self.members {
            let sub = subs.iter().rev().find(|sub| sub.concerns(member));
            let directory = match sub {
                Some(sub) => sub.open(member)?,
                None => file::directory(&member.directory).map_err(Fault::at(&member.directory))?,
            };
            join.add(member, directory)?;
        }
        Ok(join)
    }

    /// The way in beside a process of the container, into whatever cgroup v2 sub-cgroup it is in now.
    ///
    /// For the exec that [`Cgroup::join`] cannot serve: a container that has made sub-cgroups and
    /// enabled controllers there takes no process at its top any more (EBUSY from clone3).
    ///
    /// # Errors
    /// The process is gone, or not below this cgroup; a failed system call.
    pub fn join_beside(&self, pid: i32) -> Result<Join, Fault> {
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

impl Join {
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

/// A sub-cgroup as typed.
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

    /// Without a controller: all trees.
    fn concerns(&self, member: &Member) -> bool {
        self.controllers.is_empty()
            || self.controllers.iter().any(|name| member.controllers.iter().any(|c| c == name))
    }

    fn open(&self, member: &Member) -> Result<OwnedFd, Fault> {
        let top = file::directory(&member.directory).map_err(Fault::at(&member.directory))?;
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
            result => result.during("openat2").map_err(Fault::at(member.directory.join(self.path))),
        }
    }
}
