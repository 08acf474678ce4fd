//! Options before the command.

use std::path::PathBuf;

use anyhow::{Result, bail};
use lexopt::Parser;
use runtime::plan::CgroupManager;

use crate::args::{self, Word};
use crate::page::Page;

/// How davit itself is called.
pub(crate) const PAGE: Page = Page {
    name: "",
    summary: "a low-level OCI container runtime",
    usage: &["[OPTIONS] COMMAND [ARGUMENTS]"],
    about: "\
        davit takes a bundle, makes the namespaces, the root file system, the cgroup and the \
        confinement of a container, and gets out of the way. `davit COMMAND --help` tells more.",
    options: &[&[
        (
            "--root DIR",
            "where the state of containers is kept (/run/davit, or $XDG_RUNTIME_DIR/davit for an \
             ordinary user)",
        ),
        ("--log FILE", "write failures to FILE as well"),
        ("--log-format text|json", "text is the default"),
        ("--log-level error|warning|info|debug", "error is the default"),
        ("--debug", "as --log-level debug"),
        ("--cgroup-manager cgroupfs|systemd|disabled", "cgroupfs is the default"),
        ("--systemd-cgroup", "as --cgroup-manager systemd"),
        ("--rootless true|false|auto", "accepted; davit sees it by itself"),
        ("-v, --version", "print the version, and what is built in"),
    ]],
};

/// How failures are written to `--log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `time="..." level=error msg="..."`
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What stands before the command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    /// `--root`
    pub(crate) root: Option<PathBuf>,
    /// `--log`
    pub(crate) log: Option<PathBuf>,
    /// `--log-format`
    pub(crate) log_format: LogFormat,
    /// `--log-level warning` or `--debug`: warnings are logged too.
    pub(crate) verbose: bool,
    /// `--cgroup-manager`
    pub(crate) cgroup_manager: CgroupManager,
}

/// What comes after the options.
pub(crate) enum Next {
    /// A command's name.
    Command(String),
    /// `--version`
    Version,
    /// `--help`, or nothing at all.
    Help,
}

impl Globals {
    /// Reads options up to the command. What was read stays where an error ends it: the log is
    /// used for that very error.
    pub(crate) fn read(&mut self, parser: &mut Parser) -> Result<Next> {
        while let Some(word) = args::next(parser, &PAGE)? {
            let option = match word {
                Word::Value(command) => {
                    return Ok(Next::Command(command.to_string_lossy().into_owned()));
                }
                Word::Option(option) => option,
            };
            match option.as_str() {
                "--root" => self.root = Some(args::path(parser, "--root")?),
                "--log" => self.log = Some(args::path(parser, "--log")?),
                "--log-format" => self.log_format = format(parser)?,
                "--log-level" => self.verbose = level(parser)?,
                "--debug" => self.verbose = args::switch(parser, "--debug")?,
                "--systemd-cgroup" => {
                    if args::switch(parser, "--systemd-cgroup")? {
                        self.cgroup_manager = CgroupManager::Systemd;
                    }
                }
                "--cgroup-manager" => self.cgroup_manager = manager(parser)?,
                "--rootless" => rootless(parser)?,
                "--version" | "-v" => return Ok(Next::Version),
                "--help" | "-h" => return Ok(Next::Help),
                other => return Err(args::other(other)),
            }
        }
        Ok(Next::Help)
    }
}

fn format(parser: &mut Parser) -> Result<LogFormat> {
    match args::text(parser, "--log-format")?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => bail!("--log-format: {other:?} is neither text nor json"),
    }
}

fn level(parser: &mut Parser) -> Result<bool> {
    match args::text(parser, "--log-level")?.as_str() {
        "error" => Ok(false),
        "warning" | "info" | "debug" => Ok(true),
        other => bail!("--log-level: {other:?} is none of error, warning, info, debug"),
    }
}

fn manager(parser: &mut Parser) -> Result<CgroupManager> {
    match args::text(parser, "--cgroup-manager")?.as_str() {
        "cgroupfs" => Ok(CgroupManager::Cgroupfs),
        "systemd" => Ok(CgroupManager::Systemd),
        "disabled" => Ok(CgroupManager::Disabled),
        other => bail!("--cgroup-manager: {other:?} is none of cgroupfs, systemd, disabled"),
    }
}

/// Whether we are privileged is seen, not told; the option is taken because engines give it.
fn rootless(parser: &mut Parser) -> Result<()> {
    match args::text(parser, "--rootless")?.as_str() {
        "true" | "false" | "auto" => Ok(()),
        other => bail!("--rootless: {other:?} is none of true, false, auto"),
    }
}
