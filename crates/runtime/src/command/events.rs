//! `events`: periodic resource usage and OOM kills of a container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use davit_cgroups::{Cgroup, OomEvent, OomScope, OomWatch};
use davit_sys::OsContext;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::pause;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::state::Status;
use crate::state::{Record, StateRoot};

/// One event, as `events` prints it.
pub type Event = Value;

/// The present resource usage of a container.
///
/// # Errors
/// It does not run; it has no cgroup of its own.
pub fn statistics(root: &StateRoot, id: &Id) -> Result<Event> {
    let record = living(root, id)?;
    stats_event(id, pause::cgroup(&record)?)
}

/// Calls `tell` for each event of a container until its init has ended or `tell` fails.
///
/// # Errors
/// It does not run; it has no cgroup of its own; the error of `tell`.
pub fn events<E: From<Error>>(
    root: &StateRoot,
    id: &Id,
    interval: Duration,
    mut tell: impl FnMut(&Event) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let record = living(root, id)?;
    let cgroup = pause::cgroup(&record)?;
    let init =
        record.init.ok_or_else(Error::not_running)?.pidfd()?.ok_or_else(Error::not_running)?;
    let mut oom = cgroup.watch_oom().map_err(Error::from)?;
    let mut next = Instant::now() + interval;
    loop {
        let ended = wait(&init, oom.as_ref(), next)?;
        let event = oom.as_mut().map_or(Ok(OomEvent::default()), OomWatch::read);
        let event = event.map_err(Error::from)?;
        for _ in 0..event.kills {
            tell(&oom_event(id, event.scope.as_ref()))?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next += interval;
            tell(&stats_event(id, cgroup)?)?;
        }
    }
}

fn living(root: &StateRoot, id: &Id) -> Result<Record> {
    let record = root.get(id)?.record()?;
    Status::of_living(&record)?;
    Ok(record)
}

fn stats_event(id: &Id, cgroup: &Cgroup) -> Result<Event> {
    let stats = cgroup.stats()?;
    let mut data = serde_json::to_value(stats).map_err(|error| Error::new(error.to_string()))?;
    if let Some(data) = data.as_object_mut() {
        // Readers of runc's events expect these members as well.
        data.insert("intel_rdt".to_owned(), json!({}));
        data.insert("network_interfaces".to_owned(), Value::Null);
    }
    Ok(json!({ "type": "stats", "id": id.as_str(), "data": data }))
}

/// The event as runc prints it, and the cgroup whose limit was reached: the container's own, or one
/// above it.
fn oom_event(id: &Id, scope: Option<&OomScope>) -> Event {
    let mut event = json!({ "type": "oom", "id": id.as_str() });
    if let (Some(scope), Some(event)) = (scope, event.as_object_mut()) {
        let data = json!({ "cgroup": scope.path.to_string_lossy(), "limit": scope.limit });
        event.insert("data".to_owned(), data);
    }
    event
}

/// Waits for an OOM kill, for the time of the next sample, or for the end of init; true if it was
/// the end.
fn wait(init: &OwnedFd, oom: Option<&OomWatch>, until: Instant) -> Result<bool> {
    let mut fds = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
    fds.extend(oom.map(|oom| {
        let (fd, flags) = oom.poll_events();
        PollFd::new(fd, flags)
    }));
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up, lest the last millisecond be spent in a loop.
    let millis = left.as_millis().saturating_add(u128::from(!left.is_zero()));
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Err(Errno::EINTR) => return Ok(false),
        result => result.syscall("poll")?,
    };
    let ended = fds.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
    Ok(ended)
}
