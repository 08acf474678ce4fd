//! The state of containers on disk: one directory for each, written before anything else is made.
//!
//! ```text
//! ROOT/ID/record.json   the record (record.rs), which only the command that makes the container
//!                       writes; replaced as a whole
//! ROOT/ID/plan          the input of init, and what `exec`, `update` and `mounts` need of
//!                       config.json (plan_file.rs)
//! ROOT/ID/devices.json  device rules that `update` has added
//! ROOT/ID/init          a symbolic link whose text is the identity of init, from the moment that
//!                       init exists: the record has it once the container is created, the record
//!                       of a `run` never
//! ROOT/ID/start.fifo    a created container waits here for `start`, which removes it
//!                       (start_fifo.rs)
//! ROOT/ID/answer.fifo   its answer to `start`
//! ROOT/ID/notify/       the container's /run/notify, with the socket for `READY=1`
//! ROOT/ID/criu          a symbolic link whose text is the identity of the criu that works on the
//!                       container
//! ROOT/ID/cgroup        a symbolic link whose text is the path of the cgroup, for the case that
//!                       the record is damaged
//! ```
//! docs/state.md describes the format, which other versions of davit read.
//!
//! The directory itself is the lock (flock(2)): the lock ends with the command that holds it.

mod dir;
mod ownership;
mod plan_file;
mod proc_stat;
mod process;
mod record;
mod report;
mod root;
pub(crate) mod start_fifo;
mod status;
#[cfg(test)]
mod tests;

pub use dir::ContainerDir;
pub(crate) use dir::{Lock, NOTIFY_DIRECTORY, NOTIFY_SOCKET};
pub(crate) use ownership::our_uid;
pub(crate) use plan_file::{LaterParts, Part, PlanFile};
pub(crate) use proc_stat::ProcStat;
pub use process::INIT_NAME;
pub(crate) use process::{BootId, LAUNCH_NAME, Process, ended_within};
pub use record::{Record, STATE_FORMAT};
pub(crate) use record::{RecordSummary, Stage};
pub(crate) use report::for_hook;
pub use report::{OCI_VERSION, State};
pub use root::StateRoot;
pub use status::Status;
pub(crate) use status::WAITING_NAME;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use proc_stat::fuzz as fuzz_proc_stat;
