//! `davit explain`

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use lexopt::Parser;
use runtime::command::Explanation;
use runtime::plan::CreateOptions;

use crate::args::{self, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "explain",
    summary: "tell what create would do",
    usage: &["[OPTIONS] [BUNDLE]"],
    about: "\
        Tells what `davit create` would do with a bundle (default: the working directory), and \
        does nothing.",
    options: &[&[
        ("-b, --bundle DIR", "the same as BUNDLE"),
        ("-f, --config FILE", "its config.json, where it has another name"),
        ("--format text|json", "text is the default"),
        ("--ephemeral", "as for create"),
        ("--no-pivot", "as for create"),
        ("--no-new-keyring", "as for create"),
    ]],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut options =
        CreateOptions { cgroup_manager: globals.cgroup_manager, ..CreateOptions::default() };
    let (mut bundle, mut config, mut json) = (None, None, false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if bundle.is_none() => bundle = Some(PathBuf::from(value)),
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => match option.as_str() {
                "--bundle" | "-b" => bundle = Some(args::path(parser, &option)?),
                "--config" | "-f" => config = Some(args::path(parser, &option)?),
                "--ephemeral" => options.ephemeral = args::switch(parser, &option)?,
                "--no-pivot" => options.no_pivot = args::switch(parser, &option)?,
                "--no-new-keyring" => {
                    options.process.no_new_keyring = args::switch(parser, &option)?;
                }
                "--format" => json = args::json(parser, &option, "text")?,
                other => return Err(args::other(other)),
            },
        }
    }
    let bundle = bundle.unwrap_or_else(|| PathBuf::from("."));
    let explanation = runtime::command::explain(&bundle, config.as_deref(), &options)?;
    let text = match json {
        true => format!("{}\n", serde_json::to_string_pretty(&explanation)?),
        false => story(&explanation)?,
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

fn story(explanation: &Explanation) -> Result<String> {
    let mut text = String::new();
    for chapter in &explanation.chapters {
        writeln!(text, "{}", chapter.title)?;
        for step in &chapter.steps {
            writeln!(text, "  {step}")?;
        }
    }
    for (title, lines) in [
        ("what cannot be granted", &explanation.warnings),
        ("fields that the specification does not know, ignored", &explanation.unknown_fields),
    ] {
        if !lines.is_empty() {
            writeln!(text, "{title}")?;
            for line in lines {
                writeln!(text, "  {line}")?;
            }
        }
    }
    Ok(text)
}
