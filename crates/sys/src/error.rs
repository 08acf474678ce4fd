//! A failed system call: its name and errno.

use std::fmt;

use nix::errno::Errno;

/// A system call that failed. Its display is like that of strace: `open_tree: permission denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The system call's name, as in its man page.
    pub call: &'static str,
    /// Its errno.
    pub errno: Errno,
}

impl Error {
    /// An error of `call` with `errno`.
    #[must_use]
    pub const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// The current thread's errno, as an error of `call`.
    #[must_use]
    pub fn last(call: &'static str) -> Self {
        Self { call, errno: Errno::last() }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, errno_text(self.errno))
    }
}

/// The text of an errno, in lower case as engines match it: "no such file or directory".
///
/// Go prints errnos the same way, and podman, docker and containerd look for Go's texts.
#[must_use]
pub fn errno_text(errno: Errno) -> ErrnoText {
    ErrnoText(errno)
}

/// See [`errno_text`].
#[derive(Clone, Copy, Debug)]
pub struct ErrnoText(Errno);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Errno::UnknownErrno {
            return f.write_str("unknown error");
        }
        let text = match self.0 {
            // nix has a text about mathematics.
            Errno::ERANGE => "numerical result out of range",
            errno => errno.desc(),
        };
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            // "I/O error" and "RFS specific error" are not changed.
            (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
                write!(f, "{}{}", first.to_lowercase(), text.get(first.len_utf8()..).unwrap_or(""))
            }
            _ => f.write_str(text),
        }
    }
}

/// The result of a system call that returns -1 on failure.
pub(crate) fn check(call: &'static str, result: libc::c_long) -> Result<libc::c_long, Error> {
    if result < 0 { Err(Error::last(call)) } else { Ok(result) }
}

/// Names the system call of an errno: `mkdirat(..).syscall("mkdirat")?`.
pub trait OsContext<T> {
    /// Turns a bare errno into an [`Error`] of `call`.
    ///
    /// # Errors
    /// The errno of `self`, with the call's name.
    fn syscall(self, call: &'static str) -> Result<T, Error>;
}

impl<T> OsContext<T> for nix::Result<T> {
    fn syscall(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|errno| Error { call, errno })
    }
}

impl<T> OsContext<T> for std::io::Result<T> {
    fn syscall(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error {
            call,
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// The failure of one operation of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Index of the operation in the list.
    pub op: usize,
    /// The system call that failed.
    pub error: Error,
}

impl Failure {
    /// Operation `op` failed with `error`.
    #[must_use]
    pub const fn new(op: usize, error: Error) -> Self {
        Self { op, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        assert_eq!(errno_text(Errno::ENOENT).to_string(), "no such file or directory");
        assert_eq!(errno_text(Errno::EACCES).to_string(), "permission denied");
        assert_eq!(errno_text(Errno::EIO).to_string(), "I/O error");
        assert_eq!(errno_text(Errno::EISDIR).to_string(), "is a directory");
        assert_eq!(errno_text(Errno::ERANGE).to_string(), "numerical result out of range");
        let error = Error::new("open_tree", Errno::EPERM);
        assert_eq!(error.to_string(), "open_tree: operation not permitted");
    }
}
