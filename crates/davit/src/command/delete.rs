//! `davit delete`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "delete",
    summary: "delete a container",
    usage: &["[OPTIONS] ID"],
    about: "Deletes a container that is stopped or was never started.",
    options: &[&[(
        "-f, --force",
        "end its processes first, whatever its state; no error where there is none",
    )]],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let (mut id, mut force) = (IdArgument::default(), false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => id.take(value)?,
            Word::Option(option) => match option.as_str() {
                "--force" | "-f" => force = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let id = id.get()?;
    let warnings =
        runtime::command::delete(&root(globals)?, &id, force).with_context(|| About(id))?;
    output::warn(globals, &warnings);
    Ok(Outcome::Done)
}
