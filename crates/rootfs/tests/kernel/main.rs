//! The operations on the real kernel: each test runs again in a mount namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // Tests that are skipped say why.

mod binds;
mod devices;
mod filesystems;
mod masks;
mod overlays;
mod roots;
mod sandbox;
mod users;
