//! `linux.intelRdt`: a share of the caches and of the memory's bandwidth (config-linux.md,
//! "IntelRdt"), by the kernel's resctrl file system.
//!
//! A group is a directory, as a cgroup is, of one level and with one kind of limit. `closID` names
//! the container's group. It may exist already: then its limits must be the requested ones, and it
//! is not removed with the container.

mod schemata;

use std::fmt;
use std::path::{Path, PathBuf};

use davit_sys::{Failure, OsContext};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::file;
use crate::file::is_gone;

/// An error of `linux.intelRdt`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel or the processor does not support it, or it is not mounted.
    #[error(
        "linux.intelRdt: no resctrl file system is mounted: the kernel or the processor does not \
         support it, or it must be mounted at /sys/fs/resctrl"
    )]
    NotMounted,
    /// A field that cannot be applied.
    #[error("linux.intelRdt.{field}: {reason}")]
    Field {
        /// Field of the object.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The facts of the host that planning needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Mount point of resctrl.
    pub mountpoint: Option<PathBuf>,
    /// The limits of the group that `closID` names, if it exists.
    pub schemata: Option<String>,
}

/// One operation on the container's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// mkdir(2)
    Make(PathBuf),
    /// Writes limits, one in each line, with one write(2).
    Write {
        /// The file.
        file: PathBuf,
        /// Its lines.
        lines: String,
    },
}

/// The container's group; part of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory.
    pub directory: PathBuf,
    /// Whether it was created for the container.
    pub made: bool,
    /// The monitoring group of this container.
    pub monitor: Option<PathBuf>,
}

impl Host {
    /// Reads the facts of this host, if `linux.intelRdt` is set.
    ///
    /// # Errors
    /// A file of the kernel cannot be read.
    pub fn discover(rdt: Option<&LinuxIntelRdt>) -> Result<Self, davit_sys::Error> {
        let Some(rdt) = rdt else { return Ok(Self::default()) };
        let mountpoint = mountpoint(&file::read_path(Path::new("/proc/self/mountinfo"))?);
        let group = mountpoint.as_ref().zip(clos_id(rdt)).filter(|(_, id)| refused(id).is_none());
        let schemata = match group.map(|(top, id)| directory(top, id).join("schemata")) {
            None => None,
            Some(path) => match file::read_path(&path) {
                Err(davit_sys::Error { errno: Errno::ENOENT, .. }) => None,
                text => Some(text?),
            },
        };
        Ok(Self { mountpoint, schemata })
    }
}

/// The mount point of resctrl (proc_pid_mountinfo(5)); one with blanks in its name is not found.
pub(crate) fn mountpoint(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_resctrl = kind.split(' ').next() == Some("resctrl");
        mount.split(' ').nth(4).filter(|_| is_resctrl).map(PathBuf::from)
    })
}

fn clos_id(rdt: &LinuxIntelRdt) -> Option<&str> {
    rdt.clos_id().as_deref().filter(|id| !id.is_empty())
}

/// `/` is the default group.
fn directory(top: &Path, id: &str) -> PathBuf {
    if id == "/" { top.to_owned() } else { top.join(id) }
}

fn refused(id: &str) -> Option<&'static str> {
    match id {
        "/" => None,
        "." | ".." => Some("is not a valid group name"),
        "info" | "mon_groups" | "mon_data" => Some("is a directory of resctrl itself"),
        id if id.contains(['/', '\n', '\0']) => Some("is not a valid group name"),
        _ => None,
    }
}

