//! `--debug` and `--timings`: every operation of the runtime and of init, as it begins and as it
//! ends.
//!
//! Each process writes its own lines, with one write(2) a line, so that the last line of a process
//! that hangs names the operation.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use davit_sys::trace::{Observer, Operation};
use davit_sys::{OsContext, Slots};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::log;
use crate::slot;

/// How operations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// As entries of a log, at level debug.
    Log(log::Format),
    /// As Chrome trace events: an object on a line, each with a comma behind it.
    Events,
}

/// A file to which operations are traced.
#[derive(Debug)]
pub struct Sink {
    /// An open file, pipe or terminal.
    pub file: OwnedFd,
    /// How they are written there.
    pub format: Format,
}

/// The phase of the operation in which the first process is made: what that process does until it
/// executes init falls into the same time.
pub(crate) const CLONE: &str = "clone";

/// The sinks of this process: one for `--debug`, one for `--timings`. Init gets copies of them.
static SINKS: [OnceLock<(File, Format)>; 2] = [OnceLock::new(), OnceLock::new()];

/// Whether the file of events has its end.
static EVENTS_ENDED: AtomicBool = AtomicBool::new(false);

/// The tracer of this process.
static TRACER: OnceLock<Tracer> = OnceLock::new();

struct Tracer {
    process: &'static str,
    /// In init, the lines of each section of its plan: the plan that init gets lacks the fields of
    /// config.json.
    lines: Vec<Vec<String>>,
}

/// The input of init for tracing its operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitTrace {
    /// Its sinks, by slot.
    sinks: Vec<(u16, Format)>,
    /// The lines of each section of its plan.
    lines: Vec<Vec<String>>,
}

/// Traces every operation of this process, and of init, to `sink` as well from here on.
pub fn tell(sink: Sink) {
    tell_as("runtime", sink, Vec::new());
}

/// The same in init.
pub(crate) fn tell_in_init(
    input: Option<&InitTrace>,
    slots: &mut Slots,
) -> Result<(), davit_sys::Error> {
    let Some(InitTrace { sinks, lines }) = input else { return Ok(()) };
    for (slot, format) in sinks {
        tell_as("init", Sink { file: slots.take(*slot)?, format: *format }, lines.clone());
    }
    Ok(())
}

/// In init: the section and the operation that are next. Each is traced once, in their order.
static SECTION: AtomicUsize = AtomicUsize::new(0);
static OP: AtomicUsize = AtomicUsize::new(0);

/// In init: the operations of this section are next.
pub(crate) fn enter_section(section: usize) {
    SECTION.store(section, Ordering::Relaxed);
    OP.store(0, Ordering::Relaxed);
}

fn tell_as(process: &'static str, sink: Sink, lines: Vec<Vec<String>>) {
    let mut sink = (File::from(sink.file), sink.format);
    for place in &SINKS {
        match place.set(sink) {
            Ok(()) => break,
            Err(unset) => sink = unset,
        }
    }
    davit_sys::trace::observe(TRACER.get_or_init(|| Tracer { process, lines }));
}

/// Puts copies of the sinks into slots, for an init whose sections have these lines; `None` if
/// nothing is traced.
///
/// # Errors
/// fcntl(2)'s.
pub(crate) fn for_init(
    slots: &mut Slots,
    lines: impl FnOnce() -> Vec<Vec<String>>,
) -> Result<Option<InitTrace>, davit_sys::Error> {
    let mut sinks = Vec::new();
    for (slot, (file, format)) in (slot::TRACE..).zip(SINKS.iter().filter_map(OnceLock::get)) {
        slots.put(slot, file.as_fd().try_clone_to_owned().syscall("fcntl")?);
        sinks.push((slot, *format));
    }
    Ok((!sinks.is_empty()).then(|| InitTrace { sinks, lines: lines() }))
}

impl Tracer {
    fn process(&self, operation: &Operation<'_>) -> &'static str {
        if operation.in_child { "init" } else { self.process }
    }

    fn name(&self, operation: &Operation<'_>) -> String {
        let section = self.lines.get(SECTION.load(Ordering::Relaxed));
        match section.and_then(|lines| lines.get(OP.load(Ordering::Relaxed))) {
            Some(line) => line.clone(),
            None => operation.name.to_string(),
        }
    }

    fn write(&self, line: impl Fn(Format) -> String) {
        for (file, format) in SINKS.iter().filter_map(OnceLock::get) {
            if *format == Format::Events && EVENTS_ENDED.load(Ordering::Relaxed) {
                continue;
            }
            // A failed trace does not stop the work.
            let _ = (&mut &*file).write_all(line(*format).as_bytes());
        }
    }
}

impl Observer for Tracer {
    fn begin(&self, operation: &Operation<'_>) {
        let (process, name) = (self.process(operation), self.name(operation));
        self.write(|format| match format {
            Format::Log(format) => entry(format, process, &name, "", "begin", Map::new()),
            Format::Events => event("B", process, operation.phase, &name, None),
        });
    }

    fn end(&self, operation: &Operation<'_>, took: Duration, failure: Option<&dyn Display>) {
        let (process, name) = (self.process(operation), self.name(operation));
        let failure = failure.map(ToString::to_string);
        let microseconds = took.as_micros();
        let mut outcome = String::new();
        let _ = match &failure {
            Some(error) => write!(outcome, ": failed after {microseconds} us: {error}"),
            None => write!(outcome, ": done in {microseconds} us"),
        };
        self.write(|format| match format {
            Format::Log(format) => {
                let mut more = Map::new();
                more.insert("microseconds".to_owned(), json!(took.as_micros() as u64));
                more.extend(failure.as_ref().map(|error| ("error".to_owned(), json!(error))));
                entry(format, process, &name, &outcome, "end", more)
            }
            Format::Events => event("E", process, operation.phase, &name, failure.as_deref()),
        });
        OP.fetch_add(1, Ordering::Relaxed);
    }
}

fn entry(
    format: log::Format,
    process: &str,
    name: &str,
    outcome: &str,
    event: &str,
    mut more: Map<String, serde_json::Value>,
) -> String {
    for (member, value) in [("process", process), ("operation", name), ("event", event)] {
        more.insert(member.to_owned(), value.into());
    }
    log::entry(format, "debug", &format!("{process}: {name}{outcome}"), more)
}

/// Ends the trace of events; returns the text that completes the file as JSON.
pub(crate) fn end_events() -> &'static str {
    EVENTS_ENDED.store(true, Ordering::Relaxed);
    "{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"davit\"}}\n]\n"
}

/// One event (the "Trace Event Format" of Chrome and Perfetto). Processes appear as threads of one
/// process: their pids differ from one pid namespace to the next.
fn event(kind: &str, process: &str, phase: &str, name: &str, error: Option<&str>) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let thread = if process == "init" { 2 } else { 1 };
    let mut event = json!({
        "ph": kind, "pid": 1, "tid": thread, "ts": now.as_micros() as u64, "cat": phase, "name": name
    });
    if let (Some(error), Some(event)) = (error, event.as_object_mut()) {
        event.insert("args".to_owned(), json!({ "error": error }));
    }
    format!("{event},\n")
}
