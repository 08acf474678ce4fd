//! davit: a low-level OCI container runtime.
//!
//! This crate talks to people: arguments in, output and exit code out. What is done is in the
//! crate `runtime`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod args;
mod command;
mod foreground;
mod globals;
mod output;
mod page;

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use crate::globals::Globals;
use crate::output::Outcome;

/// A command, and init all the more, is over before it has allocated much.
#[global_allocator]
static ARENA: sys::arena::Arena = sys::arena::Arena::new();

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name.as_bytes() == runtime::INIT_NAME.as_bytes()) {
        return init(arguments.next());
    }
    let mut parser = lexopt::Parser::from_iter(args::tolerant(std::env::args_os()));
    let mut globals = Globals::default();
    match command::run(&mut parser, &mut globals) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Exit(code)) => ExitCode::from(code),
        Err(failure) => {
            output::fail(&globals, &failure);
            ExitCode::from(failure.code)
        }
    }
}

/// This program executed itself inside a new container.
fn init(plan: Option<std::ffi::OsString>) -> ExitCode {
    let number = plan.and_then(|number| number.to_str()?.parse().ok());
    match number {
        Some(fd) => ExitCode::from(u8::try_from(runtime::init::run(fd)).unwrap_or(1)),
        None => ExitCode::FAILURE,
    }
}
