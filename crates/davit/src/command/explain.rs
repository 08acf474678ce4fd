//! `davit explain`

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use davit_runtime::command::{CreateRequest, Explanation};
use lexopt::Parser;

use super::create::notify_socket;
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::escape::escaped;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "explain",
    summary: "show what create would do, without doing it",
    usage: &["[OPTIONS] [BUNDLE]"],
    about: "\
        Shows what `davit create` would do with a bundle (default: the current directory): every \
        operation, in order, without doing it.",
    arguments: &[Argument::Directory],
    options: &OPTIONS,
};

#[derive(Default)]
struct Arguments {
    request: CreateRequest,
    bundle: Option<PathBuf>,
    json: bool,
}

static OPTIONS: Table<Arguments> = &[&[
    (
        "-b, --bundle",
        Setter::Directory(|all, path| all.bundle = Some(path)),
        "path of the bundle, the same as BUNDLE",
    ),
    (
        "-f, --config",
        Setter::File(|all, path| all.request.config = Some(path)),
        "path of the configuration (default: config.json in the bundle)",
    ),
    (
        "--format",
        Setter::OneOf(&[("text", |all| all.json = false), ("json", |all| all.json = true)]),
        "output format (default: text)",
    ),
    ("--ephemeral", Setter::Switch(|all, on| all.request.options.ephemeral = on), "as for create"),
    ("--no-pivot", Setter::Switch(|all, on| all.request.options.no_pivot = on), "as for create"),
    (
        "--no-new-keyring",
        Setter::Switch(|all, on| all.request.options.process.no_new_keyring = on),
        "as for create",
    ),
]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut all = Arguments::default();
    all.request.options.cgroup_manager = globals.cgroup_manager;
    while let Some(value) = args::next(parser, OPTIONS, &mut all)? {
        match all.bundle {
            None => all.bundle = Some(PathBuf::from(value)),
            Some(_) => return Err(args::unexpected(&value)),
        }
    }
    let Arguments { mut request, bundle, json } = all;
    request.bundle = bundle.unwrap_or_else(|| PathBuf::from("."));
    request.notify = notify_socket()?;
    let explanation = davit_runtime::command::explain(globals.root.clone(), &request)?;
    let text = match json {
        true => format!("{}\n", serde_json::to_string_pretty(&explanation)?),
        false => render(&explanation)?,
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

fn render(explanation: &Explanation) -> Result<String> {
    let mut text = String::new();
    let mut section = |title: &str, lines: &[String]| -> Result<()> {
        if !lines.is_empty() {
            writeln!(text, "{title}")?;
        }
        // Equal lines in a row, such as those of several cgroup hierarchies, are one line.
        for same in lines.chunk_by(|one, next| one == next) {
            let line = same.first().map(escaped).unwrap_or_default();
            match same.len() {
                1 => writeln!(text, "  {line}")?,
                count => writeln!(text, "  {line} ({count} times)")?,
            }
        }
        Ok(())
    };
    section("start", &explanation.start)?;
    for explained in &explanation.sections {
        section(explained.title, &explained.steps)?;
    }
    section("warnings", &explanation.warnings)?;
    Ok(text)
}
