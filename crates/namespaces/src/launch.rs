//! The first process: made straight in its namespaces and its cgroup, and out of this program.

use std::os::fd::{BorrowedFd, RawFd};

use sys::clone::{Child, SHARE_MEMORY_UNTIL_EXEC, spawn};
use sys::process::{CArray, exec_fd, set_close_on_exec};
use sys::{Error, Failure, Slots};

use crate::apply::step;
use crate::handshake::{Channel, Message, Report};
use crate::{Kind, Op};

/// The program that the first process executes.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Its arguments.
    pub argv: CArray<'a>,
    /// Its environment.
    pub envp: CArray<'a>,
    /// Descriptors that stay open over the exec.
    pub keep: Vec<RawFd>,
}

/// What the first process is made of.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Namespaces it is born into.
    pub born: &'a [Kind],
    /// The cgroup v2 directory it is born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What it does before it executes.
    pub ops: &'a [Op],
    /// Descriptors that `ops` name.
    pub slots: &'a Slots,
    /// Its end of the conversation.
    pub channel: &'a Channel,
    /// The runtime's end, which it must not keep open while it waits: a runtime that is killed is to
    /// be seen.
    pub other_end: RawFd,
    /// What it executes.
    pub program: Program<'a>,
}

/// Section number of the launch in a [`Report`].
pub const SECTION: u32 = 0;

/// Makes the first process. A failure before its exec is reported over the channel: section 0,
/// and the index in `ops` (`ops.len()` is the exec itself).
///
/// # Errors
/// clone3(2)'s.
pub fn launch(launch: &Launch<'_>) -> Result<Child, Error> {
    let mut flags = launch.born.iter().fold(0, |flags, kind| flags | kind.flag() as u64);
    if !waits_for_runtime(launch) {
        flags |= SHARE_MEMORY_UNTIL_EXEC;
    }
    spawn(flags, launch.cgroup, || match prepare(launch) {
        // Executed: never here.
        Ok(()) => 0,
        Err(failure) => {
            // The runtime sees the end of the conversation where even this cannot be sent.
            let _ = launch.channel.send(&Message::Failed(Report {
                section: SECTION,
                op: u32::try_from(failure.op).unwrap_or(u32::MAX),
                errno: failure.error.errno as i32,
                call: failure.error.call.to_owned(),
                detail: String::new(),
            }));
            1
        }
    })
}

/// A process that waits for the runtime cannot have put it to sleep. Joining a user namespace
/// refuses shared memory.
fn waits_for_runtime(launch: &Launch<'_>) -> bool {
    launch.ops.iter().any(|op| matches!(op, Op::AwaitCgroup | Op::AwaitIdMaps | Op::Unshare(_)))
}

/// Runs in the child. Where memory is shared with the sleeping runtime, a failure's few bytes on
/// the heap are the runtime's to lose: nobody else touches the heap meanwhile.
fn prepare(launch: &Launch<'_>) -> Result<(), Failure> {
    if waits_for_runtime(launch) {
        // Its descriptors are copies, also where its memory is not. EBADF is as good.
        let _ = nix::unistd::close(launch.other_end);
    }
    for (index, op) in launch.ops.iter().enumerate() {
        step(op, launch.slots, launch.channel).map_err(|error| Failure::new(index, error))?;
    }
    let executed = Failure::new(
        launch.ops.len(),
        match keep(&launch.program) {
            Err(error) => error,
            Ok(()) => exec_fd(launch.program.file, &launch.program.argv, &launch.program.envp),
        },
    );
    Err(executed)
}

fn keep(program: &Program<'_>) -> Result<(), Error> {
    program.keep.iter().try_for_each(|fd| set_close_on_exec(*fd, false))
}
