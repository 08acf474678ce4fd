//! The first process, which is created in its namespaces and its cgroup.

#![allow(unsafe_code, reason = "it calls clone3 (docs/decisions/0016)")]

use std::os::fd::{BorrowedFd, RawFd};

use davit_sys::clone::{Child, SHARE_MEMORY_UNTIL_EXEC, spawn};
use davit_sys::process::{CArray, exec_fd, set_close_on_exec};
use davit_sys::{Error, Failure, Slots};

use crate::apply::perform;
use crate::{Kind, Op};
use davit_protocol::{Channel, Message, Report};

/// The program that the first process executes.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Its arguments.
    pub argv: CArray<'a>,
    /// Its environment.
    pub envp: CArray<'a>,
    /// Descriptors that stay open across execve(2).
    pub keep: Vec<RawFd>,
}

/// Arguments of [`launch`].
#[derive(Debug)]
pub struct Launch<'a> {
    /// Namespaces that it is created in.
    pub clone_namespaces: &'a [Kind],
    /// The cgroup v2 directory that it is created in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Operations before it executes.
    pub ops: &'a [Op],
    /// Descriptors for `ops`.
    pub slots: &'a Slots,
    /// Its end of the channel.
    pub channel: &'a Channel,
    /// The runtime's end, which it closes before it waits, to notice if the runtime is killed.
    pub runtime_end: RawFd,
    /// The program.
    pub program: Program<'a>,
}

/// Section number of the launch in a [`Report`].
pub const SECTION: u32 = 0;

/// Creates the first process. A failure before its execve(2) is reported over the channel, as
/// section 0 and the index in `ops` (`ops.len()` for execve(2) itself).
///
/// # Errors
/// clone3(2) failed.
pub fn launch(launch: &Launch<'_>) -> Result<Child, Error> {
    let mut flags =
        launch.clone_namespaces.iter().fold(0, |flags, kind| flags | kind.flag() as u64);
    if !waits_for_runtime(launch) {
        flags |= SHARE_MEMORY_UNTIL_EXEC;
    }
    // SAFETY: davit has one thread and no signal handlers; `first_steps` makes system calls, needs
    // a few KiB of stack and takes no lock, and leaves a shared heap consistent. The flags are
    // those of namespaces, and CLONE_VM comes with CLONE_VFORK.
    unsafe { spawn(flags, launch.cgroup, || first_steps(launch)) }
}

/// The child: returns its exit code if it could not execute.
fn first_steps(launch: &Launch<'_>) -> i32 {
    match prepare(launch) {
        // Not reached after execve(2).
        Ok(()) => 0,
        Err(failure) => {
            // If this cannot be sent, the runtime sees an end of file.
            let _ = launch.channel.send(&Message::Failed(Report {
                section: SECTION,
                op: u32::try_from(failure.op).unwrap_or(u32::MAX),
                errno: failure.error.errno as i32,
                call: failure.error.call.to_owned(),
                detail: String::new(),
            }));
            1
        }
    }
}

/// Whether the runtime must not sleep until the child executes, because the child waits for it.
/// Unsharing a user namespace refuses shared memory anyway.
fn waits_for_runtime(launch: &Launch<'_>) -> bool {
    launch.ops.iter().any(|op| matches!(op, Op::AwaitCgroup | Op::AwaitIdMaps | Op::Unshare(_)))
}

/// Performs the operations and executes. If memory is shared with the sleeping runtime, a failure
/// leaks a few bytes of its heap, which no other thread uses in the meantime.
fn prepare(launch: &Launch<'_>) -> Result<(), Failure> {
    if waits_for_runtime(launch) {
        // The child has a descriptor table of its own. EBADF is harmless.
        let _ = nix::unistd::close(launch.runtime_end);
    }
    for (index, op) in launch.ops.iter().enumerate() {
        let body = || perform(op, launch.slots, launch.channel);
        davit_sys::trace::operation_of_child("namespaces", op, body)
            .map_err(|error| Failure::new(index, error))?;
    }
    let executed = Failure::new(
        launch.ops.len(),
        match keep_open(&launch.program) {
            Err(error) => error,
            Ok(()) => exec_fd(launch.program.file, &launch.program.argv, &launch.program.envp),
        },
    );
    Err(executed)
}

fn keep_open(program: &Program<'_>) -> Result<(), Error> {
    // SAFETY: the runtime borrows these descriptors to its child, for the program.
    program.keep.iter().try_for_each(|fd| unsafe { set_close_on_exec(*fd, false) })
}
