//! `davit run`: create, start, and wait for the end.

use anyhow::{Context, Result};
use lexopt::Parser;
use runtime::command::{self, Created};

use super::create::{self, Arguments, shield};
use super::{About, root};
use crate::args::{self, Word};
use crate::foreground::{self, Foreground};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "run",
    summary: "create and start a container, and wait for its end",
    usage: &["[OPTIONS] ID"],
    about: "\
        Creates a container from a bundle, starts it, waits for its end, deletes it, and exits \
        with its exit code (128 + N when signal N ended it). Signals are passed on to it.",
    options: &[
        create::OPTIONS,
        &[
            ("-d, --detach", "return when the program runs; it stays until `davit delete`"),
            ("--keep", "do not delete the container after its end"),
        ],
    ],
};

/// How a container ends that SIGKILL has ended.
const KILLED: i32 = 128 + 9;

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::new(globals);
    let (mut detach, mut keep) = (false, false);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => arguments.id.take(value)?,
            Word::Option(option) => match option.as_str() {
                "--detach" | "-d" => detach = args::switch(parser, &option)?,
                "--keep" => keep = args::switch(parser, &option)?,
                _ if arguments.take(&option, parser)? => {}
                _ => return Err(args::other(&option)),
            },
        }
    }
    arguments.request.options.start_at_once = true;
    arguments.request.nobody_waits = detach;
    arguments.request.options.process.terminal_size = Some(foreground::terminal_size);
    arguments.request.options.process.plain_newlines = arguments.request.console_socket.is_none();
    let (id, request) = arguments.finish()?;
    shield()?;
    let has_socket = request.console_socket.is_some();
    // Before there is anything to pass signals on to, so that none is lost.
    let mut foreground = if detach { None } else { Some(Foreground::prepare()?) };
    let work = || -> Result<Outcome> {
        let created = command::create(root(globals)?, &id, &request)?;
        output::warn(globals, &created.warnings);
        let created = command::start_at_once(created, &request)?;
        match foreground.as_mut() {
            None => Ok(Outcome::Done),
            Some(foreground) => wait(foreground, created, has_socket, keep, globals),
        }
    };
    let mut work = work;
    work().with_context(|| About(id.clone()))
}

fn wait(
    foreground: &mut Foreground,
    mut created: Created,
    has_socket: bool,
    keep: bool,
    globals: &Globals,
) -> Result<Outcome> {
    let master = if has_socket { None } else { created.init.master.take() };
    let code = foreground.wait(&created.init, master, created.proxy.take()).map_err(|error| {
        // Nobody would look after it any more.
        match command::delete(&created.root, created.entry.id(), true) {
            Ok(_) => error,
            Err(left) => error.context(format!("left behind ({left})")),
        }
    })?;
    if code == KILLED
        && let Some(reason) = command::want_of_memory(&created.record)
    {
        output::explain_end(globals, &reason);
    }
    if !keep {
        let warnings = command::delete_ended(&created)?;
        output::warn(globals, &warnings);
    }
    // The end of this process, which is next, closes what it has open.
    std::mem::forget(created);
    Ok(foreground::outcome(code))
}
