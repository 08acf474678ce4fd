//! The lifecycle of a container.
//!
//! ```text
//! command   create, start, exec, kill, pause, update, events, ...: one file each
//! spawn     starts a planned process, and follows it until it runs the user's program
//! init      performs the plan in that process
//! plan      every operation, decided before the first is performed
//! config    config.json: read, checked, normalised
//! host      facts about the host, the user and the caller
//! state     the directory of each container, and the state of its processes
//! hook      the hooks of the lifecycle
//! ```

#![cfg_attr(
    any(test, feature = "fuzzing"),
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod agent;
pub mod command;
mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod host;
mod id;
pub mod init;
pub mod log;
mod namespace_hint;
mod nearest;
pub mod notify;
pub mod outside_file;
mod passwd;
mod peer_socket;
pub mod plan;
mod rfc3339;
pub mod signal;
mod slot;
pub mod spawn;
pub mod state;
pub mod timings;
pub mod trace;

pub use error::{Error, ErrorKind, Result};
pub use id::Id;
pub use nearest::nearest;
pub use spawn::{Progress, Started, reap};
pub use state::{INIT_NAME, STATE_FORMAT, StateRoot};
