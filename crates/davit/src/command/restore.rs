//! `davit restore`

use std::path::PathBuf;

use anyhow::{Context, Result};
use davit_runtime::Id;
use davit_runtime::command::{self, CreateRequest, RestoreRequest};
use lexopt::Parser;

use super::checkpoint::{CGROUPS_MODES, IMAGE, NETWORK_LOCKS, cgroups_mode, network_lock};
use super::run::{Waited, wait};
use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::foreground::Foreground;
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "restore",
    summary: "make a container of the files that checkpoint has written",
    usage: &["[OPTIONS] ID"],
    about: "\
        Makes a container of a bundle and of the image that `davit checkpoint` has written, by \
        CRIU (criu(8)). The id, the bundle and the sources of mounts may be others than those of \
        the checkpoint. Waits until the container ends, as `davit run` does, unless --detach is \
        given.",
    arguments: &[Argument::NewId],
    options: &OPTIONS,
};

/// The arguments of `restore`.
#[derive(Default)]
struct Arguments {
    request: RestoreRequest,
    image: Option<PathBuf>,
    detach: bool,
    keep: bool,
}

static OPTIONS: Table<Arguments> = &[
    &[
        (
            "-b, --bundle",
            Setter::Directory(|all, path| all.request.create.bundle = path),
            "path of the bundle (default: the current directory)",
        ),
        (
            "-f, --config",
            Setter::File(|all, path| all.request.create.config = Some(path)),
            "path of the configuration (default: config.json in the bundle)",
        ),
        (
            "--image-path",
            Setter::Directory(|all, path| all.image = Some(path)),
            "directory of the image (default: checkpoint)",
        ),
        (
            "--work-path",
            Setter::Directory(|all, path| all.request.work = Some(path)),
            "directory of CRIU's log, restore.log (default: that of the image)",
        ),
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
            "--pid-file",
            Setter::File(|all, path| all.request.create.pid_file = Some(path)),
            "file for the pid of the container's init",
        ),
        (
            "--console-socket",
            Setter::Socket(|all, path| all.request.create.console_socket = Some(path)),
            "unix socket that receives the pty master of the terminal",
        ),
        (
            "--no-pivot",
            Setter::Switch(|_, _| {}),
            "accepted for compatibility; CRIU makes the root",
        ),
        (
            "--no-new-keyring",
            Setter::Switch(|all, on| all.request.create.options.process.no_new_keyring = on),
            "use the caller's session keyring instead of a new one",
        ),
        (
            "--no-subreaper",
            Setter::Switch(|_, _| {}),
            "accepted for compatibility; davit needs no subreaper",
        ),
    ],
    CRIU_OPTIONS,
];

const CRIU_OPTIONS: &[crate::cli::option::OptionSpec<Arguments>] = &[
    (
        "--tcp-established",
        Setter::Switch(|all, on| all.request.options.tcp_established = on),
        "restore open TCP connections",
    ),
    (
        "--tcp-close",
        Setter::Switch(|all, on| all.request.options.tcp_close = on),
        "restore TCP connections as closed ones",
    ),
    (
        "--ext-unix-sk",
        Setter::Switch(|all, on| all.request.options.ext_unix_sk = on),
        "connect to unix sockets outside of the container again",
    ),
    (
        "--shell-job",
        Setter::Switch(|all, on| all.request.options.shell_job = on),
        "allow a terminal of the caller",
    ),
    (
        "--file-locks",
        Setter::Switch(|all, on| all.request.options.file_locks = on),
        "restore file locks",
    ),
    (
        "--auto-dedup",
        Setter::Switch(|all, on| all.request.options.auto_dedup = on),
        "remove from the image what is restored",
    ),
    (
        "--lazy-pages",
        Setter::Switch(|all, on| all.request.options.lazy_pages = on),
        "fetch memory when it is used, by `criu lazy-pages`",
    ),
    (
        "--empty-ns",
        Setter::OneOf(&[("network", |all| all.request.options.empty_network = true)]),
        "restore nothing of the network namespace",
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
    (
        "--lsm-profile",
        Setter::Text("TYPE:LABEL", |all, label| {
            all.request.options.lsm_profile = Some(label);
            Ok(())
        }),
        "label of the restored processes: apparmor:NAME or selinux:LABEL",
    ),
    (
        "--lsm-mount-context",
        Setter::Text("LABEL", |all, label| {
            all.request.options.lsm_mount_context = Some(label);
            Ok(())
        }),
        "SELinux label of the restored mounts",
    ),
];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut arguments = Arguments::default();
    arguments.request.create.bundle = PathBuf::from(".");
    let id = args::id_and_options(parser, OPTIONS, &mut arguments)?;
    let Arguments { mut request, image, detach, keep } = arguments;
    request.image = image.unwrap_or_else(|| PathBuf::from(IMAGE));
    request.criu.clone_from(&globals.criu);
    request.create.options.cgroup_manager = globals.cgroup_manager;
    request.create.options.start_at_once = true;
    request.create.detached = detach;
    perform(&id, &request, keep, globals)
}

/// `run --from`
pub(super) fn run_from(
    id: &Id,
    image: PathBuf,
    create: CreateRequest,
    keep: bool,
    globals: &Globals,
) -> Result<Outcome> {
    let criu = globals.criu.clone();
    let request =
        RestoreRequest { create, image, criu, shares_image: true, ..RestoreRequest::default() };
    perform(id, &request, keep, globals)
}

fn perform(id: &Id, request: &RestoreRequest, keep: bool, globals: &Globals) -> Result<Outcome> {
    let has_socket = request.create.console_socket.is_some();
    // Before the container exists, so that no signal is lost.
    let mut foreground = if request.create.detached { None } else { Some(Foreground::prepare()?) };
    let mut work = || -> Result<Outcome> {
        let mut restored = command::restore(root(globals)?, id, request)?;
        output::print_warnings(globals);
        let Some(foreground) = foreground.as_mut() else { return Ok(Outcome::Done) };
        let master = if has_socket { None } else { restored.master.take() };
        let waited = Waited {
            pid: restored.pid,
            pidfd: &restored.pidfd,
            root: &restored.root,
            dir: &restored.dir,
            record: &restored.record,
        };
        wait(foreground, &waited, master, None, keep, globals)
    };
    work().with_context(|| ContainerContext(id.clone()))
}
