//! `davit create`, and the options that it shares with `run`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;
use runtime::Id;
use runtime::command::CreateRequest;
use runtime::notify::Manager;
use runtime::plan::ListenFds;

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::{Page, Row};

/// The options of `create` and of `run`.
pub(super) const OPTIONS: &[Row] = &[
    ("-b, --bundle DIR", "the bundle (default: the working directory)"),
    ("-f, --config FILE", "its config.json, where it has another name"),
    ("--console-socket SOCKET", "unix socket that receives the terminal's master"),
    ("--pidfd-socket SOCKET", "unix socket that receives a pidfd of the container's init"),
    ("--pid-file FILE", "write the pid of the container's init"),
    ("--preserve-fds N", "pass N descriptors from 3 up (after those of LISTEN_FDS)"),
    ("--no-pivot", "chroot instead of pivot_root (for a root on initramfs)"),
    ("--no-new-keyring", "keep the caller's session keyring"),
    ("--no-subreaper", "accepted: davit needs no subreaper"),
    ("--ephemeral", "a tmpfs takes the writes: the root file system stays as it is"),
];

pub(super) const PAGE: Page = Page {
    name: "create",
    summary: "create a container and leave it waiting for start",
    usage: &["[OPTIONS] ID"],
    about: "Creates a container from a bundle and leaves it waiting for `davit start`.",
    options: &[OPTIONS],
};

/// What `create` and `run` are told.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) id: IdArgument,
    pub(super) request: CreateRequest,
}

impl Arguments {
    pub(super) fn new(globals: &Globals) -> Self {
        let mut arguments = Self::default();
        arguments.request.bundle = PathBuf::from(".");
        arguments.request.options.cgroup_manager = globals.cgroup_manager;
        arguments
    }

    /// Takes an option; tells whether it is one of these.
    pub(super) fn take(&mut self, option: &str, parser: &mut Parser) -> Result<bool> {
        let CreateRequest {
            bundle, config, console_socket, pidfd_socket, pid_file, options, ..
        } = &mut self.request;
        match option {
            "--bundle" | "-b" => *bundle = args::path(parser, option)?,
            "--config" | "-f" => *config = Some(args::path(parser, option)?),
            "--console-socket" => *console_socket = Some(args::path(parser, option)?),
            "--pidfd-socket" => *pidfd_socket = Some(args::path(parser, option)?),
            "--pid-file" => *pid_file = Some(args::path(parser, option)?),
            "--preserve-fds" => options.process.preserve_fds = args::number(parser, option)?,
            "--no-pivot" => options.no_pivot = args::switch(parser, option)?,
            "--no-new-keyring" => options.process.no_new_keyring = args::switch(parser, option)?,
            "--no-subreaper" => drop(args::switch(parser, option)?),
            "--ephemeral" => options.ephemeral = args::switch(parser, option)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The id and the request, once all is read.
    pub(super) fn finish(mut self) -> Result<(Id, CreateRequest)> {
        self.request.options.process.listen_fds = listen_fds()?;
        self.request.notify = notify_socket()?;
        if self.request.options.process.preserved() > 1 << 16 {
            bail!("--preserve-fds: that many descriptors cannot be open");
        }
        Ok((self.id.get()?, self.request))
    }
}

/// Descriptors of socket activation that are meant for this process (sd_listen_fds(3)).
pub(super) fn listen_fds() -> Result<Option<ListenFds>> {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(count), Some(pid)) = (variable("LISTEN_FDS"), variable("LISTEN_PID")) else {
        return Ok(None);
    };
    if pid != std::process::id().to_string() {
        return Ok(None);
    }
    let count = args::strict_number(&count).context("LISTEN_FDS")?;
    Ok((count > 0).then(|| ListenFds { count, names: variable("LISTEN_FDNAMES") }))
}

/// The service manager that waits for this process to be ready (sd_notify(3)).
pub(super) fn notify_socket() -> Result<Option<Manager>> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(value) => Ok(Manager::parse(&value)?),
        None => Ok(None),
    }
}

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::new(globals);
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => arguments.id.take(value)?,
            Word::Option(option) if arguments.take(&option, parser)? => {}
            Word::Option(option) => return Err(args::other(&option)),
        }
    }
    arguments.request.nobody_waits = true;
    let (id, request) = arguments.finish()?;
    shield()?;
    let created = runtime::command::create(root(globals)?, &id, &request)
        .with_context(|| About(id.clone()))?;
    output::warn(globals, &created.warnings);
    Ok(Outcome::Done)
}

/// No descriptor of the caller's reaches anyone but the container, and that only those which are
/// passed on: init clears the mark on them at the last moment.
pub(super) fn shield() -> Result<()> {
    sys::process::close_on_exec_from(3).map_err(|error| anyhow!("{error}"))
}
