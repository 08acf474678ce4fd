//! `davit start`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "start",
    summary: "start the program of a created container",
    usage: &["ID"],
    about: "\
        Starts the program of a created container; returns when it was executed, or says why it \
        was not.",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser, &PAGE)?;
    runtime::command::start(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
