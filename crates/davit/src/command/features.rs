//! `davit features`

use anyhow::Result;
use lexopt::Parser;

use crate::args;
use crate::cli::CommandSpec;
use crate::cli::option::NO_OPTIONS;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "features",
    summary: "print the supported features as JSON",
    usage: &[""],
    about: "\
        Prints the features of this build as JSON (features.md of the specification). It does not \
        depend on the host.",
    arguments: &[],
    options: &NO_OPTIONS,
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    args::only_options(parser, NO_OPTIONS, &mut ())?;
    let format = davit_runtime::STATE_FORMAT.to_string();
    let about = [
        // As of runc, whatever the name.
        ("org.opencontainers.runc.checkpoint.enabled", "true"),
        ("run.davit.version", env!("CARGO_PKG_VERSION")),
        ("run.davit.commit", env!("DAVIT_COMMIT")),
        ("run.davit.state.format", format.as_str()),
    ];
    let features = davit_runtime::command::features(&about);
    output::print(&format!("{}\n", serde_json::to_string_pretty(&features)?))?;
    Ok(Outcome::Done)
}
