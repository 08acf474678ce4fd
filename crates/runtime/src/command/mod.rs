//! The commands, one file each.

mod build;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod gc;
mod image_dir;
mod kill;
mod mounts;
mod oom_hint;
mod pause;
mod ps;
mod request;
mod restore;
mod stage;
mod start;
mod states;
mod update;

use std::time::Duration;

pub use davit_checkpoint::{CgroupsMode, NetworkLock, Options as CriuOptions};

pub use crate::config::process::ProcessChanges;
pub use crate::state::{ContainerDir, Record};
pub use checkpoint::{CheckpointRequest, check, checkpoint, explain_checkpoint};
pub use create::{Created, create, start_at_once};
pub use delete::{delete, delete_ended};
pub use events::{Event, events, statistics};
pub use exec::{ExecRequest, Executed, exec};
pub use explain::{ExplainedSection, Explanation, explain};
pub use features::features;
pub use gc::{Leftover, gc};
pub use kill::kill;
pub use mounts::mounts;
pub use oom_hint::oom_hint;
pub use pause::{pause, resume};
pub use ps::processes;
pub use request::CreateRequest;
pub use restore::{RestoreRequest, Restored, explain_restore, restore};
pub use start::start;
pub use states::{list, state};
pub use update::{UpdateRequest, update};

/// Timeout for the lock of a container.
const LOCK: Duration = Duration::from_secs(30);
