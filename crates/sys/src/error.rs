//! A failed system call: which one, and the errno.

use std::fmt;

use nix::errno::Errno;

/// A system call that failed. Prints like strace does: `open_tree: permission denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The system call's name, as in its man page.
    pub call: &'static str,
    /// What the kernel answered.
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
        write!(f, "{}: {}", self.call, words(self.errno))
    }
}

/// The errno in words, in lower case as engines match them: "no such file or directory".
///
/// Go prints errnos the same way, and podman, docker and containerd look for Go's texts.
#[must_use]
pub fn words(errno: Errno) -> Words {
    Words(errno)
}

/// See [`words`].
#[derive(Clone, Copy, Debug)]
pub struct Words(Errno);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Errno::UnknownErrno {
            return f.write_str("unknown error");
        }
        let text = self.0.desc();
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            // "I/O error" and "RFS specific error" keep their capitals.
            (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
                write!(f, "{}{}", first.to_lowercase(), text.get(first.len_utf8()..).unwrap_or(""))
            }
            _ => f.write_str(text),
        }
    }
}

/// Names the system call behind an errno: `mkdirat(..).during("mkdirat")?`.
pub trait During<T> {
    /// Turns a bare errno into an [`Error`] of `call`.
    ///
    /// # Errors
    /// The errno of `self`, with the call's name.
    fn during(self, call: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|errno| Error { call, errno })
    }
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error {
            call,
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// Where a list of operations stopped: which one of them, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Index of the operation in the list that was given.
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
    fn errnos_read_as_go_prints_them() {
        assert_eq!(words(Errno::ENOENT).to_string(), "no such file or directory");
        assert_eq!(words(Errno::EACCES).to_string(), "permission denied");
        assert_eq!(words(Errno::EIO).to_string(), "I/O error");
        assert_eq!(words(Errno::EISDIR).to_string(), "is a directory");
        let error = Error::new("open_tree", Errno::EPERM);
        assert_eq!(error.to_string(), "open_tree: operation not permitted");
    }
}
