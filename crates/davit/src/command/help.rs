//! `davit help`

use anyhow::Result;
use lexopt::Parser;

use super::{command_spec, command_specs};
use crate::args;
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::{self, Globals};
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "help",
    summary: "print the help of davit or of a command",
    usage: &["[COMMAND]"],
    about: "Prints the help of davit or of a command, the same as --help.",
    arguments: &[Argument::Command],
    options: &NO_OPTIONS,
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let text = match args::at_most_one(parser, NO_OPTIONS, &mut ())? {
        None => globals::SPEC.help(&command_specs()),
        Some(name) => command_spec(&name.to_string_lossy())?.help(&[]),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}
