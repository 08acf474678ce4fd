//! Thin, typed, allocation-free wrappers of the system calls that `nix` lacks.
//!
//! The system calls of this crate are `unsafe` inside. A function with which a caller can break
//! memory safety or I/O safety is `unsafe` too, and docs/decisions/0016 names its callers. Each
//! wrapper makes one system call, names it in its error, and cites its man page; callers handle
//! errors.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod arena;
pub mod bpf;
pub mod capability;
pub mod child;
pub mod clone;
pub mod entry;
mod error;
pub mod eventfd;
pub mod file;
mod id_mapping;
pub mod mount;
pub mod mountinfo;
pub mod network;
pub mod path;
pub mod pidfd;
pub mod poll;
pub mod private_mounts;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod random;
pub mod sched;
pub mod seccomp;
mod slots;
pub mod socket;
pub mod trace;

// For its symbols.
#[cfg(all(target_arch = "x86_64", target_env = "musl", not(feature = "plain")))]
use davit_memory as _;

pub use error::{ErrnoText, Error, Failure, OsContext, errno_text};
pub use id_mapping::IdMapping;
pub use slots::Slots;
