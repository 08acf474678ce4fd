//! `davit mounts`

use std::path::PathBuf;

use anyhow::{Context, Result};
use davit_runtime::plan::Change;
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args::{self, IdArgument};
use crate::cli::option::NO_OPTIONS;
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "mounts",
    summary: "add or remove mounts of a running container",
    usage: &["add ID FILE", "remove ID FILE"],
    about: "\
        Adds the mounts of a file to a running container, or removes the mounts at their \
        destinations, one after the other. The file has the form of `mounts` in config.json: a \
        list, or an object with such a list; - is standard input. Bind mounts, with sources on \
        the host, and file systems without a source, such as tmpfs, can be added. The command \
        ends at the first failure; the mounts before it remain.",
    arguments: &[Argument::OneOf(&CHANGES), Argument::Id, Argument::File],
    options: &NO_OPTIONS,
};

const CHANGES: [&str; 2] = ["add", "remove"];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let (mut change, mut id, mut file) = (None, IdArgument::default(), None);
    while let Some(value) = args::next(parser, NO_OPTIONS, &mut ())? {
        if change.is_none() {
            change = Some(match value.to_str() {
                Some("add") => Change::Add,
                Some("remove") => Change::Remove,
                _ => {
                    return Err(args::invalid_choice(
                        "the change",
                        &value.to_string_lossy(),
                        &CHANGES,
                    ));
                }
            });
        } else if !id.is_given() {
            id.take(value)?;
        } else if file.is_none() {
            file = Some(PathBuf::from(value));
        } else {
            return Err(args::unexpected(&value));
        }
    }
    let change = change.ok_or_else(|| args::required("add or remove"))?;
    let id = id.get()?;
    let file = file.ok_or_else(|| args::required("a file with mounts"))?;
    davit_runtime::command::mounts(&root(globals)?, &id, change, &file)
        .with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}
