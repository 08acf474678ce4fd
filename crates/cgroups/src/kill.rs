//! Killing every process of a container.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::file::is_gone;
use crate::{Cgroup, Fault, Member, file};

/// Timeout for freezing the processes; after it they are killed while they run.
const FREEZE_TIMEOUT: Duration = Duration::from_millis(500);

/// How many pidfds are open at a time: the container may have more processes than RLIMIT_NOFILE
/// allows descriptors.
const MAX_PIDFDS: usize = 64;

/// The processes to kill one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All processes, without `cgroup.kill` (an old kernel, a v1 host).
    All,
    /// Those that `cgroup.kill` did not reach: in a v1 tree, but not in the v2 tree.
    BeyondUnified,
}

impl Cgroup {
    /// Sends SIGKILL to every process in the cgroup and below, in any tree, and thaws the frozen
    /// ones. Does not wait until they have ended.
    ///
    /// # Errors
    /// [`Fault::Busy`] if new processes still appear at the deadline; a failed system call.
    pub fn kill(&self, deadline: Instant) -> Result<(), Fault> {
        davit_sys::trace::operation("cgroup", &"kill every process", || self.kill_all(deadline))
    }

    fn kill_all(&self, deadline: Instant) -> Result<(), Fault> {
        let scope = if self.kill_unified()? { Scope::BeyondUnified } else { Scope::All };
        if scope == Scope::BeyondUnified && self.members.len() == 1 {
            return Ok(());
        }
        if !self.targets(scope)?.is_empty() {
            self.kill_each(scope, deadline)?;
        }
        self.thaw_v1()
    }

    /// The processes to kill one by one.
    fn targets(&self, scope: Scope) -> Result<BTreeSet<i32>, Fault> {
        let mut pids = self.procs_of(|member| !member.is_unified())?;
        // Read last: a process that has left it in the meantime has left all trees.
        let unified = self.procs_of(Member::is_unified)?;
        match scope {
            Scope::All => pids.extend(unified),
            Scope::BeyondUnified => pids.retain(|pid| !unified.contains(pid)),
        }
        Ok(pids)
    }

    /// Kills by `cgroup.kill` (Linux 5.14), which is atomic and kills frozen processes too; false
    /// without that file.
    fn kill_unified(&self) -> Result<bool, Fault> {
        let Some(member) = self.members.iter().find(|member| member.is_unified()) else {
            return Ok(false);
        };
        let directory = match file::directory(&member.directory) {
            // Never created, or removed: nothing to kill.
            Err(error) if is_gone(error.errno) => return Ok(true),
            result => result.map_err(Fault::at(&member.directory))?,
        };
        match file::write(directory.as_fd(), "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::ENOENT => Ok(false),
            // Removed since it was opened: systemd removes a scope as soon as it is empty.
            Err(error) if is_gone(error.errno) => Ok(true),
            Err(error) => Err(Fault::at(member.directory.join("cgroup.kill"))(error)),
        }
    }

    /// Kills the processes while they are frozen, so that none forks; if freezing fails, repeatedly
    /// until no new one appears.
    fn kill_each(&self, scope: Scope, deadline: Instant) -> Result<(), Fault> {
        // If this fails, more rounds are needed.
        let frozen = self.freeze(deadline.min(Instant::now() + FREEZE_TIMEOUT)).is_ok();
        let killed = self.kill_rounds(scope, deadline);
        if frozen {
            self.thaw()?;
        }
        killed
    }

    fn kill_rounds(&self, scope: Scope, deadline: Instant) -> Result<(), Fault> {
        let mut signalled = BTreeSet::new();
        loop {
            let targets = self.targets(scope)?;
            let new: Vec<i32> = targets.difference(&signalled).copied().collect();
            if new.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let path = self.members.first().map(|member| member.directory.clone());
                return Err(Fault::Busy { path: path.unwrap_or_default(), pids: new });
            }
            self.kill_these(&new)?;
            signalled.extend(new);
        }
    }

    /// Kills through pidfds, because a pid may be reused: a process that is listed in the cgroup
    /// both before and after its pidfd was opened belongs to this container.
    fn kill_these(&self, pids: &[i32]) -> Result<(), Fault> {
        for pids in pids.chunks(MAX_PIDFDS) {
            let pidfds = open_pidfds(pids)?;
            let listed = self.procs_of(|_| true)?;
            for (pid, pidfd) in pidfds.iter().filter(|(pid, _)| listed.contains(pid)) {
                match davit_sys::pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL) {
                    Err(error) if !is_gone(error.errno) => return Err(of_process(*pid)(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Opens a pidfd of each process that still exists.
fn open_pidfds(pids: &[i32]) -> Result<Vec<(i32, OwnedFd)>, Fault> {
    let mut pidfds = Vec::new();
    for pid in pids {
        match davit_sys::pidfd::open(Pid::from_raw(*pid)) {
            Ok(pidfd) => pidfds.push((*pid, pidfd)),
            // EINVAL: the pid is that of a thread by now.
            Err(error) if is_gone(error.errno) || error.errno == Errno::EINVAL => {}
            Err(error) => return Err(of_process(*pid)(error)),
        }
    }
    Ok(pidfds)
}

fn of_process(pid: i32) -> impl FnOnce(davit_sys::Error) -> Fault {
    Fault::at(format!("/proc/{pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::{Child, Command, Stdio};

    /// Plain files for the kernel's: signals are sent one by one, and all processes are real.
    #[test]
    fn processes_are_killed_one_by_one_however_many_there_are() {
        let root = tempfile::tempdir().unwrap();
        let sleep = || Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let mut children: Vec<Child> = (0..=MAX_PIDFDS).map(|_| sleep()).collect();
        let gone = {
            let mut child = sleep();
            child.kill().unwrap();
            child.wait().unwrap();
            child.id()
        };
        let pids = children.iter().map(Child::id).chain([gone]).map(|pid| format!("{pid}\n"));
        fs::write(root.path().join("cgroup.procs"), pids.collect::<String>()).unwrap();
        let controllers = vec!["memory".to_owned()];
        let member = Member { directory: root.path().to_owned(), path: "x".into(), controllers };
        let cgroup = Cgroup { members: vec![member], ..Cgroup::default() };
        cgroup.kill(Instant::now() + Duration::from_secs(10)).unwrap();
        for child in &mut children {
            let status = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        }
    }

    /// The errnos of a cgroup that goes while it is killed: ENOENT for its names, ENODEV for what
    /// is open of it, ESRCH for its processes.
    #[test]
    fn a_missing_process_is_no_error_whatever_the_errno() {
        for errno in [Errno::ENOENT, Errno::ENODEV, Errno::ESRCH] {
            assert!(is_gone(errno), "{errno}");
        }
        for errno in [Errno::EBUSY, Errno::EACCES, Errno::EROFS, Errno::EMFILE] {
            assert!(!is_gone(errno), "{errno}");
        }
    }
}
