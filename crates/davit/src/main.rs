//! davit: a low-level OCI container runtime.
//!
//! This crate is the command line: arguments in, output and exit code out. The work is done by the
//! crate `runtime`.

#![cfg_attr(not(any(test, feature = "plain")), no_main)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod args;
mod cli;
mod command;
mod escape;
mod foreground;
mod globals;
mod inherited;
mod output;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::globals::Globals;
use crate::inherited::Inherited;
use crate::output::{Failure, Outcome};

/// A command, and init even more so, exits before it has allocated much.
#[cfg(not(feature = "plain"))]
#[global_allocator]
static ARENA: davit_sys::arena::Arena = davit_sys::arena::Arena::new();

#[cfg(not(any(test, feature = "plain")))]
davit_sys::entry!(enter);

#[cfg(all(not(test), feature = "plain"))]
fn main() -> std::process::ExitCode {
    enter(std::env::args_os().collect()).into()
}

/// Runs the program and returns its exit code.
#[cfg_attr(test, allow(dead_code))]
fn enter(arguments: Vec<OsString>) -> u8 {
    let inherited = Inherited::list(&arguments);
    let mut arguments = arguments.into_iter();
    let name = arguments.next();
    if name.is_some_and(|name| name.as_bytes() == davit_runtime::INIT_NAME.as_bytes()) {
        return init(arguments.next(), arguments.next());
    }
    let mut globals = Globals::default();
    match inherited {
        Ok(inherited) => globals.inherited = inherited,
        Err(error) => {
            let failure = Failure { message: output::one_line(&error), hint: None, code: 1 };
            output::fail(&globals, &failure);
            return failure.code;
        }
    }
    let mut parser = lexopt::Parser::from_args(arguments);
    match command::run(&mut parser, &mut globals) {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Exit(code)) => code,
        Err(failure) => {
            output::fail(&globals, &failure);
            failure.code
        }
    }
}

/// The entry of init, which the runtime executes in a new container. The arguments are the
/// descriptor and the length of the plan.
fn init(descriptor: Option<OsString>, length: Option<OsString>) -> u8 {
    let place = || Some((descriptor?.to_str()?.parse().ok()?, length?.to_str()?.parse().ok()?));
    match place() {
        Some((fd, length)) => davit_runtime::init::run(fd, length),
        None => 1,
    }
}
