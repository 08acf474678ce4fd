//! `davit features`

use anyhow::Result;
use lexopt::Parser;

use crate::args::{self, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "features",
    summary: "tell what is built in, as JSON",
    usage: &[""],
    about: "\
        Prints what is built in as JSON (features.md of the specification), whatever this machine \
        can do.",
    options: &[],
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    match args::next(parser, &PAGE)? {
        None => {}
        Some(Word::Value(value)) => return Err(args::unexpected(&value)),
        Some(Word::Option(option)) => return Err(args::other(&option)),
    }
    let about = [
        ("run.davit.version", env!("CARGO_PKG_VERSION")),
        ("run.davit.commit", env!("DAVIT_COMMIT")),
    ];
    let features = runtime::command::features(&about);
    output::print(&format!("{}\n", serde_json::to_string_pretty(&features)?))?;
    Ok(Outcome::Done)
}
