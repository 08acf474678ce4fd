//! `delete`: kills what is left of a container and removes its state.

use std::path::Path;
use std::time::{Duration, Instant};

use davit_sys::trace::operation;
use nix::errno::Errno;

use super::{LOCK, kill};
use crate::config::annotations::hook_output;
use crate::error::{Error, ErrorKind, Result, Within};
use crate::hook::{Hook, HookPoint, Output};
use crate::id::Id;
use crate::log::warn;
use crate::spawn::idle_deadline;
use crate::state::{self, Status};
use crate::state::{ContainerDir, Lock, Record, Stage, StateRoot};

/// Timeout for the kernel to end the processes of a container and to release their cgroup.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for the holder of the lock to notice that its container was killed.
const HOLDER_TIMEOUT: Duration = Duration::from_millis(300);

/// Deletes a stopped or created container; with `force` any container.
///
/// # Errors
/// The container does not exist (with `force` that is success, as engines expect); it runs; it does
/// not end.
pub fn delete(root: &StateRoot, id: &Id, force: bool) -> Result<()> {
    let Some(dir) = root.find(id)? else {
        return if force { Ok(()) } else { Err(Error::not_found()) };
    };
    let locked = if force { lock_or_kill(&dir) } else { dir.lock(LOCK).map(Some) };
    let _lock = match locked {
        Err(error) if force && error.kind() == ErrorKind::NotFound => return Ok(()),
        locked => locked?,
    };
    delete_locked(root, &dir, force)
}

/// The same, by a command that holds the lock or does not depend on it.
pub(super) fn delete_locked(root: &StateRoot, dir: &ContainerDir, force: bool) -> Result<()> {
    let record = match dir.record() {
        Ok(record) => record,
        Err(error) if force => return delete_unreadable(root, dir, &error),
        Err(error) if error.kind() == ErrorKind::StateFormat => return Err(error),
        Err(error) => return Err(error.hint("delete --force removes what is left of it")),
    };
    let status = Status::of(&record)?;
    if !force && matches!(status, Status::Running | Status::Paused) {
        let status = status.name();
        return Err(Error::new(format!("cannot delete a container that is {status}"))
            .hint("stop it first, or use --force"));
    }
    remove(root, dir, &record, status)
}

/// Deletes a container that `run` has waited for.
///
/// # Errors
/// It cannot be removed. A container that another command has removed is not an error.
pub fn delete_ended(root: &StateRoot, dir: &ContainerDir, record: &Record) -> Result<()> {
    let _lock = match lock_or_kill(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        locked => locked?,
    };
    remove(root, dir, record, Status::Stopped)
}

/// Kills what is left of a container, runs its poststop hooks and removes its directory.
///
/// # Errors
/// Its processes do not end, or it cannot be removed.
pub(super) fn remove(
    root: &StateRoot,
    dir: &ContainerDir,
    record: &Record,
    status: Status,
) -> Result<()> {
    if record.restoring {
        stop_criu(record, dir)?;
    }
    stop(record, status)?;
    stop_criu(record, dir)?;
    poststop(record);
    root.remove(dir, record.stage != Stage::Creating)
}

/// Takes the lock; `None` if a command that is stopped or hangs holds it: `delete --force` does not
/// depend on other commands. A command that works on a container whose cgroup and directory are
/// gone fails at its next step, and the processes that it made are killed with it.
fn lock_or_kill(dir: &ContainerDir) -> Result<Option<Lock>> {
    match dir.lock(Duration::ZERO) {
        Err(error) if error.kind() == ErrorKind::Locked => {}
        locked => return locked.map(Some),
    }
    // A command that waits for the container releases the lock when the container ends. Processes
    // that do not end are reported later.
    let record = dir.record().unwrap_or_else(|_| dir.salvaged_record());
    let _ = kill::all_processes(&record, libc::SIGKILL);
    match dir.lock(HOLDER_TIMEOUT) {
        Err(error) if error.kind() == ErrorKind::Locked => Ok(None),
        locked => locked.map(Some),
    }
}

fn stop(record: &Record, status: Status) -> Result<()> {
    // Its cgroup and mounts ended with that boot: those that have their names now belong to other
    // containers.
    if record.is_of_another_boot() {
        return Ok(());
    }
    // Only a cgroup without processes can be removed: there is then no process to kill.
    let is_empty = status == Status::Stopped
        && record.cgroup.as_ref().is_some_and(davit_cgroups::Cgroup::remove_if_empty);
    if !is_empty {
        kill_processes(record)?;
    }
    if let Some(group) = &record.resctrl {
        group.remove().within(|| "linux.intelRdt")?;
    }
    unmount(record)
}

/// Ends a criu that works on a container. That of a restore would make cgroups again; what it has
/// restored is in them. Any other is given the time to undo its work: it notices that its davit or
/// the container has ended.
fn stop_criu(record: &Record, dir: &ContainerDir) -> Result<()> {
    let Some(criu) = dir.criu_at_work()? else { return Ok(()) };
    let is_in_cgroup = record.restoring && record.cgroup.is_some();
    if is_in_cgroup || !criu.wait_for_end(HOLDER_TIMEOUT)? {
        kill::send(&criu, libc::SIGKILL)?;
        criu.wait_for_end(KILL_TIMEOUT)?;
    }
    Ok(())
}

