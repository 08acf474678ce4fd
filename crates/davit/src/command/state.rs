//! `davit state`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "state",
    summary: "show the state of a container",
    usage: &["ID"],
    about: "Prints the state of a container as JSON (runtime.md, \"State\").",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser, &PAGE)?;
    let state = runtime::command::state(&root(globals)?, &id).with_context(|| About(id))?;
    output::print(&format!("{}\n", serde_json::to_string_pretty(&state)?))?;
    Ok(Outcome::Done)
}
