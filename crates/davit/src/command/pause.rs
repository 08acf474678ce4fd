//! `davit pause` and `davit resume`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{About, root};
use crate::args;
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAUSE: Page = Page {
    name: "pause",
    summary: "freeze the processes of a container",
    usage: &["ID"],
    about: "Freezes every process of a container, and returns when all of them stand still.",
    options: &[],
};

pub(super) const RESUME: Page = Page {
    name: "resume",
    summary: "let the processes of a paused container go on",
    usage: &["ID"],
    about: "Lets the processes of a paused container go on.",
    options: &[],
};

pub(super) fn pause(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser, &PAUSE)?;
    runtime::command::pause(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}

pub(super) fn resume(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser, &RESUME)?;
    runtime::command::resume(&root(globals)?, &id).with_context(|| About(id))?;
    Ok(Outcome::Done)
}
