//! The operations on the real kernel: each test runs again in a mount namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod binds;
mod devices;
mod filesystems;
mod masks;
mod overlays;
mod roots;
mod sandbox;
