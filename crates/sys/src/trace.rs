//! Notification of an observer about each operation, for `--debug` and `--timings`.
//!
//! As in the crate `log`, the observer is set once for the whole process. Without one, an operation
//! costs one additional load.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// One operation that is being performed.
pub struct Operation<'a> {
    /// Its part: `cgroup`, `rootfs`, `hooks`, ...
    pub phase: &'static str,
    /// Whether a child performs it between clone3(2) and execve(2), perhaps in this process's
    /// memory.
    pub in_child: bool,
    /// The operation, as `davit explain` shows it.
    pub name: &'a dyn Display,
}

/// Is notified of each operation.
pub trait Observer: Sync {
    /// An operation begins.
    fn begin(&self, operation: &Operation<'_>);

    /// An operation has ended, after this time, perhaps with a failure.
    fn end(&self, operation: &Operation<'_>, took: Duration, failure: Option<&dyn Display>);
}

static OBSERVER: OnceLock<&'static dyn Observer> = OnceLock::new();

/// Sets the observer. Later calls have no effect.
pub fn observe(observer: &'static dyn Observer) {
    let _ = OBSERVER.set(observer);
}

/// Performs an operation.
///
/// # Errors
/// Those of `body`.
#[inline]
pub fn operation<T, E: Display>(
    phase: &'static str,
    name: &dyn Display,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    perform(&Operation { phase, in_child: false, name }, body)
}

/// Performs an operation in a child that has not executed yet.
///
/// # Errors
/// Those of `body`.
#[inline]
pub fn operation_of_child<T, E: Display>(
    phase: &'static str,
    name: &dyn Display,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    perform(&Operation { phase, in_child: true, name }, body)
}

#[inline]
fn perform<T, E: Display>(
    operation: &Operation<'_>,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    match OBSERVER.get() {
        None => body(),
        Some(observer) => observed(*observer, operation, body),
    }
}

fn observed<T, E: Display>(
    observer: &dyn Observer,
    operation: &Operation<'_>,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    observer.begin(operation);
    let begin = Instant::now();
    let result = body();
    let failure = result.as_ref().err().map(|error| error as &dyn Display);
    observer.end(operation, begin.elapsed(), failure);
    result
}
