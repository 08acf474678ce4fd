//! One step of making a cgroup, as plain data.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::devices::Program;
use crate::systemd::{Property, Unit};

/// One step. Prints as one line of `davit explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Makes a directory and every missing level above it, up to the mount point.
    ///
    /// A directory that is there already is taken only when it is empty and not frozen.
    Make {
        /// The tree.
        mountpoint: PathBuf,
        /// The path below the mount point.
        path: PathBuf,
        /// The tree's v1 controllers; none on cgroup v2.
        controllers: Vec<String>,
    },
    /// Asks systemd for a unit around the container's first process, which waits for it, and makes
    /// sure that the unit's cgroup is where it was expected.
    StartUnit {
        /// The cgroup v2 tree.
        mountpoint: PathBuf,
        /// The unit's cgroup below the mount point.
        path: PathBuf,
        /// The unit.
        unit: Unit,
        /// Its properties, but for the process.
        properties: Vec<Property>,
    },
    /// Tells systemd of limits that change.
    SetProperties {
        /// The container's unit.
        unit: Unit,
        /// What changes.
        properties: Vec<Property>,
    },
    /// Gives controllers to the children of a cgroup v2 directory (`cgroup.subtree_control`).
    Enable {
        /// The directory above.
        directory: PathBuf,
        /// Controllers that a field needs.
        needed: Vec<String>,
        /// Controllers for accounting only: without them nothing is lost but figures.
        wanted: Vec<String>,
        /// The fields of config.json that need them.
        #[serde(skip)]
        field: String,
    },
    /// Writes one file, each value with a write(2) of its own.
    Write {
        /// The container's directory.
        directory: PathBuf,
        /// The file in it.
        file: String,
        /// What to write.
        values: Vec<String>,
        /// What a missing file means.
        missing: Missing,
        /// The field of config.json.
        #[serde(skip)]
        field: Cow<'static, str>,
    },
    /// Refuses a memory limit below what the cgroup uses already (`checkBeforeUpdate`).
    CheckUsage {
        /// The container's directory.
        directory: PathBuf,
        /// The limit that is going to be set, in bytes.
        limit: u64,
    },
    /// Attaches the device filter in the place of the one that is there.
    Devices {
        /// The container's directory.
        directory: PathBuf,
        /// The filter.
        program: Program,
        /// In a user namespace the kernel grants no filter (EPERM), and no device node either.
        optional: bool,
    },
    /// Makes a sub-cgroup for the container's own use.
    Own {
        /// The container's directory.
        directory: PathBuf,
        /// The name in it.
        name: String,
        /// The user who gets it, as a host uid.
        uid: Option<u32>,
    },
    /// Gives the directory, and the files that the kernel lists for it, to a user.
    Delegate {
        /// The container's directory.
        directory: PathBuf,
        /// The user of the container's process, as a host uid.
        uid: u32,
    },
}

/// What it means when the file of an [`Op::Write`] is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The field cannot be applied.
    Refused,
    /// There is nothing to limit, so the limit holds.
    Fine,
    /// The kernel has another file for it.
    Instead {
        /// That file.
        file: String,
        /// What to write there.
        values: Vec<String>,
    },
}

