//! `davit mounts`

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;
use runtime::plan::Change;

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "mounts",
    summary: "add mounts to a container that lives, or remove some",
    usage: &["add ID FILE", "remove ID FILE"],
    about: "\
        Adds the mounts in a file to a container, or removes what is mounted at their \
        destinations, one after the other. The file holds a list as `mounts` of config.json is \
        one, or an object with such a list; - is standard input. Added can be bind mounts, whose \
        sources are the host's, and file systems that need no source, such as tmpfs. What fails \
        ends the command: the mounts before it are done.",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let (mut change, mut id, mut file) = (None, IdArgument::default(), None);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if change.is_none() => {
                change = Some(match value.to_str() {
                    Some("add") => Change::Add,
                    Some("remove") => Change::Remove,
                    _ => bail!("{value:?} is neither add nor remove"),
                });
            }
            Word::Value(value) if !id.is_given() => id.take(value)?,
            Word::Value(value) if file.is_none() => file = Some(PathBuf::from(value)),
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => return Err(args::other(&option)),
        }
    }
    let change = change.ok_or_else(|| anyhow!("add or remove is required"))?;
    let id = id.get()?;
    let file = file.ok_or_else(|| anyhow!("a file with mounts is required"))?;
    runtime::command::mounts(&root(globals)?, &id, change, &file).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
