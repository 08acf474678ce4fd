//! The root of a container: mounts, overlays, pivot_root, devices, masked and read-only paths.
//!
//! [`plan`] turns config.json into operations, without system calls. [`apply`] performs them,
//! without further decisions; it runs in init, in the container's namespaces, in a single thread.
//! The operations have three phases ([`phases`]).
//!
//! `examples/plan.rs` prints the operations of a bundle.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod apply;
mod display;
mod error;
mod facts;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod host;
mod mountinfo;
mod op;
mod options;
mod origin;
mod plan;
pub mod supported;
mod unmount;

pub use apply::{Context, apply, make_mountpoint};
pub use davit_sys::mount::Propagation;
pub use error::Error;
pub use facts::{Ids, missing};
pub use hint::{Hint, hint};
pub use host::{Cgroups, Console, ContextType, Hierarchy, Host};
pub use mountinfo::proc_and_sys;
pub use op::{
    Action, AttachPoint, Change, Device, Filesystem, FsOption, IdMaps, Layer, LookupPolicy,
    NewNode, Op, Overlay, Phase, Source, Target, phases,
};
pub use origin::{Field, Origin, Subject};
pub use plan::{
    EPHEMERAL, LAYERS, exec_terminal, parent_opens_sources, plan, plan_added, plan_removed,
    plan_staged, root_of, staged_path, without_effect,
};
pub use unmount::{mounts_below, unmount_below};
