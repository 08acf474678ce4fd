//! Making a container of an image: as in the module above, with CRIU instead of init.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use davit_checkpoint::Notification;
use davit_sys::OsContext;
use davit_sys::pidfd::join_namespaces;
use davit_sys::trace::operation;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, sethostname};

use super::{ContainerBuilder, run_hooks, write_init_link, write_pid_file};
use crate::command::checkpoint::{explain, note};
use crate::command::restore::{Restoration, Restored};
use crate::error::{Error, Result, Within};
use crate::spawn::reap;
use crate::spawn::send_fd;
use crate::state::{LaterParts, StateRoot};

/// The process that CRIU has restored.
struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    master: Option<OwnedFd>,
}

impl ContainerBuilder<'_> {
    /// Makes the container, with the processes of the image.
    ///
    /// # Errors
    /// The first step that failed; everything before it is rolled back.
    pub(in crate::command) fn restore(
        mut self,
        later: &LaterParts,
        restoration: Restoration,
        root: StateRoot,
    ) -> Result<Restored> {
        let mut restored = None;
        match self.make_restored(later, restoration, &mut restored) {
            Ok(Init { pid, pidfd, master }) => {
                Ok(Restored { pid, pidfd, master, dir: self.dir, record: self.record, root })
            }
            Err(error) => {
                if let Some((pid, pidfd)) = restored {
                    // An error means that it has ended already.
                    let _ = davit_sys::pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
                    let _ = reap(pid);
                }
                Err(self.roll_back_rest(&root, error))
            }
        }
    }

    fn make_restored(
        &mut self,
        later: &LaterParts,
        restoration: Restoration,
        restored: &mut Option<(Pid, OwnedFd)>,
    ) -> Result<Init> {
        let _lock = self.dir.lock(Duration::ZERO)?;
        self.announce()?;
        if self.is_immediate() {
            self.dir.write_record(&self.record)?;
        }
        self.dir.write_plan(Vec::new(), later)?;
        if self.notifies {
            self.dir.make_notify_directory()?;
        }
        restoration.make_mountpoints()?;
        let (mut session, restoration) = restoration.start()?;
        note(&self.dir, &session)?;
        self.enter_cgroup(session.pid())?;
        let message = restoration.encode(&session)?;
        let mut master = None;
        let hostname = restoration.hostname.as_deref();
        let told = |notification: Notification<'_>| {
            self.notified(notification, restored, &mut master, hostname)
        };
        let perform = || session.perform(&message, told);
        let response = operation("checkpoint", &restoration.request, perform)
            .map_err(|error| explain(error, &restoration.request))?;
        drop(session);
        let (pid, pidfd) = restored.take().ok_or_else(|| Error::new("criu named no process"))?;
        if response.restored != Some(pid.as_raw()) {
            return Err(Error::new("criu restored another process than it named"));
        }
        self.dir.remove_criu_link()?;
        Ok(Init { pid, pidfd, master })
    }

    /// Makes the cgroup, and moves criu into it: the restored processes are its children.
    fn enter_cgroup(&mut self, criu: i32) -> Result<()> {
        match self.makes_cgroup_late() {
            true => drop(self.make_cgroup(Some(criu))?),
            false => {
                if let Some(join) = self.make_cgroup(None)? {
                    join.move_in(criu).within(|| "move criu into the cgroup")?;
                }
            }
        }
        self.make_resctrl_group()?;
        match &self.record.resctrl {
            Some(group) => group.assign(criu).within(|| "linux.intelRdt: tasks"),
            None => Ok(()),
        }
    }

    /// Acts on what criu tells; criu waits meanwhile.
    fn notified(
        &mut self,
        notification: Notification<'_>,
        restored: &mut Option<(Pid, OwnedFd)>,
        master: &mut Option<OwnedFd>,
        hostname: Option<&str>,
    ) -> Result<()> {
        match notification.stage {
            "setup-namespaces" => {
                let pid = self.follow(notification.pid, restored)?;
                self.poststop_due.set(true);
                run_hooks(&self.plan, &self.record, pid)
            }
            "orphan-pts-master" => {
                let descriptor = notification.descriptor;
                match (&self.request.console_socket, descriptor) {
                    (Some(socket), Some(fd)) => send_fd::send_console(socket, &fd),
                    (None, fd) => {
                        *master = fd;
                        Ok(())
                    }
                    (Some(_), None) => Err(Error::new("criu sent no terminal")),
                }
            }
            "post-restore" => {
                let pid = self.follow(notification.pid, restored)?;
                hostname.map_or(Ok(()), |name| set_hostname(pid, name))?;
                self.complete(pid)
            }
            _ => Ok(()),
        }
    }

    /// Other commands find the process from here on.
    fn follow(&mut self, pid: Option<i32>, restored: &mut Option<(Pid, OwnedFd)>) -> Result<Pid> {
        if let Some((pid, _)) = restored {
            return Ok(*pid);
        }
        let pid = pid.ok_or_else(|| Error::new("criu named no process"))?;
        let pid = Pid::from_raw(pid);
        let pidfd = davit_sys::pidfd::open(pid).within(|| "the restored process")?;
        self.identity.set(Some(write_init_link(&self.dir, &pidfd, pid)?));
        *restored = Some((pid, pidfd));
        Ok(pid)
    }

    /// Completes the record, and hands out the pid. The processes are stopped still.
    fn complete(&mut self, pid: Pid) -> Result<()> {
        if let (Some(socket), Some(init)) = (&self.request.pidfd_socket, self.identity.get()) {
            let pidfd = init.pidfd()?.ok_or_else(Error::not_running)?;
            send_fd::send_pidfd(socket, &pidfd)?;
        }
        self.record.init = self.identity.get();
        self.record.restoring = false;
        self.dir.write_record(&self.record)?;
        match &self.request.pid_file {
            Some(path) => write_pid_file(path, pid.as_raw()),
            None => Ok(()),
        }
    }
}

/// Sets the host name in the uts namespace of a process. This one, with its one thread, enters it
/// for that.
fn set_hostname(pid: Pid, name: &str) -> Result<()> {
    let open_namespace = |whose: &str| {
        let path = format!("/proc/{whose}/ns/uts");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        open(path.as_str(), flags, Mode::empty()).syscall("open").within(|| path)
    };
    let (own, theirs) = (open_namespace("self")?, open_namespace(&pid.to_string())?);
    join_namespaces(theirs.as_fd(), libc::CLONE_NEWUTS).within(|| "hostname")?;
    let set = sethostname(name).syscall("sethostname").within(|| "hostname");
    join_namespaces(own.as_fd(), libc::CLONE_NEWUTS).within(|| "hostname")?;
    set
}
