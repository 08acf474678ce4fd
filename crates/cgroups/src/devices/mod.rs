//! `linux.resources.devices`: the rules, and the operation that enforces them.

pub(crate) mod cache;
mod program;
mod rule;
mod table;

pub use program::{Instruction, Program};

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use crate::{Error, Host, IfMissing, Layout, Op};
use rule::Rule;
use table::Table;

const FIELD: &str = "linux.resources.devices";

/// The field of the rules of an update, in errors.
const UPDATE: &str = "device rule";

/// Whether config.json has rules.
pub(crate) fn has_rules(resources: Option<&LinuxResources>) -> bool {
    resources
        .and_then(|resources| resources.devices().as_ref())
        .is_some_and(|list| !list.is_empty())
}

/// The rules of config.json, and those of every container. The default is to deny.
pub(crate) fn rules(resources: Option<&LinuxResources>) -> Result<Vec<Rule>, Error> {
    let spec = resources.and_then(|resources| resources.devices().as_deref());
    Ok(rule::with_default(parse(spec.unwrap_or_default(), FIELD)?))
}

fn parse(entries: &[LinuxDeviceCgroup], field: &str) -> Result<Vec<Rule>, Error> {
    let parse = |(index, entry)| Rule::parse(entry, &format!("{field}[{index}]"));
    entries.iter().enumerate().map(parse).collect()
}

/// Plans the filter: the `devices` controller of v1, or eBPF on cgroup v2.
pub(crate) fn plan(
    rules: &[Rule],
    has_rules: bool,
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
        None if has_rules => {
            Err(Error::NoController { field: FIELD.into(), controller: "devices".into() })
        }
        None => Ok(Vec::new()),
    }
}

/// Plans the change from the rules of config.json and of updates `before` to those with `more` at
/// the end.
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
        // The present rules can be expressed, so one that cannot be is among the new ones.
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

/// One operation for each file that has lines.
fn writes(directory: &Path, files: [(&'static str, Vec<String>); 2]) -> Vec<Op> {
    let files = files.into_iter().filter(|(_, lines)| !lines.is_empty());
    let write = |(file, values): (&str, Vec<String>)| Op::Write {
        directory: directory.to_path_buf(),
        file: file.to_owned(),
        values,
        if_missing: IfMissing::Fail,
        field: FIELD.into(),
    };
    files.map(write).collect()
}
