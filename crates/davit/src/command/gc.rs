//! `davit gc`

use anyhow::{Result, bail};
use davit_runtime::command::Leftover;
use lexopt::Parser;

use super::root;
use crate::args;
use crate::cli::CommandSpec;
use crate::cli::option::{Setter, Table};
use crate::escape::escaped;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "gc",
    summary: "remove what is left of containers that do not exist any more",
    usage: &["[--yes]"],
    about: "\
        Lists the containers of which only the state directory is left: they have no process and \
        no cgroup, and no command works on them. With --yes, it deletes them, and their poststop \
        hooks run. An engine may still want to delete such a container itself: call this where \
        the engine does not know it any more.",
    arguments: &[],
    options: &OPTIONS,
};

static OPTIONS: Table<bool> = &[&[(
    "-y, --yes",
    Setter::Switch(|yes, on| *yes = on),
    "delete them, instead of listing them",
)]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut yes = false;
    args::only_options(parser, OPTIONS, &mut yes)?;
    let leftovers = davit_runtime::command::gc(&root(globals)?, yes)?;
    output::print(&leftovers.iter().map(line).collect::<String>())?;
    match leftovers.iter().filter(|leftover| leftover.removed.is_err()).count() {
        0 => Ok(Outcome::Done),
        count => bail!("{count} of {} could not be deleted", leftovers.len()),
    }
}

fn line(Leftover { id, reason, removed }: &Leftover) -> String {
    let reason = escaped(reason.as_str());
    match removed {
        Ok(false) => format!("{id}: {reason}\n"),
        Ok(true) => format!("{id}: deleted ({reason})\n"),
        Err(error) => format!("{id}: not deleted: {} ({reason})\n", escaped(error.to_string())),
    }
}