fn kill_processes(record: &Record) -> Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    kill_and_wait(record)?;
    match &record.cgroup {
        Some(cgroup) => Ok(cgroup.remove(deadline)?),
        None => Ok(()),
    }
}

/// Kills the container's processes, and returns when init has ended.
pub(super) fn kill_and_wait(record: &Record) -> Result<()> {
    kill::all_processes(record, libc::SIGKILL)?;
    if let Some(init) = record.init
        && !operation("wait", &"wait for the end of init", || init.wait_for_end(KILL_TIMEOUT))?
    {
        return Err(Error::new(format!(
            "init (pid {}) does not end within {} s of SIGKILL",
            init.pid,
            KILL_TIMEOUT.as_secs()
        ))
        .hint(waits_in(init.pid)));
    }
    Ok(())
}

/// Unmounts the mounts of a container without a mount namespace of its own.
pub(super) fn unmount(record: &Record) -> Result<()> {
    match &record.mounts_before {
        Some(others) => davit_rootfs::unmount_below(&record.rootfs, others)
            .within(|| format!("mounts below {}", record.rootfs.display())),
        None => Ok(()),
    }
}

/// The kernel function in which a process hangs that even SIGKILL does not end.
fn waits_in(pid: i32) -> String {
    match idle_deadline::waits_in(pid) {
        None => "it is in uninterruptible sleep: a device or a network file system".to_owned(),
        Some(function) => format!("it waits in the kernel, in {function}"),
    }
}

/// Runs the poststop hooks. The container is deleted even if they fail: a failure is a warning
/// (runtime.md, "Lifecycle", step 13).
pub(super) fn poststop(record: &Record) {
    let status = HookPoint::Poststop.status();
    let id = record.id.as_str();
    let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
    let state = format!("{before}0{after}");
    if record.poststop.is_empty() {
        return;
    }
    // The bundle may be gone by now.
    let directory = Some(record.bundle.as_path()).filter(|path| path.is_dir());
    // Hooks clean up: they run even if their log cannot be written any more.
    let output = Output::open(&hook_output(&record.annotations)).unwrap_or_else(|error| {
        warn(error.to_string());
        Output::default()
    });
    let run = |hook: &Hook| operation("hooks", hook, || hook.run(&state, directory, &output)).err();
    record.poststop.iter().filter_map(run).for_each(|error| warn(error.to_string()));
}

/// Deletes a container whose record is damaged or of an unknown format, by what can be read of it.
/// Without its cgroup in the record, the cgroup link leads to it; if that is damaged too, there is
/// nothing to kill but init.
fn delete_unreadable(root: &StateRoot, dir: &ContainerDir, error: &Error) -> Result<()> {
    let record = with_linked_cgroup(dir.salvaged_record(), dir)?;
    // A record is written before the plan and removed after it: without both, no hook has run yet,
    // or another command has run the poststop hooks and is about to remove the rest.
    if !error.is_os(Errno::ENOENT) || dir.has_plan() {
        let told = match error.kind() {
            ErrorKind::StateFormat => format!("its state has an unknown format ({error})"),
            _ => format!("its record was damaged ({error})"),
        };
        warn(match record.poststop.len() {
            0 => format!("{told}: poststop hooks, if it has any, did not run"),
            count => format!("{told}: it is deleted with its {count} poststop hooks"),
        });
    }
    let status = Status::of(&record)?;
    remove(root, dir, &record, status)
}

/// The record with the cgroup to which the link in the container's directory leads, if it names
/// none itself. After a boot another container may have that cgroup.
pub(super) fn with_linked_cgroup(record: Record, dir: &ContainerDir) -> Result<Record> {
    if record.cgroup.is_some() || record.is_of_another_boot() {
        return Ok(record);
    }
    Ok(Record { cgroup: linked_cgroup(dir)?, ..record })
}

fn linked_cgroup(dir: &ContainerDir) -> Result<Option<davit_cgroups::Cgroup>> {
    match dir.read_cgroup_link() {
        Ok(None) => Ok(None),
        Ok(Some(path)) => {
            let layout = davit_cgroups::Layout::discover().within(|| "cgroups")?;
            Ok(Some(cgroup_at(&layout, &path)))
        }
        Err(error) => {
            warn(format!(
                "the note of its cgroup was damaged ({error}): its processes, if any, were not ended"
            ));
            Ok(None)
        }
    }
}

fn cgroup_at(layout: &davit_cgroups::Layout, path: &Path) -> davit_cgroups::Cgroup {
    let unified = layout.unified.iter().map(|tree| (&tree.mountpoint, Vec::new()));
    let legacy = layout.hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
    let members = unified.chain(legacy).map(|(mountpoint, controllers)| davit_cgroups::Member {
        directory: mountpoint.join(path),
        path: path.to_owned(),
        controllers,
    });
    davit_cgroups::Cgroup { members: members.collect(), ..davit_cgroups::Cgroup::default() }
}
