//! The error of this crate: one line, from the outermost step to the system call.

use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;

/// A failure: one line that says what was being done and why it failed, a hint where there is one,
/// and the error of the crate below that caused it.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failures that callers tell apart. No caller looks at a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such container.
    NotFound,
    /// A container with this id exists.
    Exists,
    /// The container's state has a format that this version does not know.
    StateFormat,
    /// Another command holds the container's lock.
    Locked,
    /// The container has no process that runs.
    NotRunning,
    /// A field of config.json, or an option, cannot be applied.
    Config,
    /// A hook failed in the container.
    Hook,
    /// Init ended without a report.
    Ended,
    /// A system call failed.
    Os(Errno),
    /// Any other failure.
    Other,
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with this message: lower case, no full stop, no newline.
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into().replace('\n', " ");
        Self { kind: ErrorKind::Other, message, hint: None, source: None }
    }

    /// A failure of this kind that an error of a crate below caused.
    fn caused_by(kind: ErrorKind, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let text = error.to_string();
        Self { source: Some(Arc::new(error)), ..Self::new(text).of_kind(kind) }
    }

    /// The same failure, of this kind.
    #[must_use]
    pub const fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The failure of a command on a container that does not exist, in the words that engines
    /// match.
    pub(crate) fn not_found() -> Self {
        Self::new("container does not exist").of_kind(ErrorKind::NotFound)
    }

    /// The failure of a command on a container without processes, in the words that engines match.
    pub(crate) fn not_running() -> Self {
        Self::new("container not running").of_kind(ErrorKind::NotRunning)
    }

    /// The same failure, with a hint if the cleanup after it failed too.
    pub(crate) fn after_cleanup(self, cleanup: Result<()>) -> Self {
        self.hinted(cleanup.err().map(|left| format!("could not clean up: {left}")))
    }

    /// Whether it is a system call's, with this errno.
    #[must_use]
    pub fn is_os(&self, errno: Errno) -> bool {
        self.kind == ErrorKind::Os(errno)
    }

    /// The errno of the system call that failed, if it was one.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self.kind {
            ErrorKind::Os(errno) => Some(errno),
            _ => None,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same failure with a hint. Control characters of paths in it become blanks.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().replace(char::is_control, " "));
        self
    }

    /// The same failure, with a hint if there is one.
    #[must_use]
    pub(crate) fn hinted(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// The same failure, seen from one step further out.
    #[must_use]
    pub fn within(mut self, step: impl fmt::Display) -> Self {
        self.message = format!("{step}: {}", self.message);
        self
    }

    /// The line itself.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The hint, if any.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    /// The error of the crate below, whose text the message has already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A system call's failure, without a step.
impl From<davit_sys::Error> for Error {
    fn from(error: davit_sys::Error) -> Self {
        Self::caused_by(ErrorKind::Os(error.errno), error)
    }
}

/// Id maps that could not be written, with a hint that names the missing package or line.
impl From<davit_namespaces::id_maps::WriteError> for Error {
    fn from(error: davit_namespaces::id_maps::WriteError) -> Self {
        let hint = error.hint();
        Self::caused_by(ErrorKind::Other, error).hinted(hint)
    }
}

/// What cannot be checkpointed or restored, with CRIU's own words and a hint.
impl From<davit_checkpoint::Error> for Error {
    fn from(error: davit_checkpoint::Error) -> Self {
        let hint = error.hint();
        let kind = match &error {
            davit_checkpoint::Error::Refused { .. } => ErrorKind::Config,
            davit_checkpoint::Error::Os { error, .. } => ErrorKind::Os(error.errno),
            _ => ErrorKind::Other,
        };
        Self::caused_by(kind, error).hinted(hint)
    }
}

macro_rules! from_crate {
    ($($error:ty => $kind:ident),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::caused_by(ErrorKind::$kind, error)
            }
        }
    )*};
}

from_crate!(
    davit_namespaces::Error => Config,
    davit_privileges::Error => Config,
    davit_rootfs::Error => Config,
    davit_cgroups::Error => Config,
    davit_cgroups::resctrl::Error => Config,
    davit_seccomp::Error => Config,
    davit_cgroups::Fault => Other,
    davit_protocol::ReceiveError => Other
);

/// Says what was being done when something failed.
pub(crate) trait Within<T> {
    /// Puts `step` before the message.
    ///
    /// # Errors
    /// The failure of `self`, seen from `step`.
    fn within<S: fmt::Display>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Within<T> for std::result::Result<T, E> {
    fn within<S: fmt::Display>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().within(step()))
    }
}
