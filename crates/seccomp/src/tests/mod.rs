//! Tests of the whole crate: filter == profile == libseccomp. Fuzzing uses the first three.

pub(crate) mod check;
pub(crate) mod interpreter;
pub(crate) mod reference;

#[cfg(test)]
mod growth;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod libseccomp;
#[cfg(test)]
mod podman;
#[cfg(test)]
mod property;
#[cfg(test)]
mod random;
#[cfg(test)]
mod seccompiler;
#[cfg(test)]
mod summary;
