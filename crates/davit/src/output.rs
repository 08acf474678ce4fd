//! What is said, and where: results on standard output, failures on standard error and in the log.

use std::fs::File;
use std::io::Write;
use std::time::SystemTime;

use crate::globals::{Globals, LogFormat};

/// How a command ended that did not fail.
pub(crate) enum Outcome {
    /// With success.
    Done,
    /// With the exit code of the container's process.
    Exit(u8),
}

/// A command that failed.
pub(crate) struct Failure {
    /// The line: what was being done, from the outside in.
    pub(crate) message: String,
    /// Advice.
    pub(crate) hint: Option<String>,
    /// Exit code.
    pub(crate) code: u8,
}

/// Writes a failure: to standard error, and as exactly one entry to the log.
pub(crate) fn fail(globals: &Globals, failure: &Failure) {
    let mut text = format!("davit: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // There is nowhere left to complain when this fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
    let message = match &failure.hint {
        Some(hint) => format!("{} (hint: {hint})", failure.message),
        None => failure.message.clone(),
    };
    if let Err(error) = log(globals, "error", &message)
        && let Some(path) = &globals.log
    {
        let _ = writeln!(std::io::stderr(), "davit: --log {}: {error}", path.display());
    }
}

/// Writes why a container has ended as it has, for the person who waits for it.
pub(crate) fn explain_end(globals: &Globals, reason: &str) {
    let _ = writeln!(std::io::stderr(), "davit: {reason}");
    let _ = log(globals, "warning", reason);
}

/// Writes what went wrong without failing: to the log, where the user asked for warnings.
pub(crate) fn warn(globals: &Globals, warnings: &[String]) {
    if !globals.verbose {
        return;
    }
    for warning in warnings {
        // A warning that cannot be written is no reason to fail what has succeeded.
        let _ = log(globals, "warning", warning);
    }
}

fn log(globals: &Globals, level: &str, message: &str) -> std::io::Result<()> {
    let Some(path) = &globals.log else { return Ok(()) };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = runtime::state::rfc3339(now);
    let line = match globals.log_format {
        LogFormat::Json => {
            serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
        }
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// Writes a command's result to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| anyhow::anyhow!("standard output: {error}"))
}
