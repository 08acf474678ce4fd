//! Output: results to standard output, errors to standard error and the log.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::Context;
use davit_runtime::log::{Format, entry, take_warnings};
use davit_runtime::trace::Sink;
use serde_json::{Map, Value};

use crate::globals::{Globals, Level};

/// The outcome of a command that did not fail.
pub(crate) enum Outcome {
    /// Success.
    Done,
    /// The exit code of the container's process.
    Exit(u8),
}

/// The failure of a command.
pub(crate) struct Failure {
    /// The message, on one line, from the outermost step to the cause.
    pub(crate) message: String,
    /// A hint, on a line of its own.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) code: u8,
}

/// Opens the log before the command does anything. A command whose log cannot be opened is refused,
/// as by runc and crun, even `delete --force`.
pub(crate) fn open_log(globals: &mut Globals) -> anyhow::Result<()> {
    if let (Some(path), None) = (&globals.log, &globals.log_file) {
        let opened = davit_runtime::outside_file::open_log(path);
        let log = opened.with_context(|| format!("--log {}", path.display()))?;
        globals.log_file = Some(Rc::new(File::from(log)));
    }
    Ok(())
}

/// Writes a failure to standard error, and as exactly one entry to the log, with the warnings as a
/// member: podman reads the whole file as one JSON object.
pub(crate) fn fail(globals: &Globals, failure: &Failure) {
    let warnings = warnings(globals);
    let mut text = format!("davit: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    if globals.log_file.is_none() {
        // After the error and in the same write(2): conmon reads once, and containerd and CRI-O
        // show the first line.
        warnings.iter().for_each(|warning| text.push_str(&for_stderr(globals, warning)));
    }
    print_error(&text);
    let message = match &failure.hint {
        Some(hint) => format!("{} (hint: {hint})", failure.message),
        None => failure.message.clone(),
    };
    if let Err(error) = log_failure(globals, &message, &warnings)
        && let Some(path) = &globals.log
    {
        let _ = writeln!(std::io::stderr(), "davit: --log {}: {error}", path.display());
    }
}

fn log_failure(globals: &Globals, message: &str, warnings: &[String]) -> std::io::Result<()> {
    let mut members = Map::new();
    // A debug log has many objects anyway.
    if globals.log_format == Format::Json && globals.level < Level::Debug {
        if !warnings.is_empty() {
            members.insert("warnings".to_owned(), warnings.into());
        }
    } else {
        for warning in warnings {
            log(globals, "warning", warning, Map::new())?;
        }
    }
    log(globals, "error", message, members)
}

/// Reports why a container's process has ended, to the user who waits for it.
pub(crate) fn report_end(globals: &Globals, reason: &str, hint: Option<&str>) {
    let hint = hint.map_or(String::new(), |hint| format!("hint: {hint}\n"));
    print_error(&format!("davit: {reason}\n{hint}"));
    let _ = log(globals, "warning", reason, Map::new());
}

/// Writes to standard error.
pub(crate) fn print_error(text: &str) {
    // A failure to write to standard error cannot be reported.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes the warnings of a command that has succeeded: to the log, or to standard error without
/// one.
pub(crate) fn print_warnings(globals: &Globals) {
    for warning in warnings(globals) {
        if globals.log_file.is_none() {
            print_error(&for_stderr(globals, &warning));
        }
        // A warning that cannot be written is no reason to fail what has succeeded.
        let _ = log(globals, "warning", &warning, Map::new());
    }
}

/// With `--debug`, sets the observer that logs every operation: to the log, or to standard error
/// without one.
pub(crate) fn trace(globals: &Globals) -> anyhow::Result<()> {
    if globals.level < Level::Debug {
        return Ok(());
    }
    let (file, format) = match &globals.log_file {
        Some(file) => (file.as_fd().try_clone_to_owned(), globals.log_format),
        // A duplicate, because standard error itself becomes the container's terminal.
        None => (std::io::stderr().as_fd().try_clone_to_owned(), stderr_format(globals)),
    };
    let file = file.context("--debug")?;
    davit_runtime::trace::tell(Sink { file, format: davit_runtime::trace::Format::Log(format) });
    Ok(())
}

fn warnings(globals: &Globals) -> Vec<String> {
    let warnings = take_warnings();
    if globals.level < Level::Warning { Vec::new() } else { warnings }
}

fn for_stderr(globals: &Globals, warning: &str) -> String {
    entry(stderr_format(globals), "warning", warning, Map::new())
}

fn stderr_format(globals: &Globals) -> Format {
    match globals.log_format {
        Format::Json => Format::Json,
        _ => Format::Plain,
    }
}

fn log(
    globals: &Globals,
    level: &str,
    message: &str,
    members: Map<String, Value>,
) -> std::io::Result<()> {
    let Some(file) = &globals.log_file else { return Ok(()) };
    file.as_ref().write_all(entry(globals.log_format, level, message, members).as_bytes())
}

/// Writes a command's result to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| anyhow::anyhow!("standard output: {error}"))
}
/// An error as one line, from the outermost context to the error of davit's library, whose message
/// contains that of its sources.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut messages = Vec::new();
    for cause in error.chain() {
        messages.push(cause.to_string());
        if cause.is::<davit_runtime::Error>() {
            break;
        }
    }
    messages.join(": ").replace('\n', " ")
}
