//! `davit start`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, Outcome, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;

pub(super) const HELP: &str = "\
usage: davit start ID

Starts the program of a created container; returns when it was executed, or says why it was not.
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
    runtime::command::start(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
