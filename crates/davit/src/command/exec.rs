//! `davit exec`

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;
use runtime::command::{self, ExecRequest, Executed};

use super::create::{listen_fds, shield};
use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::foreground::{self, Foreground};
use crate::globals::Globals;
use crate::output::Outcome;
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "exec",
    summary: "run a further process in a container",
    usage: &["[OPTIONS] ID COMMAND [ARGUMENTS]", "[OPTIONS] --process FILE ID"],
    about: "\
        Runs a further process in a container, confined as the container's own is, and exits with \
        its exit code (128 + N when signal N ended it; 255 when it could not be executed).",
    options: &[&[
        ("-p, --process FILE", "the process as JSON, as in config.json"),
        ("-t, --tty", "with a terminal"),
        ("--console-socket SOCKET", "unix socket that receives the terminal's master"),
        ("--cwd DIR", "working directory"),
        ("-e, --env NAME=VALUE", "further variable (may be repeated)"),
        ("-u, --user UID[:GID]", "user and group, as numbers"),
        ("-g, --additional-gids N", "further group (may be repeated)"),
        ("-c, --cap NAME", "further capability (may be repeated)"),
        ("--no-new-privs", "no exec grants anything any more"),
        ("--cgroup [CTRL:]PATH", "sub-cgroup of the container's to run in (may be repeated)"),
        ("--pidfd-socket SOCKET", "unix socket that receives a pidfd of the process"),
        ("--pid-file FILE", "write the pid"),
        ("-d, --detach", "return when the program runs"),
        ("--preserve-fds N", "pass N descriptors from 3 up (after those of LISTEN_FDS)"),
        ("--no-new-keyring", "keep the caller's session keyring"),
        ("--ignore-paused", "also in a paused container, where it waits for resume"),
        ("--process-label LABEL", "SELinux context"),
        ("--apparmor PROFILE", "AppArmor profile"),
    ]],
};

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let mut request = ExecRequest::default();
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) if !id.is_given() => id.take(value)?,
            Word::Value(command) => {
                // Whatever follows is the command's own.
                let rest = std::iter::once(command).chain(parser.raw_args()?);
                request.changes.args = strings(rest)?;
                break;
            }
            Word::Option(option) => take(&mut request, &option, parser)?,
        }
    }
    let id = id.get()?;
    check(&request)?;
    request.options.listen_fds = listen_fds()?;
    request.options.terminal_size = Some(foreground::terminal_size);
    request.options.plain_newlines = request.console_socket.is_none();
    shield()?;
    let foreground = if request.detach { None } else { Some(Foreground::prepare()?) };
    let work = || -> Result<Outcome> {
        let executed = command::exec(&root(globals)?, &id, &request)?;
        match foreground {
            None => Ok(Outcome::Done),
            Some(foreground) => wait(foreground, executed, request.console_socket.is_some()),
        }
    };
    work().with_context(|| About(id.clone()))
}

fn wait(mut foreground: Foreground, mut executed: Executed, has_socket: bool) -> Result<Outcome> {
    let master = if has_socket { None } else { executed.started.master.take() };
    let code = foreground.wait(&executed.started, master, None)?;
    // The end of this process, which is next, closes what it has open.
    std::mem::forget((foreground, executed));
    Ok(foreground::outcome(code))
}

fn check(request: &ExecRequest) -> Result<()> {
    match (&request.process, request.changes.args.is_empty()) {
        (None, true) => bail!("a command or --process is required"),
        (Some(_), false) => bail!("both a command and --process are given"),
        _ => Ok(()),
    }
}

fn strings(words: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    words.map(|word| word.into_string().map_err(|word| anyhow!("{word:?} is not UTF-8"))).collect()
}

/// An empty label is none: the container's own stays.
fn label(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn take(request: &mut ExecRequest, option: &str, parser: &mut Parser) -> Result<()> {
    let changes = &mut request.changes;
    match option {
        "--process" | "-p" => request.process = Some(args::path(parser, option)?),
        "--tty" | "-t" => changes.terminal = args::switch(parser, option)?,
        "--console-socket" => request.console_socket = Some(args::path(parser, option)?),
        "--cwd" => changes.cwd = Some(PathBuf::from(args::text(parser, option)?)),
        "--env" | "-e" => changes.env.push(args::text(parser, option)?),
        "--user" | "-u" => changes.user = Some(args::user(&args::text(parser, option)?)?),
        "--additional-gids" | "-g" => {
            let text = args::text(parser, option)?;
            changes.additional_gids.push(args::id(&text).with_context(|| option.to_owned())?);
        }
        "--cap" | "-c" => changes.capabilities.push(args::text(parser, option)?),
        "--no-new-privs" => changes.no_new_privileges = args::switch(parser, option)?,
        "--cgroup" => request.cgroups.push(args::text(parser, option)?),
        "--pidfd-socket" => request.pidfd_socket = Some(args::path(parser, option)?),
        "--pid-file" => request.pid_file = Some(args::path(parser, option)?),
        "--detach" | "-d" => request.detach = args::switch(parser, option)?,
        "--preserve-fds" => request.options.preserve_fds = args::number(parser, option)?,
        "--no-new-keyring" => request.options.no_new_keyring = args::switch(parser, option)?,
        "--ignore-paused" => request.ignore_paused = args::switch(parser, option)?,
        "--process-label" => changes.selinux_label = label(args::text(parser, option)?),
        "--apparmor" => changes.apparmor_profile = label(args::text(parser, option)?),
        other => return Err(args::other(other)),
    }
    Ok(())
}
