//! The commands, one file each: from checked arguments to what happened.

mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod mounts;
mod pause;
mod ps;
mod start;
mod states;
mod undertaking;
mod update;
mod want_of_memory;

use std::time::Duration;

pub use create::{CreateRequest, Created, create, start_at_once};
pub use delete::{delete, delete_ended};
pub use events::{Event, events, statistics};
pub use exec::{ExecRequest, Executed, ProcessChanges, exec};
pub use explain::{Explanation, explain};
pub use features::features;
pub use kill::kill;
pub use mounts::mounts;
pub use pause::{pause, resume};
pub use ps::processes;
pub use start::start;
pub use states::{list, state};
pub use update::{UpdateRequest, update};
pub use want_of_memory::want_of_memory;

/// How long another command on the same container is waited for.
const LOCK: Duration = Duration::from_secs(30);
