//! davit: a low-level OCI container runtime.
//!
//! This crate talks to people: arguments in, output and exit code out. What is done is in the
//! crate `runtime`.

#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod args;
mod command;
mod foreground;
mod globals;
mod output;
mod page;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::globals::Globals;
use crate::output::Outcome;

/// A command, and init all the more, is over before it has allocated much.
#[global_allocator]
static ARENA: sys::arena::Arena = sys::arena::Arena::new();

#[cfg(not(test))]
sys::entry!(enter);

/// The exit code of the program.
#[cfg_attr(test, allow(dead_code))]
fn enter(arguments: Vec<OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let name = arguments.next();
    if name.is_some_and(|name| name.as_bytes() == runtime::INIT_NAME.as_bytes()) {
        return init(arguments.next(), arguments.next());
    }
    let mut globals = Globals::default();
    let mut parser = lexopt::Parser::from_args(args::tolerant(arguments));
    match command::run(&mut parser, &mut globals) {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Exit(code)) => code,
        Err(failure) => {
            output::fail(&globals, &failure);
            failure.code
        }
    }
}

/// This program executed itself inside a new container, and says where the plan is.
fn init(descriptor: Option<OsString>, length: Option<OsString>) -> u8 {
    let place = || Some((descriptor?.to_str()?.parse().ok()?, length?.to_str()?.parse().ok()?));
    match place() {
        Some((fd, length)) => u8::try_from(runtime::init::run(fd, length)).unwrap_or(1),
        None => 1,
    }
}
