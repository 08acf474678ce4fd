//! Tests of the whole crate: filter == profile == libseccomp.

pub(crate) mod interpreter;
mod kernel;
mod libseccomp;
mod podman;
mod property;
mod random;
mod reference;
mod story;
