//! `davit exec`

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use davit_runtime::command::{self, ExecRequest, Executed};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args::{self, IdArgument};
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::foreground::{self, Foreground};
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "exec",
    summary: "run a process in a running container",
    usage: &["[OPTIONS] ID COMMAND [ARGUMENTS]", "[OPTIONS] --process FILE ID"],
    about: "\
        Runs a process in a running container, confined like the container's first process, and \
        exits with its exit code (128 + N if signal N ended it; 255 if it could not be executed).",
    arguments: &[Argument::Id, Argument::Rest],
    options: &OPTIONS,
};

/// The arguments of `exec`.
#[derive(Default)]
struct Arguments {
    request: ExecRequest,
    preserve_fds: u32,
}

static OPTIONS: Table<Arguments> = &[&[
    (
        "-p, --process",
        Setter::File(|all, path| all.request.process = Some(path)),
        "file with the process as JSON, in the form of config.json",
    ),
    (
        "-t, --tty",
        Setter::Switch(|all, on| all.request.changes.terminal = on),
        "allocate a terminal",
    ),
    (
        "--console-socket",
        Setter::Socket(|all, path| all.request.console_socket = Some(path)),
        "unix socket that receives the pty master of the terminal",
    ),
    (
        "--cwd",
        // A directory of the container, which a shell cannot complete.
        Setter::Text("DIR", |all, text| {
            all.request.changes.cwd = Some(PathBuf::from(text));
            Ok(())
        }),
        "working directory",
    ),
    (
        "-e, --env",
        Setter::Text("NAME=VALUE", |all, text| {
            all.request.changes.env.push(text);
            Ok(())
        }),
        "add an environment variable (repeatable)",
    ),
    (
        "-u, --user",
        Setter::Text("UID[:GID]", |all, text| {
            all.request.changes.user = Some(args::user(&text)?);
            Ok(())
        }),
        "user and group ids",
    ),
    (
        "-g, --additional-gids",
        Setter::Text("N", |all, text| {
            all.request.changes.additional_gids.push(args::id(&text)?);
            Ok(())
        }),
        "add a supplementary group (repeatable)",
    ),
    (
        "-c, --cap",
        Setter::Text("NAME", |all, text| {
            all.request.changes.capabilities.push(text);
            Ok(())
        }),
        "add a capability (repeatable)",
    ),
    (
        "--no-new-privs",
        Setter::Switch(|all, on| all.request.changes.no_new_privileges = on),
        "set no_new_privs",
    ),
    (
        "--cgroup",
        Setter::Text("[CTRL:]PATH", |all, text| {
            all.request.cgroups.push(text);
            Ok(())
        }),
        "cgroup below the container's to run in (repeatable)",
    ),
    (
        "--pidfd-socket",
        Setter::Socket(|all, path| all.request.pidfd_socket = Some(path)),
        "unix socket that receives a pidfd of the process",
    ),
    (
        "--pid-file",
        Setter::File(|all, path| all.request.pid_file = Some(path)),
        "file for the pid of the process",
    ),
    (
        "-d, --detach",
        Setter::Switch(|all, on| all.request.detach = on),
        "return once the program runs",
    ),
    (
        "--preserve-fds",
        Setter::Number(|all, number| all.preserve_fds = number),
        "pass N descriptors, from 3 on (after those of LISTEN_FDS); closed ones are left out",
    ),
    (
        "--no-new-keyring",
        Setter::Switch(|all, on| all.request.options.no_new_keyring = on),
        "use the caller's session keyring instead of a new one",
    ),
    (
        "--ignore-paused",
        Setter::Switch(|all, on| all.request.ignore_paused = on),
        "allow exec in a paused container (the process runs after resume)",
    ),
    (
        "--process-label",
        Setter::Text("LABEL", |all, text| {
            all.request.changes.selinux_label = label(text);
            Ok(())
        }),
        "SELinux context of the process",
    ),
    (
        "--apparmor",
        Setter::Text("PROFILE", |all, text| {
            all.request.changes.apparmor_profile = label(text);
            Ok(())
        }),
        "AppArmor profile of the process",
    ),
]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let mut all = Arguments::default();
    while let Some(value) = args::next(parser, OPTIONS, &mut all)? {
        if !id.is_given() {
            id.take(value)?;
            continue;
        }
        // All following arguments belong to the command.
        let rest = std::iter::once(value).chain(parser.raw_args()?);
        all.request.changes.args = strings(rest)?;
    }
    let Arguments { mut request, preserve_fds } = all;
    let id = id.get()?;
    check(&request)?;
    globals.inherited.fill(&mut request.options, preserve_fds)?;
    request.options.terminal_size = Some(foreground::terminal_size);
    request.options.plain_newlines = request.console_socket.is_none();
    let foreground = if request.detach { None } else { Some(Foreground::prepare()?) };
    let work = || -> Result<Outcome> {
        let executed = command::exec(&root(globals)?, &id, &request)?;
        match foreground {
            None => Ok(Outcome::Done),
            Some(foreground) => {
                wait(foreground, executed, request.console_socket.is_some(), globals)
            }
        }
    };
    work().with_context(|| ContainerContext(id.clone()))
}

fn wait(
    mut foreground: Foreground,
    mut executed: Executed,
    has_socket: bool,
    globals: &Globals,
) -> Result<Outcome> {
    output::print_warnings(globals);
    let master = if has_socket { None } else { executed.started.master.take() };
    let end = foreground.wait(executed.started.pid, &executed.started.pidfd, master, None)?;
    if let Some((reason, hint)) = end.reason() {
        output::report_end(globals, &reason, hint);
    }
    Ok(end.outcome())
}

fn check(request: &ExecRequest) -> Result<()> {
    match (&request.process, request.changes.args.is_empty()) {
        (None, true) => Err(args::required("a command or --process")),
        (Some(_), false) => bail!("both a command and --process are given"),
        _ => Ok(()),
    }
}

fn strings(words: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    words.map(|word| word.into_string().map_err(|word| anyhow!("{word:?} is not UTF-8"))).collect()
}

/// An empty label keeps that of the container.
fn label(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
