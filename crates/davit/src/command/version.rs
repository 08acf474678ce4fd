//! `davit version`

use anyhow::Result;
use lexopt::Parser;

use crate::args;
use crate::cli::CommandSpec;
use crate::cli::option::NO_OPTIONS;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "version",
    summary: "print the version and the built-in features",
    usage: &[""],
    about: "Prints the version and the built-in features, the same as `davit --version`.",
    arguments: &[],
    options: &NO_OPTIONS,
};

pub(super) fn run(parser: &mut Parser, _: &Globals) -> Result<Outcome> {
    args::only_options(parser, NO_OPTIONS, &mut ())?;
    output::print(&text())?;
    Ok(Outcome::Done)
}

/// The lines that engines parse, and the features in crun's format.
pub(super) fn text() -> String {
    format!(
        "davit version {}\ncommit: {}\nspec: {}\nstate: format {}\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CGROUP1 +CGROUP2 +CRIU\n",
        env!("CARGO_PKG_VERSION"),
        env!("DAVIT_COMMIT"),
        davit_runtime::state::OCI_VERSION,
        davit_runtime::STATE_FORMAT
    )
}
