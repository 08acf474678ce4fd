//! `linux.resources.devices`: the rules, and the step that enforces them.

mod program;
mod rule;
mod table;

pub use program::{Instruction, Program};

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use crate::{Error, Host, Missing, Op};
use rule::Rule;

const FIELD: &str = "linux.resources.devices";

/// Whether config.json has rules of its own.
pub(crate) fn asked(resources: Option<&LinuxResources>) -> bool {
    resources
        .and_then(|resources| resources.devices().as_ref())
        .is_some_and(|list| !list.is_empty())
}

/// The rules of config.json, then those of every container. What no rule allows is denied.
pub(crate) fn rules(resources: Option<&LinuxResources>) -> Result<Vec<Rule>, Error> {
    let spec = resources.and_then(|resources| resources.devices().as_ref());
    let mut rules = Vec::new();
    for (index, entry) in spec.into_iter().flatten().enumerate() {
        rules.push(Rule::parse(entry, &format!("{FIELD}[{index}]"))?);
    }
    rules.extend(rule::DEFAULT);
    Ok(rules)
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
        let table = table::Table::of(rules)?;
        let write = |file: &str, values: Vec<String>| Op::Write {
            directory: tree.mountpoint.join(path),
            file: file.to_owned(),
            values,
            missing: Missing::Refused,
            field: FIELD.into(),
        };
        let [(base, all), (exception, lines)] = table.files();
        let mut ops = vec![write(base, all)];
        if !lines.is_empty() {
            ops.push(write(exception, lines));
        }
        return Ok(ops);
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