/// Plans the group of the container `id`: its record, and the operations.
///
/// # Errors
/// No resctrl; a field that cannot be applied; an existing group with other limits.
pub fn plan(
    rdt: Option<&LinuxIntelRdt>,
    id: &str,
    host: &Host,
) -> Result<Option<(Group, Vec<Op>)>, Error> {
    let Some(rdt) = rdt else { return Ok(None) };
    let top = host.mountpoint.as_deref().ok_or(Error::NotMounted)?;
    let wanted = schemata::wanted(rdt)?;
    let named = clos_id(rdt);
    if let Some((named, reason)) = named.and_then(|named| Some((named, refused(named)?))) {
        return Err(field("closID", format!("{named:?} {reason}")));
    }
    let directory = directory(top, named.unwrap_or(id));
    let mut ops = Vec::new();
    let made = match (named, &host.schemata) {
        (Some(named), None) if wanted.is_empty() => {
            let reason = "does not exist, and there are no limits to make it with";
            return Err(field("closID", format!("group {named:?} {reason}")));
        }
        (Some(_), Some(present)) => {
            wanted.iter().try_for_each(|lines| schemata::compare(lines, present))?;
            false
        }
        _ => {
            ops.push(Op::Make(directory.clone()));
            let file = directory.join("schemata");
            let write = |lines: String| Op::Write { file: file.clone(), lines };
            ops.extend(wanted.into_iter().map(|wanted| write(wanted.lines)));
            true
        }
    };
    let monitor = monitors(rdt).then(|| directory.join("mon_groups").join(id));
    ops.extend(monitor.clone().map(Op::Make));
    Ok(Some((Group { directory, made, monitor }, ops)))
}

/// `enableMonitoring` replaces the two older fields.
fn monitors(rdt: &LinuxIntelRdt) -> bool {
    #[allow(deprecated)]
    let fields = [rdt.enable_monitoring(), rdt.enable_cmt(), rdt.enable_mbm()];
    fields.into_iter().any(|field| *field == Some(true))
}

fn field(field: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Field { field: field.into(), reason: reason.into() }
}

