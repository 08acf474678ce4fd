//! `davit state`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, Outcome, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output;

pub(super) const HELP: &str = "\
usage: davit state ID

Prints the state of a container as JSON (runtime.md, \"State\").
";

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    while let Some(word) = args::next(parser)? {
        match word {
            Word::Value(value) => id.take(value)?,
            Word::Option(option) => return Err(args::other(&option)),
        }
    }
    let id = id.get()?;
    let state = runtime::command::state(&root(globals)?, &id).with_context(|| About(id))?;
    output::print(&format!("{}\n", serde_json::to_string_pretty(&state)?))?;
    Ok(Outcome::Done)
}
