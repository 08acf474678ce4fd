//! Options before the command.

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

use davit_runtime::log::Format;
use davit_runtime::plan::CgroupManager;

use crate::cli::option::{InfoRequest, Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::inherited::Inherited;

/// The command line of davit itself.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "",
    summary: "a low-level OCI container runtime",
    usage: &["[OPTIONS] COMMAND [ARGUMENTS]"],
    about: "\
        davit takes a bundle and creates the namespaces, the root file system, the cgroup and the \
        confinement of a container, starts its program, and exits. `davit help COMMAND` describes \
        a command.",
    arguments: &[Argument::Command, Argument::Rest],
    options: &OPTIONS,
};

/// The options before the command.
pub(crate) static OPTIONS: Table<Globals> = &[&[
    (
        "--root",
        Setter::Directory(|globals, path| globals.root = Some(path)),
        "directory for the state of containers (default: /run/davit, or $XDG_RUNTIME_DIR/davit for \
         an unprivileged user)",
    ),
    (
        "--log",
        Setter::File(|globals, path| globals.log = Some(path)),
        "write errors to FILE as well, and warnings to FILE instead of standard error; the command \
         fails if FILE cannot be opened",
    ),
    (
        "--log-format",
        Setter::OneOf(&[
            ("text", |globals| globals.log_format = Format::Text),
            ("json", |globals| globals.log_format = Format::Json),
        ]),
        "format of the log (default: text)",
    ),
    (
        "--log-level",
        Setter::OneOf(&[
            ("error", |globals| globals.level = Level::Error),
            ("warning", |globals| globals.level = Level::Warning),
            ("info", |globals| globals.level = Level::Info),
            ("debug", |globals| globals.level = Level::Debug),
        ]),
        "default: warning; debug logs every operation with its outcome and microseconds",
    ),
    (
        "--debug",
        Setter::Switch(|globals, on| {
            if on {
                globals.level = Level::Debug;
            }
        }),
        "the same as --log-level debug",
    ),
    (
        "--cgroup-manager",
        Setter::OneOf(&[
            ("cgroupfs", |globals| globals.cgroup_manager = CgroupManager::Cgroupfs),
            ("systemd", |globals| globals.cgroup_manager = CgroupManager::Systemd),
            ("disabled", |globals| globals.cgroup_manager = CgroupManager::Disabled),
        ]),
        "cgroup driver (default: cgroupfs)",
    ),
    (
        "--systemd-cgroup",
        Setter::Switch(|globals, on| {
            if on {
                globals.cgroup_manager = CgroupManager::Systemd;
            }
        }),
        "the same as --cgroup-manager systemd",
    ),
    (
        "--criu",
        Setter::File(|globals, path| globals.criu = Some(path)),
        "path of the program criu, for checkpoint and restore (default: criu in PATH)",
    ),
    (
        "--rootless",
        // davit detects whether it is privileged; engines pass the option.
        Setter::OneOf(&[("true", |_| {}), ("false", |_| {}), ("auto", |_| {})]),
        "accepted for compatibility; davit detects it",
    ),
    (
        "-v, --version",
        Setter::PrintInfo(InfoRequest::Version),
        "print the version and the built-in features",
    ),
]];

/// The least severe messages that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Errors.
    Error,
    /// Warnings.
    #[default]
    Warning,
    /// The same as warnings today.
    Info,
    /// Every operation.
    Debug,
}

/// The options before the command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    /// The descriptors that were open when davit started.
    pub(crate) inherited: Inherited,
    /// `--root`
    pub(crate) root: Option<PathBuf>,
    /// `--log`
    pub(crate) log: Option<PathBuf>,
    /// The open log file.
    pub(crate) log_file: Option<Rc<File>>,
    /// `--log-format`
    pub(crate) log_format: Format,
    /// `--log-level`, or `--debug`
    pub(crate) level: Level,
    /// `--cgroup-manager`
    pub(crate) cgroup_manager: CgroupManager,
    /// `--criu`
    pub(crate) criu: Option<PathBuf>,
}
