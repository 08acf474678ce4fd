//! `davit ps`

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;

use super::{ContainerContext, root};
use crate::args::{self, IdArgument};
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::{self, Outcome};

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "ps",
    summary: "list the processes of a container",
    usage: &["[OPTIONS] ID [PS OPTIONS]"],
    about: "\
        Lists the processes of a container, with the output of the host's ps(1). PS OPTIONS \
        (default: -ef) must include the column PID.",
    arguments: &[Argument::Id, Argument::Rest],
    options: &OPTIONS,
};

static OPTIONS: Table<bool> = &[&[(
    "-f, --format",
    Setter::OneOf(&[("table", |json| *json = false), ("json", |json| *json = true)]),
    "output format (default: table); json has only the pids",
)]];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let (mut json, mut options) = (false, Vec::new());
    if let Some(value) = args::next(parser, OPTIONS, &mut json)? {
        id.take(value)?;
        // All following arguments are options of ps.
        options = parser.raw_args()?.collect();
    }
    let id = id.get()?;
    let work = || -> Result<String> {
        let pids = davit_runtime::command::processes(&root(globals)?, &id)?;
        match json {
            true => Ok(format!("{}\n", serde_json::to_string(&pids)?)),
            false => rows_of(&table(options)?, &pids),
        }
    };
    output::print(&work().with_context(|| ContainerContext(id.clone()))?)?;
    Ok(Outcome::Done)
}

/// The output of ps for all processes of the host.
fn table(mut options: Vec<OsString>) -> Result<String> {
    if options.is_empty() {
        options.push("-ef".into());
    }
    let ps = Command::new("ps").args(options).stdin(Stdio::null()).output().context("ps")?;
    if !ps.status.success() {
        let output = String::from_utf8_lossy(&ps.stderr);
        bail!("ps: {}", output.lines().next().unwrap_or("failed"));
    }
    Ok(String::from_utf8_lossy(&ps.stdout).into_owned())
}

/// The title, and the rows of these processes.
fn rows_of(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| anyhow!("ps: prints no column PID with these options"))?;
    let wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let rows = std::iter::once(title).chain(lines.filter(wanted));
    Ok(rows.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::rows_of;

    #[test]
    fn only_the_rows_of_the_container() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init 12\nroot   12     1 sleep 1\n\nx y\n";
        assert_eq!(
            rows_of(table, &[12, 99]).unwrap(),
            "UID   PID  PPID CMD\nroot   12     1 sleep 1\n"
        );
        assert!(rows_of("CMD\nsleep\n", &[1]).is_err());
        assert!(rows_of("", &[1]).is_err());
    }
}
