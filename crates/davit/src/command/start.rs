//! `davit start`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) const HELP: &str = "\
usage: davit start ID

Starts the program of a created container; returns when it was executed, or says why it was not.
";

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    runtime::command::start(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
