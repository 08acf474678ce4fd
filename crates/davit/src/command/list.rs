//! `davit list`

use std::borrow::Cow;

use anyhow::Result;
use davit_runtime::state::State;
use davit_runtime::{ErrorKind, Id};
use lexopt::Parser;

use super::root;
use crate::args;
use crate::cli::CommandSpec;
use crate::cli::option::{Setter, Table};
use crate::escape::escaped;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "list",
    summary: "list the containers",
    usage: &["[OPTIONS]"],
    about: "Lists the containers.",
    arguments: &[],
    options: &OPTIONS,
};

/// The arguments of `list`.
#[derive(Default)]
struct Arguments {
    json: bool,
    quiet: bool,
}

static OPTIONS: Table<Arguments> = &[&[
    (
        "-f, --format",
        Setter::OneOf(&[("table", |list| list.json = false), ("json", |list| list.json = true)]),
        "output format (default: table)",
    ),
    ("-q, --quiet", Setter::Switch(|list, on| list.quiet = on), "print only the ids"),
]];

/// Blanks between two columns.
const GAP: usize = 3;

type Container = (Id, davit_runtime::Result<State>);

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::default();
    args::only_options(parser, OPTIONS, &mut arguments)?;
    let containers = davit_runtime::command::list(&root(globals)?)?;
    let text = match (arguments.quiet, arguments.json) {
        (true, _) => containers.iter().map(|(id, _)| format!("{id}\n")).collect(),
        (false, true) => as_json(&containers)?,
        (false, false) => as_table(&containers),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

/// Containers with a damaged record have no state; only the table shows them.
fn as_json(containers: &[Container]) -> Result<String> {
    let states: Vec<_> = containers.iter().filter_map(|(_, state)| state.as_ref().ok()).collect();
    Ok(format!("{}\n", serde_json::to_string(&states)?))
}

fn as_table(containers: &[Container]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(Cow::from)];
    rows.extend(containers.iter().map(|(id, state)| match state {
        Ok(state) => [
            id.as_str().into(),
            state.pid.to_string().into(),
            state.status.name().into(),
            escaped(state.bundle.to_string_lossy()),
            state.created.as_str().into(),
            state.owner.as_str().into(),
        ],
        Err(error) => {
            let [pid, bundle, created, owner] = ["-", "-", "-", "-"].map(Cow::from);
            let status = match error.kind() {
                ErrorKind::StateFormat => "unknown format",
                _ => "damaged",
            };
            let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            let status = escaped(format!("{status} ({error}{advice})"));
            [id.as_str().into(), pid, status, bundle, created, owner]
        }
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
