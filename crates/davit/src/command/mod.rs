//! One file per command: its arguments, and what it prints.

mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
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
use crate::globals::{Globals, Next};
use crate::output::{self, Failure, Outcome};

/// A command of the program.
struct Command {
    name: &'static str,
    help: &'static str,
    /// The exit code of a failure of the runtime's own.
    failure: u8,
    run: fn(&mut Parser, &Globals) -> Result<Outcome>,
}

const COMMANDS: [Command; 16] = [
    Command { name: "create", help: create::HELP, failure: 1, run: create::run },
    Command { name: "delete", help: delete::HELP, failure: 1, run: delete::run },
    Command { name: "events", help: events::HELP, failure: 1, run: events::run },
    // As runc: an engine tells it from the exit codes of most programs.
    Command { name: "exec", help: exec::HELP, failure: 255, run: exec::run },
    Command { name: "explain", help: explain::HELP, failure: 1, run: explain::run },
    Command { name: "features", help: features::HELP, failure: 1, run: features::run },
    Command { name: "kill", help: kill::HELP, failure: 1, run: kill::run },
    Command { name: "list", help: list::HELP, failure: 1, run: list::run },
    Command { name: "pause", help: pause::PAUSE_HELP, failure: 1, run: pause::pause },
    Command { name: "ps", help: ps::HELP, failure: 1, run: ps::run },
    Command { name: "resume", help: pause::RESUME_HELP, failure: 1, run: pause::resume },
    Command { name: "run", help: run::HELP, failure: 1, run: run::run },
    Command { name: "spec", help: spec::HELP, failure: 1, run: spec::run },
    Command { name: "start", help: start::HELP, failure: 1, run: start::run },
    Command { name: "state", help: state::HELP, failure: 1, run: state::run },
    Command { name: "update", help: update::HELP, failure: 1, run: update::run },
];

const HELP: &str = "\
davit: a low-level OCI container runtime

usage: davit [OPTIONS] COMMAND [ARGUMENTS]

options:
  --root DIR              where the state of containers is kept
                          (/run/davit, or $XDG_RUNTIME_DIR/davit for an ordinary user)
  --log FILE              write failures to FILE as well
  --log-format FORMAT     text (default) or json
  --log-level LEVEL       error (default), warning, info or debug
  --debug                 as --log-level debug
  --cgroup-manager NAME   cgroupfs (default), systemd or disabled
  --systemd-cgroup        as --cgroup-manager systemd
  --rootless WHETHER      true, false or auto: accepted; davit sees it by itself
  --version, --help

commands:
  create    create a container and leave it waiting for start
  start     start the program of a created container
  run       create and start a container, and wait for its end
  exec      run a further process in a container
  kill      send a signal to a container
  update    change the limits of a container
  pause     freeze the processes of a container
  resume    let them go on
  delete    delete a container
  state     show the state of a container
  events    print what a container uses, and when it has too little memory
  ps        list the processes of a container
  list      list the containers
  spec      write a config.json to begin with
  explain   tell what create would do
  features  tell what is built in, as JSON

davit COMMAND --help tells more.
";

/// Reads the command line and does what it says.
pub(crate) fn run(parser: &mut Parser, globals: &mut Globals) -> Result<Outcome, Failure> {
    let usage = |error: anyhow::Error| failure("", error, 1);
    let name = match globals.read(parser).map_err(usage)? {
        Next::Command(name) => name,
        Next::Version => return print(&version()),
        Next::Help => return print(HELP),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(usage(anyhow::anyhow!("unknown command {name:?}")));
    };
    match (command.run)(parser, globals) {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is::<args::HelpWanted>() => print(command.help),
        Err(error) => Err(failure(command.name, error, command.failure)),
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
