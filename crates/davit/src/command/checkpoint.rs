//! `davit checkpoint`, and the options of CRIU that it shares with `restore`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use davit_runtime::command::{CgroupsMode, CheckpointRequest, CriuOptions, NetworkLock};
use davit_runtime::{Error, Id, StateRoot};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::escape::escaped;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "checkpoint",
    summary: "write the processes of a running container to files",
    usage: &["[OPTIONS] ID"],
    about: "\
        Writes the processes of a running container to files, by CRIU (criu(8)), and deletes the \
        container unless it is to run on. `davit restore` makes a container of the files.",
    arguments: &[Argument::Id],
    options: &OPTIONS,
};

/// The arguments of `checkpoint`.
#[derive(Default)]
struct Arguments {
    request: CheckpointRequest,
    image: Option<PathBuf>,
    status_fd: Option<u32>,
    check: bool,
}

/// The default of `--image-path`, as with runc.
pub(super) const IMAGE: &str = "checkpoint";

static OPTIONS: Table<Arguments> = &[&[
    (
        "--image-path",
        Setter::Directory(|all, path| all.image = Some(path)),
        "directory of the image (default: checkpoint)",
    ),
    (
        "--work-path",
        Setter::Directory(|all, path| all.request.work = Some(path)),
        "directory of CRIU's log, dump.log (default: that of the image)",
    ),
    (
        "--parent-path",
        Setter::Text("DIR", |all, path| {
            all.request.options.parent_path = Some(path);
            Ok(())
        }),
        "directory of an earlier image, relative to this one; only changed memory is written",
    ),
    (
        "--check",
        Setter::Switch(|all, on| all.check = on),
        "write nothing and stop nothing: list what stands in the way of a checkpoint",
    ),
    (
        "--leave-running",
        Setter::Switch(|all, on| all.request.options.leave_running = on),
        "the container runs on",
    ),
    (
        "--pre-dump",
        Setter::Switch(|all, on| all.request.options.pre_dump = on),
        "write the memory alone, as a parent of a later image; the container runs on",
    ),
    (
        "--tcp-established",
        Setter::Switch(|all, on| all.request.options.tcp_established = on),
        "allow open TCP connections",
    ),
    (
        "--tcp-skip-in-flight",
        Setter::Switch(|all, on| all.request.options.tcp_skip_in_flight = on),
        "leave out TCP connections that are not accepted yet",
    ),
    (
        "--ext-unix-sk",
        Setter::Switch(|all, on| all.request.options.ext_unix_sk = on),
        "allow connections to unix sockets outside of the container",
    ),
    (
        "--shell-job",
        Setter::Switch(|all, on| all.request.options.shell_job = on),
        "allow a terminal of the caller",
    ),
    (
        "--file-locks",
        Setter::Switch(|all, on| all.request.options.file_locks = on),
        "write file locks too",
    ),
    (
        "--link-remap",
        Setter::Switch(|all, on| all.request.options.link_remap = on),
        "allow open files that were removed, by links to them",
    ),
    (
        "--auto-dedup",
        Setter::Switch(|all, on| all.request.options.auto_dedup = on),
        "remove from earlier images what this one has",
    ),
    (
        "--lazy-pages",
        Setter::Switch(|all, on| all.request.options.lazy_pages = on),
        "keep the memory until `criu lazy-pages` has fetched it from the page server",
    ),
    (
        "--page-server",
        Setter::Text("ADDRESS:PORT", |all, text| {
            all.request.options.page_server = Some(page_server(&text)?);
            Ok(())
        }),
        "send the memory to a page server, or serve it there with --lazy-pages",
    ),
    (
        "--status-fd",
        Setter::Number(|all, number| all.status_fd = Some(number)),
        "descriptor that gets a zero byte once --lazy-pages can be served",
    ),
    (
        "--empty-ns",
        Setter::OneOf(&[("network", |all| all.request.options.empty_network = true)]),
        "leave out what is in the network namespace",
    ),
    (
        "--manage-cgroups-mode",
        Setter::Text(CGROUPS_MODES, |all, mode| {
            all.request.options.cgroups = Some(cgroups_mode(&mode)?);
            Ok(())
        }),
        "how CRIU treats cgroups (default: soft)",
    ),
    (
        "--network-lock",
        Setter::Text(NETWORK_LOCKS, |all, lock| {
            all.request.options.network_lock = Some(network_lock(&lock)?);
            Ok(())
        }),
        "how CRIU locks the network meanwhile (default: iptables)",
    ),
]];

