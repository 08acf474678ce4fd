//! One operation on a cgroup, as plain data.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::devices::Program;
use crate::systemd::{Property, Unit};

/// One operation. Its display is one line of `davit explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Creates a directory and every missing parent up to the mount point.
    ///
    /// An existing directory is used only if it has no processes and is not frozen.
    Make {
        /// The tree.
        mountpoint: PathBuf,
        /// The path below the mount point.
        path: PathBuf,
        /// The tree's v1 controllers; none on cgroup v2.
        controllers: Vec<String>,
    },
    /// Has systemd create a unit around the container's first process, which waits for it, and
    /// checks that the unit's cgroup has the expected path.
    StartUnit {
        /// The cgroup v2 tree.
        mountpoint: PathBuf,
        /// The unit's cgroup below the mount point.
        path: PathBuf,
        /// The unit.
        unit: Unit,
        /// Its properties, without the process.
        properties: Vec<Property>,
    },
    /// Sets properties of the container's unit to changed limits.
    SetProperties {
        /// The container's unit.
        unit: Unit,
        /// The changed properties.
        properties: Vec<Property>,
    },
    /// Enables controllers for the children of a cgroup v2 directory (`cgroup.subtree_control`).
    Enable {
        /// The parent directory.
        directory: PathBuf,
        /// Controllers that a field needs.
        needed: Vec<String>,
        /// The others: without them only statistics and later limits are missing.
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
        /// What to do if the file does not exist.
        if_missing: IfMissing,
        /// The field of config.json.
        #[serde(skip)]
        field: Cow<'static, str>,
    },
    /// Fails if the cgroup uses more memory than the new limit (`checkBeforeUpdate`).
    CheckUsage {
        /// The container's directory.
        directory: PathBuf,
        /// The limit that is set next, in bytes.
        limit: u64,
    },
    /// Attaches the device filter, in place of the present one.
    Devices {
        /// The container's directory.
        directory: PathBuf,
        /// The filter.
        program: Program,
        /// Whether EPERM is ignored: in a user namespace the kernel refuses device filters, and
        /// device nodes too.
        optional: bool,
    },
    /// Creates a sub-cgroup in which the container's process starts.
    CreateSubgroup {
        /// The container's directory.
        directory: PathBuf,
        /// Its name in that directory.
        name: String,
        /// The user it is delegated to, as a host uid.
        uid: Option<u32>,
    },
    /// Changes the owner of the directory and of the files that the kernel lists for delegation.
    Delegate {
        /// The container's directory.
        directory: PathBuf,
        /// The user of the container's process, as a host uid.
        uid: u32,
    },
}

/// What to do if the file of an [`Op::Write`] does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfMissing {
    /// Fail: the field cannot be applied.
    Fail,
    /// Nothing: there is nothing to limit, so the limit holds.
    Ignore,
    /// Write to another file.
    WriteInstead {
        /// The other file.
        file: String,
        /// The values for it.
        values: Vec<String>,
    },
}

impl Op {
    /// Advice for this operation's error, where the errno is not enough. It may read files of the
    /// host.
    #[must_use]
    pub fn hint(&self, error: &davit_sys::Error) -> Option<Cow<'static, str>> {
        crate::hint::of(self, error)
    }

    /// The operation in an error: as displayed, without the properties of a unit.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::StartUnit { unit, .. } | Self::SetProperties { unit, .. } => {
                format!("systemd unit {:?}", unit.name)
            }
            op => op.to_string(),
        }
    }

    /// Whether the operation creates the cgroup around an existing process.
    #[must_use]
    pub const fn needs_process(&self) -> bool {
        matches!(self, Self::StartUnit { .. })
    }

    /// The directory that the operation changes; empty if systemd changes it.
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
            | Self::CreateSubgroup { directory, .. }
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
                show_controllers(f, directory, needed, wanted, field)
            }
            Self::Write { directory, file, values, if_missing, field } => {
                show_write(f, directory, file, values, field)?;
                match if_missing {
                    IfMissing::WriteInstead { file, values } => {
                        write!(f, ", without that file ")?;
                        show_assignment(f, file, values)
                    }
                    IfMissing::Ignore => f.write_str(", if the kernel has the file"),
                    IfMissing::Fail => Ok(()),
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
            Self::CreateSubgroup { directory, name, .. } => write!(
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

fn show_controllers(
    f: &mut fmt::Formatter<'_>,
    directory: &Path,
    needed: &[String],
    wanted: &[String],
    field: &str,
) -> fmt::Result {
    write!(f, "cgroup enable below {}:", directory.display())?;
    if !needed.is_empty() {
        write!(f, " {}", needed.join(" "))?;
    }
    if !field.is_empty() {
        write!(f, " (for {field})")?;
    }
    match wanted {
        [] => Ok(()),
        names => write!(f, " {} (if possible)", names.join(" ")),
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
