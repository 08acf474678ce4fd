//! Thin, typed, allocation-free wrappers of the system calls that `nix` lacks.
//!
//! This is the only crate that may say `unsafe`. Every wrapper makes one system call, names it in
//! its error, and cites its man page; what to do about an error is the caller's affair.

mod error;

pub use error::{During, Error, Failure, Words, words};
