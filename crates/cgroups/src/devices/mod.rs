//! `linux.resources.devices`: the rules, and the step that enforces them.

pub(crate) mod kept;
mod program;
mod rule;
mod table;

pub use program::{Instruction, Program};

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::{Error, Host, Layout, Missing, Op};
use rule::Rule;
use table::Table;

const FIELD: &str = "linux.resources.devices";

/// Where the rules of an update come from.
const UPDATE: &str = "device rule";

/// Whether config.json has rules of its own.
pub(crate) fn asked(resources: Option<&LinuxResources>) -> bool {
    resources
        .and_then(|resources| resources.devices().as_ref())
        .is_some_and(|list| !list.is_empty())
}

/// The rules of config.json, and those of every container. What no rule allows is denied.
pub(crate) fn rules(resources: Option<&LinuxResources>) -> Result<Vec<Rule>, Error> {
    let spec = resources.and_then(|resources| resources.devices().as_deref());
    Ok(rule::with_default(parse(spec.unwrap_or_default(), FIELD)?))
}

fn parse(entries: &[LinuxDeviceCgroup], field: &str) -> Result<Vec<Rule>, Error> {
    let parse = |(index, entry)| Rule::parse(entry, &format!("{field}[{index}]"));
    entries.iter().enumerate().map(parse).collect()
}

/// The filter, where this host has one: the `devices` controller of v1, or eBPF on cgroup v2.
pub(crate) fn plan(
    rules: &[Rule],
    asked: bool,
    path: &Path,
    host: &Host,
) -> Result<Vec<Op>, Error> {
    if rule::allow_everything(rules) {
        return Ok(Vec::new());
    }
    if let Some(tree) = host.layout.hierarchy("devices") {
        let files = Table::of(rules, FIELD)?.files();
        return Ok(writes(&tree.mountpoint.join(path), files));
    }
    match &host.layout.unified {
        Some(tree) => Ok(vec![Op::Devices {
            directory: tree.mountpoint.join(path),
            program: Program::of(rules)?,
            optional: host.rootless,
        }]),
        None if asked => {
            Err(Error::NoController { field: FIELD.into(), controller: "devices".into() })
        }
        None => Ok(Vec::new()),
    }
}

/// The steps from the rules of config.json and of updates `before` to these with `more` after them.
pub(crate) fn plan_update(
    [config, before, more]: [&[LinuxDeviceCgroup]; 3],
    path: &Path,
    layout: &Layout,
) -> Result<Vec<Op>, Error> {
    let mut old = rule::with_default(parse(config, FIELD)?);
    old.extend(parse(before, UPDATE)?);
    let mut new = old.clone();
    new.extend(parse(more, UPDATE)?);
    if let Some(tree) = layout.hierarchy("devices") {
        // The rules that are there were possible: what is not is among the new ones.
        let table = Table::of(&new, UPDATE)?;
        let files = Table::of(&old, UPDATE)?.change_to(&table);
        return Ok(writes(&tree.mountpoint.join(path), files));
    }
    match &layout.unified {
        Some(tree) => Ok(vec![Op::Devices {
            directory: tree.mountpoint.join(path),
            program: Program::of(&new)?,
            optional: false,
        }]),
        None => Err(Error::NoController { field: UPDATE.into(), controller: "devices".into() }),
    }
}

/// One step for each file that has lines.
fn writes(directory: &Path, files: [(&'static str, Vec<String>); 2]) -> Vec<Op> {
    let files = files.into_iter().filter(|(_, lines)| !lines.is_empty());
    let write = |(file, values): (&str, Vec<String>)| Op::Write {
        directory: directory.to_path_buf(),
        file: file.to_owned(),
        values,
        missing: Missing::Refused,
        field: FIELD.into(),
    };
    files.map(write).collect()
}
