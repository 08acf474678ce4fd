//! The error for an operation that failed: which one it was, and why.

use std::fmt;

use davit_protocol::Report;
use nix::errno::Errno;

use super::{InitPlan, Op, Section, hint};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;

impl InitPlan {
    /// The error for a report of init. `ids` are those of the new user namespace.
    #[must_use]
    pub fn explain(&self, report: &Report, ids: &davit_rootfs::Ids) -> Error {
        let errno = Errno::from_raw(report.errno);
        let cause = format!("{}: {}", report.call, davit_sys::errno_text(errno));
        let op = usize::try_from(report.op).unwrap_or(usize::MAX);
        let section = usize::try_from(report.section).ok().and_then(|at| self.sections.get(at));
        let named = |step: Option<String>| match step {
            Some(step) => Error::new(format!("{step}: {cause}")),
            None => Error::new(format!("execute davit's init: {cause}")),
        };
        match section {
            Some(Section::Process(ops)) => match ops.get(op) {
                Some(Op::Execute { candidates, .. }) if candidates.is_empty() => {
                    Error::new("process: is missing: config.json names no program to start")
                }
                Some(
                    step @ (Op::FindProgram { name, candidates }
                    | Op::Execute { name, candidates, .. }),
                ) => {
                    let error = execution(name, candidates.len() > 1 || !name.contains('/'), errno);
                    match report.detail.as_str() {
                        "" => error.hinted(hint::of(step, errno)),
                        detail => error.hint(detail),
                    }
                }
                // The failure of a hook is not that of a system call.
                Some(Op::Hook { hook, point, .. }) => {
                    let error = Error::new(report.detail.clone()).of_kind(ErrorKind::Hook);
                    error.hinted(hook::hint::of(*point, errno, &hook.path))
                }
                step => named(step.map(ToString::to_string))
                    .hinted(step.and_then(|step| hint::of(step, errno))),
            },
            Some(Section::Namespaces(ops)) => named(ops.get(op).map(ToString::to_string))
                .of_kind(ErrorKind::Os(errno))
                .hinted(ops.get(op).and_then(|op| op.hint(errno))),
            Some(Section::Rootfs(ops)) if op < ops.len() => {
                rootfs_failure(ops, op, (errno, &cause), &report.detail, ids)
            }
            Some(Section::Rootfs(_)) => named(None),
            Some(Section::Privileges(ops)) => {
                let op = ops.get(op);
                named(op.map(ToString::to_string)).hinted(op.and_then(|op| op.hint(errno)))
            }
            Some(Section::Filter) => named(self.filter.get(op).map(ToString::to_string)),
            None => Error::new(cause),
        }
    }
}

/// Performs the operations on the root that the runtime performs itself.
///
/// # Errors
/// The operation that failed, with its hint.
pub(crate) fn apply_outside(
    ops: &[davit_rootfs::Op],
    context: &mut davit_rootfs::Context,
) -> Result<()> {
    davit_rootfs::apply(ops, context).map_err(|failure| {
        let davit_sys::Error { call, errno } = failure.error;
        let cause = format!("{call}: {}", davit_sys::errno_text(errno));
        // The runtime resolves these paths, with the ids of the host.
        let ids = davit_rootfs::Ids::default();
        rootfs_failure(ops, failure.op, (errno, &cause), "", &ids).of_kind(ErrorKind::Os(errno))
    })
}

/// The error for the operation of `ops` at `failed`.
fn rootfs_failure(
    ops: &[davit_rootfs::Op],
    failed: usize,
    (errno, cause): (Errno, &dyn fmt::Display),
    said: &str,
    ids: &davit_rootfs::Ids,
) -> Error {
    let step = ops.get(failed).map(|op| match op.origin.to_string() {
        origin if origin.is_empty() => op.to_string(),
        origin => origin,
    });
    let step = step.unwrap_or_default();
    let error = match said {
        "" => Error::new(format!("{step}: {cause}")),
        said => Error::new(format!("{step}: {cause} ({said})")),
    };
    match davit_rootfs::hint(ops, failed, errno, ids) {
        Some(davit_rootfs::Hint { blamed: Some(blamed), text }) => error.within(blamed).hint(text),
        Some(davit_rootfs::Hint { blamed: None, text }) => error.hint(text),
        None => error,
    }
}

/// The texts that engines turn into exit codes: podman, docker and containerd match those of Go.
fn execution(name: &str, searched: bool, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if searched => {
            Error::new(format!("exec: {name:?}: executable file not found in $PATH"))
        }
        // For a directory, podman matches neither of its two texts: runc 1.1 prints the second
        // alone, later versions the first alone, and docker matches both.
        Errno::EISDIR => Error::new(format!(
            "exec: {name:?}: is a directory: {}",
            davit_sys::errno_text(Errno::EACCES)
        )),
        errno => Error::new(format!("exec: {name:?}: {}", davit_sys::errno_text(errno))),
    }
}
