//! A small harness for tests of an OCI runtime's binary on the real kernel.
//!
//! A test makes a [`Container`] (a bundle, an id and a state directory of its own), edits its
//! config.json, calls the runtime and looks at what the container *saw*:
//!
//! ```no_run
//! # use integration::*;
//! spec!();
//! let umask = Container::sh("umask").with(|c| c["process"]["user"]["umask"] = 0o027.into());
//! assert_eq!(umask.run().ok().out, "0027\n");
//! ```
//!
//! * `RUNTIME=davit` (default), `runc`, `crun` or a path chooses the binary; `DAVIT` names another
//!   davit.
//! * Every wait has a deadline ([`call`]); every container checks when it is dropped that nothing
//!   of it is left ([`leftovers`]).
//! * A test says at its top for whom it is: [`spec!`], [`davit_only!`], [`fails_with!`]. What
//!   cannot run prints `skip: NAME: REASON` and passes.

pub mod buildah;
pub mod call;
pub mod capture;
pub mod checkpoint;
pub mod config;
mod container;
pub mod containerd;
pub mod docker;
pub mod fixture;
pub mod host;
pub mod image;
pub mod leftovers;
pub mod limits;
pub mod plan_parts;
pub mod podman;
pub mod probe;
pub mod rootfs;
pub mod runtime;
pub mod skip;
pub mod systemd;
pub mod systemd_root;
pub mod terminal;

pub use call::{Call, Outcome, Running};
pub use container::{Container, unique};
pub use serde_json::{Value, json};
