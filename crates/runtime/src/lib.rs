//! The life of a container: bundle, plan, execute, init, record.
//!
//! ```text
//! command   create, start, exec, kill, pause, update, events, ...: one file each
//! bundle    config.json, read once and parsed        check   the rules of no single part
//! host      what this machine and user can do        plan    everything, decided before the deed
//! execute   the process is made, and a conversation  init    walks the plan inside
//! record    what is known of a container, on disk    state   what the specification calls state
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod agent;
pub mod annotations;
mod bundle;
mod check;
pub mod command;
mod conversation;
mod error;
mod execute;
mod handover;
mod hook;
mod host;
mod id;
pub mod init;
pub mod notify;
mod one_processor;
mod own_user_namespace;
pub mod plan;
mod process;
mod program;
pub mod record;
pub mod signal;
mod slot;
mod start_socket;
pub mod state;
mod step;
mod strict;

pub use error::{Error, Result};
pub use execute::{Progress, Started, reap};
pub use id::Id;
pub use record::Root;
pub use step::INIT_NAME;
