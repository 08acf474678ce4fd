//! Errors of planning, and of CRIU.

use std::fmt;
use std::path::PathBuf;

use crate::log::LogLine;

/// The oldest version of CRIU that is used: 3.16 (of 2021) is the first with all options that
/// engines pass.
pub const OLDEST: u32 = 31_600;

/// What cannot be checkpointed or restored, or has failed.
#[derive(Debug)]
pub enum Error {
    /// A field of config.json, an option or a mount, and the reason.
    Refused {
        /// The field, the option or the mount.
        subject: String,
        /// Why it is refused.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// There is no program `criu`.
    Missing {
        /// The path that was named, or none.
        named: Option<PathBuf>,
    },
    /// It cannot be executed.
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        error: davit_sys::Error,
    },
    /// It is too old.
    TooOld {
        /// Its path.
        program: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It has ended, or does not answer.
    Gone {
        /// How it has ended.
        how: String,
        /// What it has logged.
        lines: Vec<LogLine>,
        /// Where.
        log: Option<PathBuf>,
    },
    /// It sent a message that cannot be decoded.
    Protocol,
    /// It failed.
    Failed {
        /// Its message, or its errno in words.
        message: Option<String>,
        /// What it has logged.
        lines: Vec<LogLine>,
        /// Where.
        log: Option<PathBuf>,
    },
    /// A system call failed.
    Os {
        /// What was being done.
        step: String,
        /// The failure.
        error: davit_sys::Error,
    },
}

impl Error {
    pub(crate) fn refused(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { subject: subject.into(), reason: reason.into(), hint: None }
    }

    pub(crate) fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Refused { subject, reason, .. } => {
                Self::Refused { subject, reason, hint: Some(text.into()) }
            }
            other => other,
        }
    }

    pub(crate) fn os(step: impl Into<String>) -> impl FnOnce(davit_sys::Error) -> Self {
        let step = step.into();
        move |error| Self::Os { step, error }
    }

    /// The lines that CRIU has logged.
    #[must_use]
    pub fn lines(&self) -> &[LogLine] {
        match self {
            Self::Failed { lines, .. } | Self::Gone { lines, .. } => lines,
            _ => &[],
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Missing { .. } => Some(format!(
                "install CRIU {} or newer (Debian's package criu), or name it: davit --criu PATH",
                version_text(OLDEST)
            )),
            Self::TooOld { .. } => Some("davit --criu PATH names another one".to_owned()),
            Self::Failed { lines, log, .. } | Self::Gone { lines, log, .. } => {
                let advice = lines.iter().find_map(LogLine::advice).map(str::to_owned);
                let whole = log.as_ref().map(|log| format!("the whole log is {}", log.display()));
                let both: Vec<String> = advice.into_iter().chain(whole).collect();
                (!both.is_empty()).then(|| both.join("; "))
            }
            _ => None,
        }
    }
}

/// `4.2.1` of 40201.
#[must_use]
pub fn version_text(version: u32) -> String {
    let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
    match patch {
        0 => format!("{major}.{minor}"),
        patch => format!("{major}.{minor}.{patch}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { subject, reason, .. } => write!(f, "{subject}: {reason}"),
            Self::Missing { named: Some(path) } => {
                write!(f, "criu {}: no such program", path.display())
            }
            Self::Missing { named: None } => f.write_str("criu: no such program in PATH"),
            Self::Start { program, error } => write!(f, "{}: {error}", program.display()),
            Self::TooOld { program, version } => write!(
                f,
                "{} is CRIU {}, and {} or newer is needed",
                program.display(),
                version_text(*version),
                version_text(OLDEST)
            ),
            Self::Gone { how, lines, .. } => write!(f, "criu {how}{}", Quoted(lines)),
            Self::Protocol => f.write_str("criu sent a message that is not of its protocol"),
            Self::Failed { message, lines, .. } => match message {
                Some(message) if lines.is_empty() => write!(f, "criu: {message}"),
                _ if lines.is_empty() => f.write_str("criu failed without a message"),
                _ => write!(f, "criu{}", Quoted(lines)),
            },
            Self::Os { step, error } => write!(f, "{step}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Lines of a log, after a colon.
struct Quoted<'a>(&'a [LogLine]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { ":" } else { ";" }, line)?;
        }
        Ok(())
    }
}
