//! One container's cgroup: create, limit, join, freeze, read, kill, remove.
//!
//! ```text
//! Host::discover    what this machine has: cgroup v2, v1 hierarchies, or both     (reads only)
//! plan              config.json and Host -> the directories and files to write    (pure)
//! Cgroup::planned   the record of it, to be stored before anything is made        (pure)
//! apply             makes and writes them                                         (system calls)
//! Cgroup            join, freeze, kill, remove: from the record alone
//! update            new limits for a cgroup that lives, all of them or none
//! ```
//!
//! There is no legacy mode and no unified mode: a [`Layout`] is a list of places, and each controller
//! is looked up where it lives. A host with cgroup v2 alone is a layout of one place, a hybrid host is
//! one of many; the value of each field is converted for the version of the place that it goes to.
//!
//! Two drivers make a cgroup. One writes the file system itself ([`Op::Make`]); the other asks
//! systemd for a unit ([`Op::StartUnit`], [`Systemd`]). Limits, device filter, join, kill and remove are
//! the same for both.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod apply;
mod cgroup;
mod devices;
mod error;
mod file;
mod freeze;
mod join;
mod kill;
mod layout;
mod make;
mod oom;
mod op;
mod path;
mod plan;
mod remove;
pub mod resctrl;
mod resources;
pub mod stats;
mod systemd;
mod update;

pub use apply::{Applied, Context, apply};
pub use cgroup::{Cgroup, Member};
pub use devices::{Instruction, Program};
pub use error::{Error, Fault};
pub use join::Join;
pub use layout::{Hierarchy, Host, Layout, Unified};
pub use oom::{Limited, OomNews, OomWatch};
pub use op::{Missing, Op};
pub use plan::{Own, Request, plan, plan_resources};
pub use stats::Stats;
pub use systemd::{ANNOTATION as SYSTEMD_PROPERTY, Bus, Property, Socket, Systemd, Unit, Value};
pub use update::{Current, Unfinished, plan_device_update, plan_update, update};
