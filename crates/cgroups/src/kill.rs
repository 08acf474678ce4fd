//! Killing every process of a container.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::{Cgroup, Fault, Member, file};

/// How long processes may take to stand still before they are killed while they run.
const FREEZE: Duration = Duration::from_millis(500);

/// Which processes have to be killed one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of them: no `cgroup.kill` (an old kernel, a v1 host).
    All,
    /// Those that `cgroup.kill` did not reach: in a tree of v1, but not in the one of v2.
    BeyondUnified,
}

impl Cgroup {
    /// Sends SIGKILL to every process in the cgroup and below, in any tree. Does not wait for their
    /// end; frozen ones are let go to meet it.
    ///
    /// # Errors
    /// [`Fault::Busy`] when there were still new processes at the deadline; a failed system call.
    pub fn kill(&self, deadline: Instant) -> Result<(), Fault> {
        let scope = if self.kill_unified()? { Scope::BeyondUnified } else { Scope::All };
        if scope == Scope::BeyondUnified && self.members.len() == 1 {
            return Ok(());
        }
        if !self.targets(scope)?.is_empty() {
            self.kill_each(scope, deadline)?;
        }
        self.thaw_v1()
    }

    /// Who is left to be killed one by one.
    fn targets(&self, scope: Scope) -> Result<BTreeSet<i32>, Fault> {
        let mut pids = self.procs_of(|member| !member.is_unified())?;
        // Read last: who has left it meanwhile has left every tree.
        let unified = self.procs_of(Member::is_unified)?;
        match scope {
            Scope::All => pids.extend(unified),
            Scope::BeyondUnified => pids.retain(|pid| !unified.contains(pid)),
        }
        Ok(pids)
    }

    /// `cgroup.kill` (Linux 5.14): atomic, and frozen processes die too. Whether it is there.
    fn kill_unified(&self) -> Result<bool, Fault> {
        let Some(member) = self.members.iter().find(|member| member.is_unified()) else {
            return Ok(false);
        };
        let directory = match file::directory(&member.directory) {
            // Never made, or removed: nothing to kill.
            Err(error) if error.errno == Errno::ENOENT => return Ok(true),
            result => result.map_err(Fault::at(&member.directory))?,
        };
        match file::write(directory.as_fd(), "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::ENOENT => Ok(false),
            Err(error) => Err(Fault::at(member.directory.join("cgroup.kill"))(error)),
        }
    }

    /// Frozen, so that none forks meanwhile; where that fails, until no new one appears.
    fn kill_each(&self, scope: Scope, deadline: Instant) -> Result<(), Fault> {
        // Best effort: it only saves rounds.
        let frozen = self.freeze(deadline.min(Instant::now() + FREEZE)).is_ok();
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
            let fresh: Vec<i32> = targets.difference(&signalled).copied().collect();
            if fresh.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let path = self.members.first().map(|member| member.directory.clone());
                return Err(Fault::Busy { path: path.unwrap_or_default(), pids: fresh });
            }
            self.kill_these(&fresh)?;
            signalled.extend(fresh);
        }
    }

    /// A pid is only a number until a pidfd holds it: what is listed here before and after the pidfd
    /// was opened was a process of this container all the time.
    fn kill_these(&self, pids: &[i32]) -> Result<(), Fault> {
        let held: Vec<(i32, OwnedFd)> = pids
            .iter()
            .filter_map(|pid| Some((*pid, sys::pidfd::open(Pid::from_raw(*pid)).ok()?)))
            .collect();
        let still = self.procs_of(|_| true)?;
        for (pid, handle) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            match sys::pidfd::send_signal(handle.as_fd(), libc::SIGKILL) {
                Err(error) if error.errno != Errno::ESRCH => {
                    return Err(Fault::at(format!("/proc/{pid}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
