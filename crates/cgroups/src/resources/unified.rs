//! `linux.resources.unified`: files of cgroup v2 by name.

use std::collections::{BTreeMap, HashMap};

use super::{ControllerDir, Plan, Version};
use crate::{Error, IfMissing};

pub(super) fn plan(plan: &mut Plan<'_>, files: &HashMap<String, String>) -> Result<(), Error> {
    let sorted: BTreeMap<_, _> = files.iter().collect();
    for (file, value) in sorted {
        let field = format!("linux.resources.unified[{file:?}]");
        check(file, value, &field)?;
        let dir = dir(plan, file, &field)?;
        // Files such as io.max need one write(2) for each line.
        let lines: Vec<String> =
            value.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            return Err(Error::value(field, "has no value"));
        }
        plan.write_or(&dir, file, lines, IfMissing::Fail, field.into());
    }
    Ok(())
}

/// The key must be one file name, in this directory, and not one that moves processes.
fn check(file: &str, value: &str, field: &str) -> Result<(), Error> {
    let refuse = |reason: &str| Err(Error::value(field.to_owned(), reason));
    if file.contains('/') || file.contains("..") {
        return refuse("must be a file name, without `/` and `..`");
    }
    if !file.contains('.') || file.starts_with('.') || file.chars().any(char::is_control) {
        return refuse("is not the name of a cgroup v2 file");
    }
    if file == "cgroup.procs" || file == "cgroup.threads" {
        return refuse("moves processes, it is not a limit");
    }
    if value.contains('\0') { refuse("has a NUL in its value") } else { Ok(()) }
}

/// The directory; the controller in the file's name is enabled, `cgroup.*` files need none.
fn dir(plan: &mut Plan<'_>, file: &str, field: &str) -> Result<ControllerDir, Error> {
    let Some(tree) = &plan.layout.unified else {
        return Err(Error::value(
            field.to_owned(),
            "needs cgroup v2, which this host does not have",
        ));
    };
    match file.split_once('.') {
        Some((controller, _)) if controller != "cgroup" => {
            plan.dir_v2(controller, field.to_owned().into())
        }
        _ => Ok(ControllerDir { version: Version::V2, directory: tree.mountpoint.join(plan.path) }),
    }
}
