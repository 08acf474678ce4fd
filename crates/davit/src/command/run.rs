//! `davit run`: creates, starts, and waits.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use davit_runtime::StateRoot;
use davit_runtime::command::{self, ContainerDir, Created, Record};
use davit_runtime::notify::Proxy;
use davit_runtime::timings::Timings;
use lexopt::Parser;
use nix::unistd::Pid;

use super::create::{self, Arguments};
use super::{ContainerContext, restore, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::foreground::{self, Foreground};
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "run",
    summary: "create and start a container, and wait until it ends",
    usage: &["[OPTIONS] ID"],
    about: "\
        Creates a container from a bundle, starts it, waits until it ends, deletes it, and exits \
        with its exit code (128 + N if signal N ended it). Signals are forwarded to it.",
    arguments: &[Argument::NewId],
    options: &OPTIONS,
};

static OPTIONS: Table<Arguments> = &[
    create::COMMON_OPTIONS,
    &[
        (
            "-d, --detach",
            Setter::Switch(|all, on| all.detach = on),
            "return once the program runs; delete the container later with `davit delete`",
        ),
        (
            "--keep",
            Setter::Switch(|all, on| all.keep = on),
            "do not delete the container when it has ended",
        ),
        (
            "--from",
            Setter::Directory(|all, path| all.from = Some(path)),
            "go on from the image that `davit checkpoint` has written to DIR, instead of starting \
             the program; any number of containers may do so at once",
        ),
        (
            "--timings",
            Setter::File(|all, path| all.timings = Some(path)),
            "write the operations until the program runs to FILE, as Chrome trace events (for \
             chrome://tracing or ui.perfetto.dev), and a summary to standard error",
        ),
    ],
];

/// The exit code of a process that was ended by SIGKILL.
const KILLED: i32 = 128 + 9;

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::new(globals);
    let id = args::id_and_options(parser, OPTIONS, &mut arguments)?;
    let (detach, keep, timings) = (arguments.detach, arguments.keep, arguments.timings.take());
    arguments.request.options.start_at_once = true;
    arguments.request.detached = detach;
    arguments.request.options.process.terminal_size = Some(foreground::terminal_size);
    arguments.request.options.process.plain_newlines = arguments.request.console_socket.is_none();
    let from = arguments.from.take();
    let request = arguments.finish(globals)?;
    if let Some(image) = from {
        return restore::run_from(&id, image, request, keep, globals);
    }
    let has_socket = request.console_socket.is_some();
    // Before the container exists, so that no signal is lost.
    let mut foreground = if detach { None } else { Some(Foreground::prepare()?) };
    let timings = timings.map(|path| Timings::begin(&path)).transpose()?;
    let work = || -> Result<Outcome> {
        let begin = || -> Result<Created> {
            let created = command::create(root(globals)?, &id, &request)?;
            Ok(command::start_at_once(created, &request)?)
        };
        let begun = begin();
        if let Some(timings) = timings {
            match timings.finish() {
                Ok(summary) => output::print_error(&summary),
                // The container runs all the same.
                Err(error) => davit_runtime::log::warn(error.to_string()),
            }
        }
        let created = begun?;
        output::print_warnings(globals);
        match foreground.as_mut() {
            None => Ok(Outcome::Done),
            Some(foreground) => {
                let mut created = created;
                let master = if has_socket { None } else { created.init.master.take() };
                let ready = created.proxy.take();
                wait(foreground, &Waited::of(&created), master, ready, keep, globals)
            }
        }
    };
    work().with_context(|| ContainerContext(id.clone()))
}

/// A container that a command waits for.
pub(super) struct Waited<'a> {
    pub(super) pid: Pid,
    pub(super) pidfd: &'a OwnedFd,
    pub(super) root: &'a StateRoot,
    pub(super) dir: &'a ContainerDir,
    pub(super) record: &'a Record,
}

impl<'a> Waited<'a> {
    fn of(created: &'a Created) -> Self {
        let Created { init, dir, record, root, .. } = created;
        Self { pid: init.pid, pidfd: &init.pidfd, root, dir, record }
    }
}

/// Waits until the container ends; `master` is the pty master of its terminal, if davit copies it,
/// and `ready` forwards its readiness notification.
pub(super) fn wait(
    foreground: &mut Foreground,
    container: &Waited<'_>,
    master: Option<OwnedFd>,
    ready: Option<Proxy>,
    keep: bool,
    globals: &Globals,
) -> Result<Outcome> {
    let Waited { pid, pidfd, root, dir, record } = container;
    let end = foreground.wait(*pid, pidfd, master, ready).map_err(|error| {
        // davit cannot wait for the container any more.
        match command::delete(root, dir.id(), true) {
            Ok(()) => error,
            Err(left) => error.context(format!("could not clean up ({left})")),
        }
    })?;
    let memory = || command::oom_hint(record).map(|reason| (reason, None));
    let reason = if end.code == KILLED { memory() } else { None };
    if let Some((reason, hint)) = reason.or_else(|| end.reason()) {
        output::report_end(globals, &reason, hint);
    }
    if !keep {
        command::delete_ended(root, dir, record)?;
    }
    // Those of poststop hooks.
    output::print_warnings(globals);
    // Descriptors are not closed one by one: the kernel does it.
    std::process::exit(end.code)
}
