//! Mounts of a container that lives: the same entries as those of config.json, one by one.

use oci_spec::runtime::{Mount, Spec};

use super::mounts::Entry;
use super::{Planner, string};
use crate::op::{Action, Op, Rule, Target};
use crate::origin::Subject;
use crate::{Error, Host};

/// File systems that need nothing of the host: what a source names would be looked for in the
/// container by then.
const SELF_CONTAINED: [&str; 6] = ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue"];

/// Plans the `mounts` of `spec` for a process that has joined the container's mount namespace.
/// Operations of [`crate::Phase::Outside`] are the parent's to apply.
///
/// # Errors
/// What is wrong with which mount, or cannot be added any more.
pub fn plan_added(spec: &Spec, host: &Host) -> Result<Vec<Op>, Error> {
    let mut planner = Planner::new(spec, host);
    planner.parent_opens = true;
    planner.check_label()?;
    planner.build.push(in_the_root());
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let entry = Entry::read(index, mount)?;
        match (entry.options.remount, entry.is_bind()) {
            (true, _) => {}
            (false, true) => require_access(&entry, host)?,
            (false, false) => require_self_contained(&entry)?,
        }
        planner.mount(&entry)?;
    }
    Ok(planner.finish())
}

/// Plans to take away what is mounted at the destinations of `mounts`; all else in them does not
/// count.
///
/// # Errors
/// A destination where nothing can be taken away.
pub fn plan_removed(mounts: &[Mount]) -> Result<Vec<Op>, Error> {
    let mut ops = vec![in_the_root()];
    for (index, mount) in mounts.iter().enumerate() {
        let Entry { field, destination, .. } = Entry::read(index, mount)?;
        let path = string(field.member("destination"), destination.as_str())?;
        let action = Action::Unmount(Target { path, rule: Rule::NoLinks });
        ops.push(Op::new(field, Subject::Path(destination), action));
    }
    Ok(ops)
}

fn in_the_root() -> Op {
    Op::new("mounts", Subject::Nothing, Action::RootDirectory(c"/".to_owned()))
}

/// A tree can be copied only by whoever may mount where it is (open_tree(2)); at `create` that is
/// init, in a copy of the host's mount namespace.
fn require_access(entry: &Entry<'_>, host: &Host) -> Result<(), Error> {
    if host.privileged_parent {
        return Ok(());
    }
    let source = entry.source.map(|path| path.display().to_string()).unwrap_or_default();
    let reason = "an ordinary user cannot bind it into a container that lives";
    Err(Error::invalid(entry.field.member("source"), source, reason))
}

fn require_self_contained(entry: &Entry<'_>) -> Result<(), Error> {
    if SELF_CONTAINED.contains(&entry.fstype) {
        return Ok(());
    }
    let reason = "cannot be added to a container that lives: only binds and file systems without \
        a source can";
    Err(Error::invalid(entry.field.member("type"), entry.fstype, reason))
}