impl Op {
    /// What the user can do about this step's error, where the errno alone does not say it.
    #[must_use]
    pub fn hint(&self, error: &sys::Error) -> Option<&'static str> {
        let missing = error.errno == Errno::ENOENT;
        match self {
            Self::Make { .. } if error.call == "cgroup.procs" => {
                Some("the cgroup exists already and has processes in it")
            }
            Self::Make { .. } if error.call == "cgroup.freeze" || error.call == "freezer.state" => {
                Some("the cgroup exists already and is frozen")
            }
            Self::StartUnit { .. } if error.errno == Errno::EEXIST => {
                Some("another container has this unit, or davit delete --force has yet to end it")
            }
            Self::Enable { .. } if error.errno == Errno::EBUSY => {
                Some("a cgroup with processes of its own cannot give controllers to its children")
            }
            Self::Enable { .. } if missing => {
                Some("the controller is not delegated to this part of the cgroup tree")
            }
            Self::Write { .. } if missing => Some("this kernel does not have the file"),
            Self::CheckUsage { .. } => Some("the cgroup uses more than the limit already"),
            _ => None,
        }
    }

    /// The step in an error: as it prints, without what systemd is told in full.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::StartUnit { unit, .. } | Self::SetProperties { unit, .. } => {
                format!("systemd unit {:?}", unit.name)
            }
            step => step.to_string(),
        }
    }

    /// Whether the step makes the cgroup around a process that is there already.
    #[must_use]
    pub const fn wants_process(&self) -> bool {
        matches!(self, Self::StartUnit { .. })
    }

    /// The directory that this step works in; none where it is systemd that works.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        match self {
            Self::Make { mountpoint, path, .. } | Self::StartUnit { mountpoint, path, .. } => {
                mountpoint.join(path)
            }
            Self::SetProperties { .. } => PathBuf::new(),
            Self::Enable { directory, .. }
            | Self::Write { directory, .. }
            | Self::CheckUsage { directory, .. }
            | Self::Devices { directory, .. }
            | Self::Own { directory, .. }
            | Self::Delegate { directory, .. } => directory.clone(),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make { mountpoint, path, controllers } => {
                write!(f, "cgroup make {}", mountpoint.join(path).display())?;
                match controllers.as_slice() {
                    [] => Ok(()),
                    names => write!(f, " ({})", names.join(",")),
                }
            }
            Self::StartUnit { mountpoint, path, unit, properties } => {
                let directory = mountpoint.join(path);
                write!(f, "cgroup systemd unit {:?} at {}:", unit.name, directory.display())?;
                show_properties(f, properties)
            }
            Self::SetProperties { unit, properties } => {
                write!(f, "cgroup systemd unit {:?}:", unit.name)?;
                show_properties(f, properties)
            }
            Self::Enable { directory, needed, wanted, field } => {
                write!(f, "cgroup enable below {}:", directory.display())?;
                if !needed.is_empty() {
                    write!(f, " {}", needed.join(" "))?;
                }
                if !field.is_empty() {
                    write!(f, " (for {field})")?;
                }
                match wanted.as_slice() {
                    [] => Ok(()),
                    names => write!(f, " {} (for accounting, if possible)", names.join(" ")),
                }
            }
            Self::Write { directory, file, values, missing, field } => {
                show_write(f, directory, file, values, field)?;
                match missing {
                    Missing::Instead { file, values } => {
                        write!(f, ", without that file ")?;
                        show_assignment(f, file, values)
                    }
                    Missing::Fine => f.write_str(", if the kernel has the file"),
                    Missing::Refused => Ok(()),
                }
            }
            Self::CheckUsage { directory, limit } => write!(
                f,
                "linux.resources.memory.checkBeforeUpdate {}: memory.current at most {limit}",
                directory.display()
            ),
            Self::Devices { directory, program, optional } => write!(
                f,
                "linux.resources.devices {}: attach a filter of {} instructions{}",
                directory.display(),
                program.len(),
                if *optional { ", if permitted" } else { "" }
            ),
            Self::Own { directory, name, .. } => write!(
                f,
                "cgroup make {} for the container's own use",
                directory.join(name).display()
            ),
            Self::Delegate { directory, uid } => {
                write!(f, "cgroup give {} to uid {uid}", directory.display())
            }
        }
    }
}

fn show_properties(f: &mut fmt::Formatter<'_>, properties: &[Property]) -> fmt::Result {
    properties.iter().try_for_each(|property| write!(f, " {property}"))
}

fn show_write(
    f: &mut fmt::Formatter<'_>,
    directory: &Path,
    file: &str,
    values: &[String],
    field: &str,
) -> fmt::Result {
    let what = if field.is_empty() { "cgroup" } else { field };
    write!(f, "{what} {}: ", directory.display())?;
    show_assignment(f, file, values)
}

fn show_assignment(f: &mut fmt::Formatter<'_>, file: &str, values: &[String]) -> fmt::Result {
    write!(f, "{file} =")?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{} {value:?}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}
