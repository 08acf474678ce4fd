//! The root of a container: mounts, overlays, pivot_root, devices, masked and read-only paths.
//!
//! [`plan`] reads the configuration and changes nothing. [`apply`] makes system calls and chooses
//! nothing; it runs in init, in the container's namespaces, with no other thread.
//! The operations fall in three phases ([`phases`]).

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod apply;
mod display;
mod error;
mod host;
mod mountinfo;
mod op;
mod options;
mod origin;
mod plan;
pub mod supported;
mod unmount;

pub use apply::{Context, apply};
pub use error::Error;
pub use host::{Cgroups, Console, ContextType, Hierarchy, Host};
pub use mountinfo::proc_and_sys;
pub use op::{
    Action, Change, Device, Filesystem, Layer, Op, Overlay, Phase, Place, Propagation, Rule,
    Setting, Source, Target, phases,
};
pub use origin::{Field, Origin, Subject};
pub use plan::{
    EPHEMERAL, LAYERS, exec_terminal, parent_opens_sources, plan, plan_added, plan_removed,
    root_of, without_effect,
};
pub use unmount::{mounts_below, unmount_below};
