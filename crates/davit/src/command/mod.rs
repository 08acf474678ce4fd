//! One file per command: its arguments, and what it prints.

mod completion;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod man;
mod mounts;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use anyhow::Result;
use lexopt::Parser;
use runtime::{Id, Root};

use crate::args;
use crate::globals::{self, Globals, Next};
use crate::output::{self, Failure, Outcome};
use crate::page::Page;

/// A command of the program.
struct Command {
    page: &'static Page,
    /// The exit code of a failure of the runtime's own.
    failure: u8,
    run: fn(&mut Parser, &Globals) -> Result<Outcome>,
}

/// In the order in which davit's own page lists them.
const COMMANDS: [Command; 19] = [
    Command { page: &create::PAGE, failure: 1, run: create::run },
    Command { page: &start::PAGE, failure: 1, run: start::run },
    Command { page: &run::PAGE, failure: 1, run: run::run },
    // As runc: an engine tells it from the exit codes of most programs.
    Command { page: &exec::PAGE, failure: 255, run: exec::run },
    Command { page: &kill::PAGE, failure: 1, run: kill::run },
    Command { page: &update::PAGE, failure: 1, run: update::run },
    Command { page: &mounts::PAGE, failure: 1, run: mounts::run },
    Command { page: &pause::PAUSE, failure: 1, run: pause::pause },
    Command { page: &pause::RESUME, failure: 1, run: pause::resume },
    Command { page: &delete::PAGE, failure: 1, run: delete::run },
    Command { page: &state::PAGE, failure: 1, run: state::run },
    Command { page: &events::PAGE, failure: 1, run: events::run },
    Command { page: &ps::PAGE, failure: 1, run: ps::run },
    Command { page: &list::PAGE, failure: 1, run: list::run },
    Command { page: &spec::PAGE, failure: 1, run: spec::run },
    Command { page: &explain::PAGE, failure: 1, run: explain::run },
    Command { page: &features::PAGE, failure: 1, run: features::run },
    Command { page: &completion::PAGE, failure: 1, run: completion::run },
    Command { page: &man::PAGE, failure: 1, run: man::run },
];

/// The pages of all commands.
fn pages() -> [&'static Page; COMMANDS.len()] {
    COMMANDS.map(|command| command.page)
}

/// Reads the command line and does what it says.
pub(crate) fn run(parser: &mut Parser, globals: &mut Globals) -> Result<Outcome, Failure> {
    let usage = |error: anyhow::Error| failure("", error, 1);
    sys::entry::prepare().map_err(|error| usage(error.into()))?;
    let name = match globals.read(parser).map_err(usage)? {
        Next::Command(name) => name,
        Next::Version => return print(&version()),
        Next::Help => return print(&globals::PAGE.help(&pages())),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.page.name == name) else {
        return Err(usage(anyhow::anyhow!("unknown command {name:?}")));
    };
    match (command.run)(parser, globals) {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is::<args::HelpWanted>() => print(&command.page.help(&[])),
        Err(error) => Err(failure(command.page.name, error, command.failure)),
    }
}

/// The container that a failure is about.
#[derive(Debug)]
pub(crate) struct About(pub(crate) Id);

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn print(text: &str) -> Result<Outcome, Failure> {
    output::print(text).map(|()| Outcome::Done).map_err(|error| failure("", error, 1))
}

/// The whole chain on one line; the advice of the innermost failure on its own.
fn failure(command: &str, error: anyhow::Error, code: u8) -> Failure {
    let hint = error.chain().find_map(|cause| {
        let cause = cause.downcast_ref::<runtime::Error>()?;
        cause.advice().map(str::to_owned)
    });
    let text = format!("{error:#}").replace('\n', " ");
    let message = match (command, error.is::<About>()) {
        ("", _) => text,
        (command, true) => format!("{command} {text}"),
        (command, false) => format!("{command}: {text}"),
    };
    Failure { message, hint, code }
}

fn version() -> String {
    format!(
        "davit version {}\ncommit: {}\nspec: {}\n+SECCOMP +CAP +EBPF +CGROUP1 +CGROUP2\n",
        env!("CARGO_PKG_VERSION"),
        env!("DAVIT_COMMIT"),
        runtime::state::OCI_VERSION
    )
}

/// Where this user's containers are.
fn root(globals: &Globals) -> Result<Root> {
    Ok(Root::new(globals.root.clone())?)
}
