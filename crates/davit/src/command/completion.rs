//! `davit completion`

use anyhow::{Result, anyhow, bail};
use lexopt::Parser;

use super::pages;
use crate::args::{self, Word};
use crate::globals::{self, Globals};
use crate::output::{self, Outcome};
use crate::page::Page;
use crate::page::complete::{self, Pages};

pub(super) const PAGE: Page = Page {
    name: "completion",
    summary: "print the completion for a shell",
    usage: &["bash|zsh|fish"],
    about: "\
        Prints what makes a shell complete davit's commands, options and containers. \
        `make install` puts it where the shells look for it.\n\n\
        For one session of bash: `source <(davit completion bash)`.",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    let mut shell = None;
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if shell.is_none() => shell = Some(value),
            Word::Value(value) => return Err(args::unexpected(&value)),
            Word::Option(option) => return Err(args::other(&option)),
        }
    }
    let shell = shell.ok_or_else(|| anyhow!("the name of a shell is required"))?;
    let pages = Pages { program: &globals::PAGE, commands: &pages() };
    let text = match shell.to_string_lossy().as_ref() {
        "bash" => complete::bash(&pages),
        "zsh" => complete::zsh(&pages),
        "fish" => complete::fish(&pages),
        other => bail!("{other:?} is none of bash, zsh, fish"),
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}
