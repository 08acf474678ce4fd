//! `davit state`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "state",
    summary: "show the state of a container",
    usage: &["ID"],
    about: "Prints the state of a container as JSON (runtime.md, \"State\").",
    arguments: &[Argument::Id],
    options: &NO_OPTIONS,
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    let state = davit_runtime::command::state(&root(globals)?, &id)
        .with_context(|| ContainerContext(id))?;
    output::print(&format!("{}\n", serde_json::to_string_pretty(&state)?))?;
    Ok(Outcome::Done)
}
