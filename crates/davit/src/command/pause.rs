//! `davit pause` and `davit resume`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static PAUSE: CommandSpec = CommandSpec {
    name: "pause",
    summary: "freeze the processes of a container",
    usage: &["ID"],
    about: "Freezes all processes of a container and returns once all of them are frozen.",
    arguments: &[Argument::Id],
    options: &NO_OPTIONS,
};

pub(super) static RESUME: CommandSpec = CommandSpec {
    name: "resume",
    summary: "resume a paused container",
    usage: &["ID"],
    about: "Resumes the processes of a paused container.",
    arguments: &[Argument::Id],
    options: &NO_OPTIONS,
};

pub(super) fn pause(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    davit_runtime::command::pause(&root(globals)?, &id).with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}

pub(super) fn resume(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    davit_runtime::command::resume(&root(globals)?, &id).with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}
