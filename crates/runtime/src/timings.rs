//! `run --timings`: the operations up to the user's program, as a trace for viewers and as a
//! summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use davit_sys::OsContext;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use serde::Deserialize;

use crate::error::{Error, Result, Within};
use crate::outside_file;
use crate::trace::{self, Format, Sink};

/// How many of the slowest operations a summary names.
const SLOWEST: usize = 5;

/// A file that operations are written to, as Chrome trace events.
pub struct Timings(File);

impl Timings {
    /// Replaces the file at `path`, and traces every operation of this process and of init to it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(path: &Path) -> Result<Self> {
        let open = || -> std::result::Result<(File, File), davit_sys::Error> {
            outside_file::replace(path, b"[\n")?;
            // Several processes write: each line is appended.
            let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = File::from(openat(AT_FDCWD, path, flags, Mode::empty()).syscall("open")?);
            let copy = file.try_clone().syscall("fcntl")?;
            Ok((file, copy))
        };
        let (file, copy) = open().within(|| format!("--timings {}", path.display()))?;
        trace::tell(Sink { file: copy.into(), format: Format::Events });
        Ok(Self(file))
    }

    /// Ends the file, and sums it up.
    ///
    /// # Errors
    /// It cannot be written or read.
    pub fn finish(mut self) -> Result<String> {
        let mut text = String::new();
        let mut finish = || -> std::result::Result<(), davit_sys::Error> {
            self.0.write_all(trace::end_events().as_bytes()).syscall("write")?;
            self.0.rewind().syscall("lseek")?;
            self.0.read_to_string(&mut text).syscall("read").map(drop)
        };
        finish().within(|| "--timings")?;
        let events: Vec<Event> = serde_json::from_str(&text)
            .map_err(|error| Error::new(format!("--timings: {error}")))?;
        Ok(summary(&operations(&events)))
    }
}

/// An event, as it was written.
#[derive(Deserialize)]
struct Event {
    ph: String,
    tid: u8,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    cat: String,
    name: String,
}

/// An operation that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Operation {
    process: &'static str,
    phase: String,
    name: String,
    /// When, in microseconds.
    begin: u64,
    /// Its own microseconds, without those of operations within it.
    own: u64,
}

/// All operations; one that has not ended took until the last event.
fn operations(events: &[Event]) -> Vec<Operation> {
    let mut done = Vec::new();
    let end = events.iter().map(|event| event.ts).max().unwrap_or(0);
    for (thread, process) in [(1, "runtime"), (2, "init")] {
        // Each with what others took within it.
        let mut open: Vec<(Operation, u64)> = Vec::new();
        let mut close = |open: &mut Vec<(Operation, u64)>, at: u64| {
            let Some((mut operation, within)) = open.pop() else { return };
            let took = at.saturating_sub(operation.begin);
            operation.own = took.saturating_sub(within);
            if let Some((_, within)) = open.last_mut() {
                *within = within.saturating_add(took);
            }
            done.push(operation);
        };
        for event in events.iter().filter(|event| event.tid == thread) {
            match event.ph.as_str() {
                "B" => {
                    let (phase, name) = (event.cat.clone(), event.name.clone());
                    open.push((Operation { process, phase, name, begin: event.ts, own: 0 }, 0));
                }
                "E" => close(&mut open, event.ts),
                _ => {}
            }
        }
        while !open.is_empty() {
            close(&mut open, end);
        }
    }
    let in_child: Vec<_> = done.iter().filter(|other| other.process == "init").cloned().collect();
    for operation in done.iter_mut().filter(|operation| operation.phase == trace::CLONE) {
        let span = operation.begin..operation.begin + operation.own;
        let child = in_child.iter().filter(|other| span.contains(&(other.begin + other.own)));
        operation.own = operation.own.saturating_sub(child.map(|other| other.own).sum());
    }
    done
}

/// Times by phase, and the slowest operations. The wait of the runtime while init works is not
/// counted.
fn summary(operations: &[Operation]) -> String {
    let begin = operations.iter().map(|operation| operation.begin).min().unwrap_or(0);
    let end = operations.iter().map(|operation| operation.begin + operation.own).max();
    let total = end.unwrap_or(begin).saturating_sub(begin);
    let mut text = format!("davit: timings: {} us\n", total);
    let mut phases: BTreeMap<(&str, &str), (usize, u64, u64)> = BTreeMap::new();
    let work = || operations.iter().filter(|operation| operation.phase != "wait");
    for operation in work() {
        let phase = phases.entry((operation.process, operation.phase.as_str()));
        let (count, own, first) = phase.or_insert((0, 0, operation.begin));
        *count += 1;
        *own += operation.own;
        *first = operation.begin.min(*first);
    }
    let mut phases: Vec<_> = phases.into_iter().collect();
    phases.sort_by_key(|(_, (_, _, first))| *first);
    let _ = writeln!(text, "  {:8} {:12} {:>10} {:>10}", "process", "phase", "operations", "us");
    for ((process, phase), (count, own, _)) in phases {
        let _ = writeln!(text, "  {process:8} {phase:12} {count:>10} {own:>10}");
    }
    let mut slowest: Vec<_> = work().collect();
    slowest.sort_by_key(|operation| std::cmp::Reverse(operation.own));
    text.push_str("  slowest:\n");
    for operation in slowest.iter().take(SLOWEST) {
        let Operation { process, name, own, .. } = operation;
        let _ = writeln!(text, "  {own:>8} us  {process}: {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ph: &str, tid: u8, ts: u64, name: &str) -> Event {
        Event { ph: ph.to_owned(), tid, ts, cat: "phase".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_is_within_an_operation_is_not_its_own() {
        let events = [
            event("B", 1, 10, "outer"),
            event("B", 1, 20, "inner"),
            event("B", 2, 25, "hangs"),
            event("E", 1, 50, "inner"),
            event("E", 1, 60, "outer"),
        ];
        let done = operations(&events);
        let own: Vec<_> = done.iter().map(|op| (op.process, op.name.as_str(), op.own)).collect();
        assert_eq!(
            own,
            [("runtime", "inner", 30), ("runtime", "outer", 20), ("init", "hangs", 35)]
        );
        let summary = summary(&done);
        assert!(summary.contains("      35 us  init: hangs\n"), "{summary}");
    }
}
