//! `davit delete`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "delete",
    summary: "delete a container",
    usage: &["[OPTIONS] ID"],
    about: "Deletes a container that is stopped or was never started.",
    arguments: &[Argument::Id],
    options: &OPTIONS,
};

static OPTIONS: Table<bool> = &[&[(
    "-f, --force",
    Setter::Switch(|force, on| *force = on),
    "kill its processes first; succeed if it does not exist",
)]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut force = false;
    let id = args::id_and_options(parser, OPTIONS, &mut force)?;
    davit_runtime::command::delete(&root(globals)?, &id, force)
        .with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}
