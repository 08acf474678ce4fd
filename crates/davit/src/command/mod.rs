//! One file per command: its arguments, and what it prints.

mod checkpoint;
mod completion;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod gc;
mod help;
mod kill;
mod list;
mod man;
mod mounts;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;
mod version;

use anyhow::Result;
use davit_runtime::{Id, StateRoot};
use lexopt::Parser;

use crate::args::{self, WrongArguments};
use crate::cli::CommandSpec;
use crate::cli::option::InfoRequest;
use crate::globals::{self, Globals};
use crate::inherited;
use crate::output::{self, Failure, Outcome};

/// A command of the program.
struct Command {
    spec: &'static CommandSpec,
    /// The exit code of a failure of davit itself.
    failure: u8,
    run: fn(&mut Parser, &Globals) -> Result<Outcome>,
}

/// All commands, in the order of `davit --help`.
static COMMANDS: [Command; 24] = [
    Command { spec: &create::SPEC, failure: 1, run: create::run },
    Command { spec: &start::SPEC, failure: 1, run: start::run },
    Command { spec: &run::SPEC, failure: 1, run: run::run },
    // As with runc: engines distinguish it from the exit codes of most programs.
    Command { spec: &exec::SPEC, failure: 255, run: exec::run },
    Command { spec: &kill::SPEC, failure: 1, run: kill::run },
    Command { spec: &update::SPEC, failure: 1, run: update::run },
    Command { spec: &mounts::SPEC, failure: 1, run: mounts::run },
    Command { spec: &pause::PAUSE, failure: 1, run: pause::pause },
    Command { spec: &pause::RESUME, failure: 1, run: pause::resume },
    Command { spec: &checkpoint::SPEC, failure: 1, run: checkpoint::run },
    Command { spec: &restore::SPEC, failure: 1, run: restore::run },
    Command { spec: &delete::SPEC, failure: 1, run: delete::run },
    Command { spec: &gc::SPEC, failure: 1, run: gc::run },
    Command { spec: &state::SPEC, failure: 1, run: state::run },
    Command { spec: &events::SPEC, failure: 1, run: events::run },
    Command { spec: &ps::SPEC, failure: 1, run: ps::run },
    Command { spec: &list::SPEC, failure: 1, run: list::run },
    Command { spec: &spec::SPEC, failure: 1, run: spec::run },
    Command { spec: &explain::SPEC, failure: 1, run: explain::run },
    Command { spec: &features::SPEC, failure: 1, run: features::run },
    Command { spec: &completion::SPEC, failure: 1, run: completion::run },
    Command { spec: &man::SPEC, failure: 1, run: man::run },
    Command { spec: &help::SPEC, failure: 1, run: help::run },
    Command { spec: &version::SPEC, failure: 1, run: version::run },
];

/// The command lines of all commands.
fn command_specs() -> Vec<&'static CommandSpec> {
    COMMANDS.iter().map(|command| command.spec).collect()
}

/// The command of this name.
fn command(name: &str) -> Result<&'static Command> {
    COMMANDS.iter().find(|command| command.spec.name == name).ok_or_else(|| unknown_command(name))
}

/// The command line of the command of this name.
fn command_spec(name: &str) -> Result<&'static CommandSpec> {
    command(name).map(|command| command.spec)
}

fn unknown_command(name: &str) -> anyhow::Error {
    let error = davit_runtime::Error::new(format!("unknown command {name:?}"));
    match davit_runtime::nearest(name, COMMANDS.iter().map(|command| command.spec.name)) {
        None => error.hint("davit help lists the commands"),
        meant => args::suggest(error, meant),
    }
    .into()
}

/// Parses the command line and executes the command.
pub(crate) fn run(parser: &mut Parser, globals: &mut Globals) -> Result<Outcome, Failure> {
    let usage = |error: anyhow::Error| failure("", error, 1);
    davit_sys::entry::prepare().map_err(|error| usage(error.into()))?;
    inherited::close_at_exec().map_err(|error| usage(error.into()))?;
    // On an error the options before it remain set: `--log` is used for that error.
    let name = match args::next(parser, globals::OPTIONS, globals) {
        Ok(Some(name)) => name.to_string_lossy().into_owned(),
        Ok(None) => return print(&globals::SPEC.help(&command_specs())),
        Err(error) => match error.downcast_ref::<InfoRequest>() {
            Some(wanted) => return print_instead(*wanted, &globals::SPEC, &command_specs()),
            None => {
                // A log that was named before the error is for this error too.
                let _ = output::open_log(globals);
                return Err(usage(error));
            }
        },
    };
    output::open_log(globals).map_err(usage)?;
    output::trace(globals).map_err(usage)?;
    let command = command(&name).map_err(usage)?;
    let error = match (command.run)(parser, globals) {
        Ok(outcome) => {
            output::print_warnings(globals);
            return Ok(outcome);
        }
        Err(error) => error,
    };
    if let Some(wanted) = error.downcast_ref::<InfoRequest>() {
        return print_instead(*wanted, command.spec, &[]);
    }
    let wrong_arguments = error.is::<WrongArguments>();
    let mut failure = failure(command.spec.name, error, command.failure);
    if wrong_arguments {
        failure.hint = Some(command.spec.short_usage());
    }
    Err(failure)
}

fn print_instead(
    wanted: InfoRequest,
    spec: &CommandSpec,
    commands: &[&CommandSpec],
) -> Result<Outcome, Failure> {
    print(&match wanted {
        InfoRequest::Help => spec.help(commands),
        InfoRequest::Version => version::text(),
    })
}

/// The container that a failure concerns; a context of errors.
#[derive(Debug)]
pub(crate) struct ContainerContext(pub(crate) Id);

impl std::fmt::Display for ContainerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn print(text: &str) -> Result<Outcome, Failure> {
    output::print(text).map(|()| Outcome::Done).map_err(|error| failure("", error, 1))
}

/// The error as one line, and its hint apart.
fn failure(command: &str, error: anyhow::Error, code: u8) -> Failure {
    let hint = error.chain().find_map(|cause| {
        let cause = cause.downcast_ref::<davit_runtime::Error>()?;
        cause.advice().map(str::to_owned)
    });
    let text = output::one_line(&error);
    let message = match (command, error.is::<ContainerContext>()) {
        ("", _) => text,
        (command, true) => format!("{command} {text}"),
        (command, false) => format!("{command}: {text}"),
    };
    Failure { message, hint, code }
}

/// The state root of this user.
fn root(globals: &Globals) -> Result<StateRoot> {
    Ok(StateRoot::new(globals.root.clone())?)
}
