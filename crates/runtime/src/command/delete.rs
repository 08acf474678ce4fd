//! `delete`: ends what is left of a container and forgets it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Created, LOCK, kill};
use crate::annotations::HookOutput;
use crate::error::{Error, Result, Within};
use crate::hook::{Hook, Moment, Output};
use crate::id::Id;
use crate::record::{Entry, Lock, Record, Root};
use crate::state::{self, Status};

/// How long the kernel may take to end processes and let go of their cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a stopped or created container; with `force` any. Returns what went wrong afterwards
/// and does not matter to the container, which is gone: failed poststop hooks.
///
/// # Errors
/// There is none (with `force` that is no error, as engines expect); it runs; it does not end.
pub fn delete(root: &Root, id: &Id, force: bool) -> Result<Vec<String>> {
    let Some(entry) = root.find(id)? else {
        return if force { Ok(Vec::new()) } else { Err(Error::new("container does not exist")) };
    };
    let _lock = match lock(&entry, force) {
        Err(error) if force && error.message() == "container does not exist" => {
            return Ok(Vec::new());
        }
        locked => locked?,
    };
    let record = match entry.record() {
        Ok(record) => record,
        Err(error) if force => return delete_damaged(root, &entry, &error),
        Err(error) => return Err(error.hint("delete --force removes what is left of it")),
    };
    let status = Status::of(&record)?;
    if !force && matches!(status, Status::Running | Status::Paused) {
        let status = status.name();
        return Err(Error::new(format!("cannot delete a container that is {status}"))
            .hint("stop it first, or use --force"));
    }
    forget(root, &entry, &record, status)
}

/// Deletes a container that `run` has waited for: it knows all that it needs.
///
/// # Errors
/// It cannot be removed. That somebody else has done so is none.
pub fn delete_ended(created: &Created) -> Result<Vec<String>> {
    let _lock = match lock(&created.entry, true) {
        Err(error) if error.message() == "container does not exist" => return Ok(Vec::new()),
        locked => locked?,
    };
    forget(&created.root, &created.entry, &created.record, Status::Stopped)
}

fn forget(root: &Root, entry: &Entry, record: &Record, status: Status) -> Result<Vec<String>> {
    end(record, status)?;
    let warnings = poststop(record);
    entry.remove(root)?;
    Ok(warnings)
}

fn lock(entry: &Entry, force: bool) -> Result<Lock> {
    if force {
        if let Ok(lock) = entry.lock(Duration::ZERO) {
            return Ok(lock);
        }
        // A command that waits for the container lets go of it when that ends.
        end_now(entry);
    }
    entry.lock(LOCK)
}

/// What can be ended is ended; the second try, with the lock, says what cannot.
fn end_now(entry: &Entry) {
    if let Ok(record) = entry.record() {
        let _ = kill::everything(&record, libc::SIGKILL);
    }
}

fn end(record: &Record, status: Status) -> Result<()> {
    // Only a cgroup without processes can be removed: then there is nobody to be ended.
    let is_empty = status == Status::Stopped
        && record.cgroup.as_ref().is_some_and(cgroups::Cgroup::remove_if_empty);
    if !is_empty {
        end_processes(record)?;
    }
    if let Some(group) = &record.resctrl {
        group.remove().within(|| "linux.intelRdt")?;
    }
    unmount(record)
}

fn end_processes(record: &Record) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    kill::everything(record, libc::SIGKILL)?;
    if let Some(init) = record.init
        && !init.wait_for_end(PATIENCE)?
    {
        return Err(Error::new(format!(
            "init (pid {}) does not end within {} s of SIGKILL",
            init.pid,
            PATIENCE.as_secs()
        ))
        .hint(waits_in(init.pid)));
    }
    match &record.cgroup {
        Some(cgroup) => Ok(cgroup.remove(deadline)?),
        None => Ok(()),
    }
}

/// What a container without a mount namespace of its own has mounted.
pub(super) fn unmount(record: &Record) -> Result<()> {
    match &record.mounts_before {
        Some(others) => rootfs::unmount_below(&record.rootfs, others)
            .within(|| format!("mounts below {}", record.rootfs.display())),
        None => Ok(()),
    }
}

/// Where a process hangs that even SIGKILL does not end.
fn waits_in(pid: i32) -> String {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    match place.trim() {
        "" | "0" => "it is in uninterruptible sleep: a device or a network file system".to_owned(),
        place => format!("it waits in the kernel, in {place}"),
    }
}

pub(super) fn poststop(record: &Record) -> Vec<String> {
    let status = Moment::Poststop.status();
    let id = record.id.as_str();
    let (before, after) = state::for_hook(id, status, &record.bundle, &record.annotations);
    let state = format!("{before}0{after}");
    let mut warnings = Vec::new();
    if record.poststop.is_empty() {
        return warnings;
    }
    // The bundle may be gone by now.
    let directory = Some(record.bundle.as_path()).filter(|path| path.is_dir());
    // Hooks clean up: they run also where their log cannot be written any more.
    let output = Output::open(&HookOutput::of(&record.annotations)).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Output::default()
    });
    let run = |hook: &Hook| hook.run(&state, directory, &output).err();
    warnings.extend(record.poststop.iter().filter_map(run).map(|error| error.to_string()));
    warnings
}

/// Without a record there is the note of the cgroup, and the cgroup knows its processes.
fn delete_damaged(root: &Root, entry: &Entry, damage: &Error) -> Result<Vec<String>> {
    if let Some(path) = entry.noted_cgroup() {
        let layout = cgroups::Layout::discover().within(|| "cgroups")?;
        let cgroup = cgroup_at(&layout, &path);
        let deadline = Instant::now() + PATIENCE;
        cgroup.kill(deadline)?;
        cgroup.remove(deadline)?;
    }
    entry.remove(root)?;
    Ok(vec![format!("its record was damaged ({damage}): poststop hooks did not run")])
}

fn cgroup_at(layout: &cgroups::Layout, path: &Path) -> cgroups::Cgroup {
    let unified = layout.unified.iter().map(|tree| (&tree.mountpoint, Vec::new()));
    let legacy = layout.hierarchies.iter().map(|tree| (&tree.mountpoint, tree.controllers.clone()));
    let members = unified.chain(legacy).map(|(mountpoint, controllers)| cgroups::Member {
        directory: mountpoint.join(path),
        path: path.to_owned(),
        controllers,
    });
    cgroups::Cgroup { members: members.collect(), ..cgroups::Cgroup::default() }
}
