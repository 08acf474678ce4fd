//! `davit list`

use std::borrow::Cow;

use anyhow::Result;
use lexopt::Parser;
use runtime::Id;
use runtime::state::State;

use super::root;
use crate::args::{self, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "list",
    summary: "list the containers",
    usage: &["[OPTIONS]"],
    about: "Lists the containers.",
    options: &[&[("-f, --format table|json", "table is the default"), ("-q, --quiet", "ids only")]],
};

/// Between two columns.
const GAP: usize = 3;

type Container = (Id, runtime::Result<State>);

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let (mut json, mut quiet) = (false, false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => match option.as_str() {
                "--format" | "-f" => json = args::json(parser, &option, "table")?,
                "--quiet" | "-q" => quiet = args::switch(parser, &option)?,
                other => return Err(args::other(other)),
            },
        }
    }
    let containers = runtime::command::list(&root(globals)?)?;
    let text = match (quiet, json) {
        (true, _) => containers.iter().map(|(id, _)| format!("{id}\n")).collect(),
        (false, true) => as_json(&containers)?,
        (false, false) => as_table(&containers),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

/// Containers whose record is damaged have no state to show; the table has them.
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
            state.bundle.to_string_lossy(),
            state.created.as_str().into(),
            state.owner.as_str().into(),
        ],
        Err(error) => {
            let [pid, bundle, created, owner] = ["-", "-", "-", "-"].map(Cow::from);
            [id.as_str().into(), pid, format!("damaged ({error})").into(), bundle, created, owner]
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