/// The values of `--manage-cgroups-mode`.
pub(super) const CGROUPS_MODES: &str = "ignore|none|soft|full|strict";

/// The values of `--network-lock`.
pub(super) const NETWORK_LOCKS: &str = "iptables|nftables|skip";

pub(super) fn cgroups_mode(text: &str) -> Result<CgroupsMode> {
    Ok(match text {
        "ignore" => CgroupsMode::Ignore,
        "none" => CgroupsMode::None,
        "soft" => CgroupsMode::Soft,
        "full" => CgroupsMode::Full,
        "strict" => CgroupsMode::Strict,
        _ => {
            return Err(args::invalid_choice("--manage-cgroups-mode", text, &split(CGROUPS_MODES)));
        }
    })
}

pub(super) fn network_lock(text: &str) -> Result<NetworkLock> {
    Ok(match text {
        "iptables" => NetworkLock::Iptables,
        "nftables" => NetworkLock::Nftables,
        "skip" => NetworkLock::Skip,
        _ => return Err(args::invalid_choice("--network-lock", text, &split(NETWORK_LOCKS))),
    })
}

fn split(choices: &'static str) -> Vec<&'static str> {
    choices.split('|').collect()
}

/// `ADDRESS:PORT`
fn page_server(text: &str) -> Result<(String, u16)> {
    let wrong = || anyhow!("{text:?} is not ADDRESS:PORT");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = u16::try_from(args::strict_number(port)?).map_err(|_| wrong())?;
    if address.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok((address.to_owned(), port))
}

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::default();
    let id = args::id_and_options(parser, OPTIONS, &mut arguments)?;
    let Arguments { mut request, image, status_fd, check } = arguments;
    request.image = image.unwrap_or_else(|| PathBuf::from(IMAGE));
    request.criu.clone_from(&globals.criu);
    let CriuOptions { lazy_pages, page_server, .. } = &request.options;
    if *lazy_pages && page_server.is_none() {
        return Err(anyhow!("--lazy-pages: needs --page-server ADDRESS:PORT"));
    }
    if check {
        return report(&root(globals)?, &id, &request).with_context(|| ContainerContext(id));
    }
    request.status = status_fd.map(status).transpose()?;
    davit_runtime::command::checkpoint(&root(globals)?, &id, &mut request)
        .with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}

/// Lists what stands in the way of a checkpoint; the error is the first of it.
fn report(root: &StateRoot, id: &Id, request: &CheckpointRequest) -> Result<Outcome> {
    let obstacles = davit_runtime::command::check(root, id, request)?;
    let mut text = String::new();
    for (obstacle, hint) in &obstacles {
        text.push_str(&format!("{}\n", escaped(obstacle)));
        if let Some(hint) = hint {
            text.push_str(&format!("  hint: {}\n", escaped(hint)));
        }
    }
    output::print(&text)?;
    match obstacles.into_iter().next() {
        None => Ok(Outcome::Done),
        Some((obstacle, None)) => Err(Error::new(obstacle).into()),
        Some((obstacle, Some(hint))) => Err(Error::new(obstacle).hint(hint).into()),
    }
}

/// Opens the caller's descriptor anew: that of the caller stays as it is.
fn status(number: u32) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.map(OwnedFd::from)
        .map_err(|error| anyhow!("--status-fd: descriptor {number} cannot be written: {error}"))
}
