//! `davit kill`

use anyhow::{Context, Result, anyhow};
use davit_runtime::signal;
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args::{self, IdArgument};
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "kill",
    summary: "send a signal to a container",
    usage: &["[OPTIONS] ID [SIGNAL]"],
    about: "\
        Sends a signal (a name or a number; TERM by default) to the container's init. Signal 0 \
        only checks whether the container is running.",
    arguments: &[Argument::Id, Argument::Signal],
    options: &OPTIONS,
};

static OPTIONS: Table<bool> = &[&[(
    "-a, --all",
    Setter::Switch(|all, on| *all = on),
    "signal every process of the container; succeed if none is left",
)]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let (mut wanted, mut all) = (None, false);
    while let Some(value) = args::next(parser, OPTIONS, &mut all)? {
        if !id.is_given() {
            id.take(value)?;
        } else if wanted.is_none() {
            let text = value.into_string().map_err(|_| anyhow!("the signal is not UTF-8"))?;
            wanted = Some(signal::parse(&text)?);
        } else {
            return Err(args::unexpected(&value));
        }
    }
    let id = id.get()?;
    let wanted = wanted.unwrap_or(nix::sys::signal::Signal::SIGTERM as i32);
    davit_runtime::command::kill(&root(globals)?, &id, wanted, all)
        .with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}
