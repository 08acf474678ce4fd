//! `davit pause` and `davit resume`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) const PAUSE_HELP: &str = "\
usage: davit pause ID

Freezes every process of a container, and returns when all of them stand still.
";

pub(super) const RESUME_HELP: &str = "\
usage: davit resume ID

Lets the processes of a paused container go on.
";

pub(super) fn pause(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    runtime::command::pause(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}

pub(super) fn resume(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    runtime::command::resume(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
