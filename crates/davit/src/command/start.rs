//! `davit start`

use anyhow::{Context, Result};
use lexopt::Parser;

use super::create::notify_socket;
use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "start",
    summary: "start the program of a created container",
    usage: &["ID"],
    about: "\
        Starts the program of a created container, and returns once it was executed. With \
        NOTIFY_SOCKET in the environment of davit create and of davit start, it returns once the \
        container has sent READY=1 (sd_notify(3)), or has ended.",
    arguments: &[Argument::Id],
    options: &NO_OPTIONS,
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let id = args::only_id(parser)?;
    let notify = notify_socket()?;
    davit_runtime::command::start(&root(globals)?, &id, notify.as_ref())
        .with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}
