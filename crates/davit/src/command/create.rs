//! `davit create`, and the options that it shares with `run`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use davit_runtime::command::CreateRequest;
use davit_runtime::notify::Manager;
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{OptionSpec, Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

/// The options of `create` and of `run`.
pub(super) const COMMON_OPTIONS: &[OptionSpec<Arguments>] = &[
    (
        "-b, --bundle",
        Setter::Directory(|all, path| all.request.bundle = path),
        "path of the bundle (default: the current directory)",
    ),
    (
        "-f, --config",
        Setter::File(|all, path| all.request.config = Some(path)),
        "path of the configuration (default: config.json in the bundle)",
    ),
    (
        "--console-socket",
        Setter::Socket(|all, path| all.request.console_socket = Some(path)),
        "unix socket that receives the pty master of the terminal",
    ),
    (
        "--pidfd-socket",
        Setter::Socket(|all, path| all.request.pidfd_socket = Some(path)),
        "unix socket that receives a pidfd of the container's init",
    ),
    (
        "--pid-file",
        Setter::File(|all, path| all.request.pid_file = Some(path)),
        "file for the pid of the container's init",
    ),
    (
        "--preserve-fds",
        Setter::Number(|all, number| all.preserve_fds = number),
        "pass N descriptors, from 3 on (after those of LISTEN_FDS); closed ones are left out",
    ),
    (
        "--no-pivot",
        Setter::Switch(|all, on| all.request.options.no_pivot = on),
        "chroot instead of pivot_root (needed if the root is an initramfs)",
    ),
    (
        "--no-new-keyring",
        Setter::Switch(|all, on| all.request.options.process.no_new_keyring = on),
        "use the caller's session keyring instead of a new one",
    ),
    (
        "--no-subreaper",
        Setter::Switch(|_, _| {}),
        "accepted for compatibility; davit needs no subreaper",
    ),
    (
        "--ephemeral",
        Setter::Switch(|all, on| all.request.options.ephemeral = on),
        "discard changes to the root file system (writable tmpfs overlay)",
    ),
];

static OPTIONS: Table<Arguments> = &[COMMON_OPTIONS];

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "create",
    summary: "create a container and leave it waiting for start",
    usage: &["[OPTIONS] ID"],
    about: "Creates a container from a bundle and leaves it waiting for `davit start`.",
    arguments: &[Argument::NewId],
    options: &OPTIONS,
};

/// The arguments of `create` and `run`.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) request: CreateRequest,
    preserve_fds: u32,
    /// Only for `run`.
    pub(super) detach: bool,
    /// Only for `run`.
    pub(super) keep: bool,
    /// Only for `run`.
    pub(super) from: Option<PathBuf>,
    /// Only for `run`.
    pub(super) timings: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn new(globals: &Globals) -> Self {
        let mut arguments = Self::default();
        arguments.request.bundle = PathBuf::from(".");
        arguments.request.options.cgroup_manager = globals.cgroup_manager;
        arguments
    }

    /// The request, after all arguments were read.
    pub(super) fn finish(mut self, globals: &Globals) -> Result<CreateRequest> {
        globals.inherited.fill(&mut self.request.options.process, self.preserve_fds)?;
        self.request.notify = notify_socket()?;
        Ok(self.request)
    }
}

/// The service manager that waits for a readiness notification (sd_notify(3)).
pub(super) fn notify_socket() -> Result<Option<Manager>> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(value) => Ok(Manager::parse(&value)?),
        None => Ok(None),
    }
}

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::new(globals);
    let id = args::id_and_options(parser, OPTIONS, &mut arguments)?;
    arguments.request.detached = true;
    let request = arguments.finish(globals)?;
    davit_runtime::command::create(root(globals)?, &id, &request)
        .with_context(|| ContainerContext(id.clone()))?;
    Ok(Outcome::Done)
}
