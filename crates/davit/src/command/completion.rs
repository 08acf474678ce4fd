//! `davit completion`

use anyhow::Result;
use lexopt::Parser;

use super::command_specs;
use crate::args;
use crate::cli::complete::{self, ProgramSpec};
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::{self, Globals};
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "completion",
    summary: "print the completion for a shell",
    usage: &["bash|zsh|fish"],
    about: "\
        Prints the completion of davit's commands, options and containers for a shell. \
        `make install` installs it in the directories of the shells.\n\n\
        For one session of bash: `source <(davit completion bash)`.",
    arguments: &[Argument::OneOf(&SHELLS)],
    options: &NO_OPTIONS,
};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let shell = args::at_most_one(parser, NO_OPTIONS, &mut ())?;
    let shell = shell.ok_or_else(|| args::required("the name of a shell"))?;
    let program = ProgramSpec { global: &globals::SPEC, commands: &command_specs() };
    let text = match shell.to_string_lossy().as_ref() {
        "bash" => complete::bash(&program),
        "zsh" => complete::zsh(&program),
        "fish" => complete::fish(&program),
        other => return Err(args::invalid_choice("the shell", other, &SHELLS)),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}
