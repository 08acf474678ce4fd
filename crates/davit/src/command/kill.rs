//! `davit kill`

use anyhow::{Context, Result, anyhow};
use lexopt::Parser;
use runtime::signal;

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "kill",
    summary: "send a signal to a container",
    usage: &["[OPTIONS] ID [SIGNAL]"],
    about: "\
        Sends a signal (TERM where none is given; a name or a number) to the container's init.",
    options: &[&[("-a, --all", "to every process of the container; no error where none is left")]],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let (mut wanted, mut all) = (None, false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if !id.is_given() => id.take(value)?,
            Word::Value(value) if wanted.is_none() => {
                let text = value.into_string().map_err(|_| anyhow!("the signal is not UTF-8"))?;
                wanted = Some(signal::parse(&text)?);
            }
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => match option.as_str() {
                "--all" | "-a" => all = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let id = id.get()?;
    let wanted = wanted.unwrap_or(nix::sys::signal::Signal::SIGTERM as i32);
    runtime::command::kill(&root(globals)?, &id, wanted, all).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
