//! One container's cgroup: create, limit, join, freeze, read, kill, remove.
//!
//! ```text
//! Host::discover    the host has cgroup v2, v1 hierarchies, or both              (reads only)
//! plan              config.json and Host -> the directories and files to write   (pure)
//! Cgroup::planned   its record, stored before anything is created                (pure)
//! apply             creates and writes them                                      (system calls)
//! Cgroup            join, freeze, kill, remove: from the record alone
//! update            new limits for an existing cgroup, all of them or none
//! ```
//!
//! There is no v1 mode and no v2 mode: a [`Layout`] is a list of trees, and each controller is
//! looked up in the tree that has it. A host with cgroup v2 alone has one tree, a hybrid host has
//! many; the value of each field is converted for the version of its tree.
//!
//! Two drivers create a cgroup. One creates directories itself ([`Op::Make`]); the other has
//! systemd create a unit ([`Op::StartUnit`], [`Systemd`]). Limits, device filter, join, kill and
//! remove are the same for both.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stderr
    )
)]

mod apply;
mod cgroup;
mod devices;
mod error;
mod file;
mod freeze;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod join;
mod kill;
mod layout;
mod make;
mod oom;
mod op;
mod path;
mod plan;
mod remove;
mod request;
pub mod resctrl;
mod resources;
pub mod stats;
mod systemd;
mod update;

pub use apply::{Applied, Context, apply};
pub use cgroup::{Cgroup, Member};
pub use devices::{Instruction, Program};
pub use error::{Error, Fault};
pub use join::JoinFds;
pub use layout::{Hierarchy, Host, Layout, Unified};
pub use oom::{OomEvent, OomScope, OomWatch};
pub use op::{IfMissing, Op};
pub use path::check_path;
pub use plan::{plan, plan_resources};
pub use request::{Request, Subgroup};
pub use resources::warnings;
pub use stats::Stats;
pub use systemd::{ANNOTATION as SYSTEMD_PROPERTY, Address, Bus, Property, Systemd, Unit, Value};
pub use update::{Current, UpdateError, plan_device_update, plan_update, update};
