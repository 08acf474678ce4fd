//! Checkpoint and restore of a container's processes, by CRIU (criu(8)).
//!
//! ```text
//! checkpoint::plan  config.json and facts of a running container -> a request   (pure)
//! restore::plan     config.json and an image -> a request                       (pure)
//! Criu, Session     start criu, carry out the request, tell its stages          (system calls)
//! protocol          the messages of CRIU's rpc.proto
//! image             what davit adds to an image
//! ```
//!
//! A request is a list of [`Setting`]s: an option of CRIU's with its value, and the field of
//! config.json or the option of the command line that it comes from.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod checkpoint;
mod criu;
mod error;
pub mod image;
mod log;
pub mod mountinfo;
mod mounts;
mod options;
pub mod protocol;
pub mod restore;
mod setting;

pub use criu::{Criu, Launch, Notification, Session};
pub use error::{Error, OLDEST, version_text};
pub use log::LogLine;
pub use options::{CgroupsMode, NetworkLock, Options};
pub use protocol::{Features, Field, Kind, Response};
pub use setting::{File, Files, Request, Setting, Value};
