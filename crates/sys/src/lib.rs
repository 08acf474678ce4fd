//! Thin, typed, allocation-free wrappers of the system calls that `nix` lacks.
//!
//! This is the only crate that may say `unsafe`. Every wrapper makes one system call, names it in
//! its error, and cites its man page; what to do about an error is the caller's affair.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod arena;
pub mod bpf;
pub mod capability;
#[cfg(all(target_env = "musl", target_pointer_width = "64"))]
mod clock;
pub mod clone;
pub mod entry;
mod error;
pub mod eventfd;
pub mod file;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod memory;
pub mod mount;
pub mod network;
pub mod path;
pub mod pidfd;
mod pile;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod sched;
pub mod seccomp;
mod slots;
pub mod socket;

pub use error::{During, Error, Failure, Words, words};
pub use pile::Pile;
pub use slots::Slots;
