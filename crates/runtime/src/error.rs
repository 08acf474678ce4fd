//! One line that says what was being done, from the outside in, and why it failed.

use std::fmt;

/// A failure as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    hint: Option<String>,
}

/// What this crate's functions give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with this message: lower case, no full stop, no newline.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into().replace('\n', " "), hint: None }
    }

    /// The same failure with advice on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
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

    /// The advice, if any.
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

impl std::error::Error for Error {}

/// A system call's failure, without a step.
impl From<sys::Error> for Error {
    fn from(error: sys::Error) -> Self {
        Self::new(error.to_string())
    }
}

macro_rules! from_leaf {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        }
    )*};
}

from_leaf!(
    namespaces::Error,
    namespaces::id_maps::WriteError,
    namespaces::handshake::ReceiveError,
    privileges::Error,
    rootfs::Error,
    cgroups::Error,
    cgroups::Fault,
    cgroups::resctrl::Error,
    seccomp::Error
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
