//! `davit explain`

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use davit_runtime::Id;
use davit_runtime::command::{self, CreateRequest, CriuOptions, Explanation, RestoreRequest};
use lexopt::Parser;

use super::create::notify_socket;
use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::escape::escaped;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "explain",
    summary: "show what create would do, without doing it",
    usage: &["[OPTIONS] [BUNDLE]", "--checkpoint ID", "--restore DIR [BUNDLE]"],
    about: "\
        Shows what `davit create` would do with a bundle (default: the current directory): every \
        operation, in order, without doing it. With --checkpoint or --restore it shows the same of \
        those commands.",
    arguments: &[Argument::Directory],
    options: &OPTIONS,
};

#[derive(Default)]
struct Arguments {
    request: CreateRequest,
    bundle: Option<PathBuf>,
    json: bool,
    /// The container whose checkpoint is explained.
    checkpoint: Option<Id>,
    /// The image whose restore is explained.
    restore: Option<PathBuf>,
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
    (
        "--checkpoint",
        Setter::Text("ID", |all, id| {
            all.checkpoint = Some(Id::try_from(id)?);
            Ok(())
        }),
        "show what `davit checkpoint` would do with this running container",
    ),
    (
        "--restore",
        Setter::Directory(|all, path| all.restore = Some(path)),
        "show what `davit restore` would do with the bundle and this image",
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
    let Arguments { mut request, bundle, json, checkpoint, restore } = all;
    request.bundle = bundle.unwrap_or_else(|| PathBuf::from("."));
    request.notify = notify_socket()?;
    let explanation = match (checkpoint, restore) {
        (Some(_), Some(_)) => return Err(anyhow!("--checkpoint and --restore: give one of them")),
        (Some(id), None) => {
            command::explain_checkpoint(&root(globals)?, &id, &CriuOptions::default())
                .with_context(|| ContainerContext(id))?
        }
        (None, Some(image)) => {
            request.options.start_at_once = true;
            let request = RestoreRequest { create: request, image, ..RestoreRequest::default() };
            command::explain_restore(globals.root.clone(), &request)?
        }
        (None, None) => command::explain(globals.root.clone(), &request)?,
    };
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
