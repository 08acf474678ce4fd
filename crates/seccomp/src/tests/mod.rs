//! Tests of the whole crate.

pub(crate) mod interpreter;
mod podman;
