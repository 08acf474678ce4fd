//! `events`: what a container uses, again and again, and when the kernel kills in it for want of
//! memory.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cgroups::{Cgroup, Limited, OomNews, OomWatch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use sys::During;

use super::pause;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::record::{Record, Root};
use crate::state::Status;

/// One event, as `events` prints it.
pub type Event = Value;

/// What a container uses now.
///
/// # Errors
/// It does not run; it has no cgroup of its own.
pub fn statistics(root: &Root, id: &Id) -> Result<Event> {
    let record = living(root, id)?;
    stats_event(id, pause::cgroup(&record)?)
}

/// Tells what happens to a container until its init has ended or `tell` fails.
///
/// # Errors
/// It does not run; it has no cgroup of its own; what `tell` says.
pub fn events<E: From<Error>>(
    root: &Root,
    id: &Id,
    interval: Duration,
    mut tell: impl FnMut(&Event) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let record = living(root, id)?;
    let cgroup = pause::cgroup(&record)?;
    let not_running = || Error::new("container not running");
    let init = record.init.ok_or_else(not_running)?.handle()?.ok_or_else(not_running)?;
    let mut oom = cgroup.watch_oom().map_err(Error::from)?;
    let mut next = Instant::now() + interval;
    loop {
        let ended = wait(&init, oom.as_ref(), next)?;
        let news = oom.as_mut().map_or(Ok(OomNews::default()), OomWatch::news);
        let news = news.map_err(Error::from)?;
        for _ in 0..news.kills {
            tell(&oom_event(id, news.limited.as_ref()))?;
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

fn living(root: &Root, id: &Id) -> Result<Record> {
    let record = root.get(id)?.record()?;
    Status::of_living(&record)?;
    Ok(record)
}

fn stats_event(id: &Id, cgroup: &Cgroup) -> Result<Event> {
    let stats = cgroup.stats()?;
    let mut data = serde_json::to_value(stats).map_err(|error| Error::new(error.to_string()))?;
    if let Some(data) = data.as_object_mut() {
        // Readers of runc's events look for these as well.
        data.insert("intel_rdt".to_owned(), json!({}));
        data.insert("network_interfaces".to_owned(), Value::Null);
    }
    Ok(json!({ "type": "stats", "id": id.as_str(), "data": data }))
}

/// As runc's, and with the cgroup whose limit it was: the container's own, or one above it.
fn oom_event(id: &Id, limited: Option<&Limited>) -> Event {
    let mut event = json!({ "type": "oom", "id": id.as_str() });
    if let (Some(limited), Some(event)) = (limited, event.as_object_mut()) {
        let data = json!({ "cgroup": limited.path.to_string_lossy(), "limit": limited.limit });
        event.insert("data".to_owned(), data);
    }
    event
}

/// Waits for news, for the time of the next figures, or for the end of init: tells whether it was
/// the end.
fn wait(init: &OwnedFd, oom: Option<&OomWatch>, until: Instant) -> Result<bool> {
    let mut fds = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
    fds.extend(oom.map(|oom| {
        let (fd, flags) = oom.wakes();
        PollFd::new(fd, flags)
    }));
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up, lest the last millisecond be spent in a loop.
    let millis = left.as_millis().saturating_add(u128::from(!left.is_zero()));
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Err(Errno::EINTR) => return Ok(false),
        result => result.during("poll")?,
    };
    let ended = fds.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
    Ok(ended)
}