/// Performs the operations.
///
/// # Errors
/// The operation that failed; EINVAL of a write means that this processor does not have the limit.
pub fn apply(ops: &[Op]) -> Result<(), Failure> {
    for (index, op) in ops.iter().enumerate() {
        let perform = || match op {
            Op::Make(path) => mkdir(path, Mode::from_bits_truncate(0o755)).syscall("mkdir"),
            Op::Write { file, lines } => write(file, lines),
        };
        davit_sys::trace::operation("resctrl", op, perform)
            .map_err(|error| Failure::new(index, error))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), davit_sys::Error> {
    let parent = file::directory(path.parent().unwrap_or(path))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file::write(std::os::fd::AsFd::as_fd(&parent), name, text)
}

impl Group {
    /// Moves a process into it; children that it forks later are in it too.
    ///
    /// # Errors
    /// The group does not exist any more.
    pub fn assign(&self, pid: i32) -> Result<(), davit_sys::Error> {
        let monitor = self.monitor.iter();
        let mut directories = std::iter::once(&self.directory).chain(monitor);
        directories.try_for_each(|directory| write(&directory.join("tasks"), &format!("{pid}\n")))
    }

    /// Removes the directories that were created for the container.
    ///
    /// # Errors
    /// rmdir(2) failed.
    pub fn remove(&self) -> Result<(), davit_sys::Error> {
        let made = self.made.then_some(&self.directory);
        self.monitor.iter().chain(made).try_for_each(|directory| {
            match unlinkat(nix::fcntl::AT_FDCWD, directory, UnlinkatFlags::RemoveDir) {
                Err(errno) if is_gone(errno) => Ok(()),
                // On a read-only mount EROFS takes precedence over ENOENT.
                Err(Errno::EROFS) if !directory.exists() => Ok(()),
                removed => removed.syscall("rmdir"),
            }
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(path) => write!(f, "linux.intelRdt: make {path:?}"),
            Self::Write { file, lines } => {
                write!(f, "linux.intelRdt: {file:?} = {:?}", lines.trim_end())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(rdt: Value, host: &Host) -> Result<(Group, Vec<Op>), String> {
        let rdt: LinuxIntelRdt = serde_json::from_value(rdt).unwrap();
        let plan = plan(Some(&rdt), "web", host).map_err(|error| error.to_string())?;
        Ok(plan.unwrap())
    }

    fn host(top: &Path, schemata: Option<&str>) -> Host {
        Host { mountpoint: Some(top.to_owned()), schemata: schemata.map(str::to_owned) }
    }

    fn listing(rdt: Value, schemata: Option<&str>) -> Result<String, String> {
        let (group, ops) = planned(rdt, &host(Path::new("/r"), schemata))?;
        let steps = ops.iter().map(|op| format!("{op}\n")).collect::<String>();
        Ok(format!("{steps}made {}", group.made))
    }

    #[test]
    fn without_resctrl_it_is_refused() {
        let error = planned(json!({}), &Host::default()).unwrap_err();
        assert!(error.starts_with("linux.intelRdt: no resctrl file system is mounted"), "{error}");
        assert_eq!(plan(None, "web", &Host::default()), Ok(None));
    }

    #[test]
    fn a_new_group_is_created_and_monitored() {
        let rdt = json!({
            "l3CacheSchema": "L3:0=ff\nMB:0=1", "memBwSchema": "MB:0=20", "enableMonitoring": true,
            "schemata": ["L2:0=f", "L3:0=f0"],
        });
        insta::assert_snapshot!(listing(rdt, None).unwrap(), @r#"
        linux.intelRdt: make "/r/web"
        linux.intelRdt: "/r/web/schemata" = "L3:0=ff\nMB:0=20"
        linux.intelRdt: "/r/web/schemata" = "L2:0=f\nL3:0=f0"
        linux.intelRdt: make "/r/web/mon_groups/web"
        made true
        "#);
        assert_eq!(listing(json!({}), None).unwrap(), "linux.intelRdt: make \"/r/web\"\nmade true");
    }

    #[test]
    fn an_existing_group_is_used_unchanged_or_refused() {
        let present = Some("    L3:0=0ff;1=f\n    MB:0= 20;1=100\n");
        assert_eq!(listing(json!({ "closID": "gold" }), present).unwrap(), "made false");
        let same =
            json!({ "closID": "gold", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:1=100" });
        assert_eq!(listing(same, present).unwrap(), "made false");
        for (rdt, message) in [
            (
                json!({ "closID": "gold", "l3CacheSchema": "L3:1=ff" }),
                "linux.intelRdt.l3CacheSchema: L3:1=ff is requested, but the group has L3:1=f",
            ),
            (
                json!({ "closID": "gold", "schemata": ["L2:0=1"] }),
                "linux.intelRdt.schemata: L2:0=1 is requested, but the group has no such limit",
            ),
        ] {
            assert_eq!(listing(rdt, present).unwrap_err(), message);
        }
        let gone = listing(json!({ "closID": "gold" }), None).unwrap_err();
        assert!(gone.starts_with("linux.intelRdt.closID: group \"gold\" does not exist"), "{gone}");
        assert!(listing(json!({ "closID": "gold", "schemata": ["L3:0=1"] }), None).is_ok());
    }

    #[test]
    fn bad_fields_are_named() {
        for (rdt, field) in [
            (json!({ "closID": "../x" }), "linux.intelRdt.closID: \"../x\""),
            (json!({ "closID": "info" }), "linux.intelRdt.closID: \"info\""),
            (json!({ "memBwSchema": "L3:0=1" }), "linux.intelRdt.memBwSchema: "),
            (json!({ "memBwSchema": "MB:0=1\nMB:1=1" }), "linux.intelRdt.memBwSchema: "),
            (json!({ "l3CacheSchema": "all" }), "linux.intelRdt.l3CacheSchema: "),
            (json!({ "schemata": ["L3:0=1", "L3:0=1\nL2:0=1"] }), "linux.intelRdt.schemata[1]: "),
        ] {
            let error = listing(rdt, None).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn groups_are_created_and_removed_in_a_directory() {
        let top = tempfile::tempdir().unwrap();
        let rdt = json!({ "closID": "gold", "memBwSchema": "MB:0=20" });
        let (group, ops) = planned(rdt, &host(top.path(), None)).unwrap();
        apply(&ops[..1]).unwrap();
        for file in ["schemata", "tasks"] {
            std::fs::write(group.directory.join(file), "").unwrap();
        }
        apply(&ops[1..]).unwrap();
        group.assign(7).unwrap();
        let read = |file: &str| std::fs::read_to_string(group.directory.join(file)).unwrap();
        assert_eq!((read("schemata"), read("tasks")), ("MB:0=20\n".to_owned(), "7\n".to_owned()));
        let failure = apply(&ops).unwrap_err();
        assert_eq!((failure.op, failure.error.errno), (0, Errno::EEXIST));
        for file in ["schemata", "tasks"] {
            std::fs::remove_file(group.directory.join(file)).unwrap();
        }
        group.remove().unwrap();
        group.remove().unwrap();
        assert!(!group.directory.exists());
    }

    #[test]
    fn the_mount_point_is_found() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\n\
            30 23 0:30 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(mountpoint(text), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mountpoint("22 27 0:21 / /resctrl rw - proc proc rw\n"), None);
    }
}
