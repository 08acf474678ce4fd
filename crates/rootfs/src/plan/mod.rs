//! Planning: from config.json to the list of operations.

mod cgroup;
mod devices;
mod devtmpfs;
mod entry;
mod fs_options;
mod id_maps;
mod label;
mod live;
mod mounts;
mod overlay;
mod root;
mod without_effect;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

pub use self::live::{plan_added, plan_removed, plan_staged, staged_path};
pub use self::root::{EPHEMERAL, LAYERS};
pub use self::without_effect::without_effect;
use crate::op::{Action, AttachPoint, LookupPolicy, Op, Source};
use crate::options::propagation_mode;
use crate::origin::{Field, Origin, Subject};
use crate::{Console, Error, Host, Propagation};

/// Plans the root of a container: the operations in order, by phase.
///
/// # Errors
/// The field that cannot be applied, and why.
pub fn plan(spec: &Spec, host: &Host) -> Result<Vec<Op>, Error> {
    let mut planner = Planner::new(spec, host);
    planner.check_label()?;
    if planner.has_mount_namespace {
        planner.plan_all()?;
    } else {
        planner.plan_without_mount_namespace()?;
    }
    Ok(planner.finish())
}

/// Capacity for the operations of a typical container: growing the list would copy it.
const TYPICAL_LENGTH: usize = 96;

/// Whether the parent applies the operations of [`crate::Phase::Outside`], before the user
/// namespace is entered, and passes their slots to init; otherwise init applies them first.
#[must_use]
pub fn parent_opens_sources(spec: &Spec, host: &Host) -> bool {
    // A mount can only be copied in the namespace that it belongs to (open_tree(2)), and a joined
    // namespace is not the parent's.
    let joins = namespace(spec, LinuxNamespaceType::Mount) == Some(Namespace::Joined);
    (host.user_namespace || id_maps::any(spec)) && host.privileged_parent && !joins
}

/// Plans the terminal of an exec, which is in the container's root by then.
///
/// # Errors
/// An invalid size.
pub fn exec_terminal(process: &Process, console: Console) -> Result<Op, Error> {
    let size = terminal_size(process.console_size())?;
    let (master, terminal) = (console.master, console.terminal);
    Ok(Op::new("process.terminal", Subject::Nothing, Action::Terminal { size, master, terminal }))
}

/// Plans how an exec enters the root of a container without a mount namespace: one operation before
/// it joins the container's other namespaces, and one afterwards.
///
/// # Errors
/// A NUL byte in the path, which is impossible.
pub fn root_of(init: i32) -> Result<[Op; 2], Error> {
    let path = format!("/proc/{init}/root");
    let open = CString::new(path.as_str())
        .map_err(|_| Error::invalid("root.path", path.clone(), "contains a NUL byte"))?;
    Ok([
        Op::new("root.path", Subject::Path(path), Action::RootDirectory(open)),
        Op::new("root", Subject::Nothing, Action::Chroot { move_to_root: false }),
    ])
}

fn terminal_size(size: Option<oci_spec::runtime::Box>) -> Result<Option<(u16, u16)>, Error> {
    let cells = |name: &str, value: u64| {
        u16::try_from(value).map_err(|_| {
            let field = format!("process.consoleSize.{name}");
            Error::invalid(field, value.to_string(), "is too large for a terminal")
        })
    };
    let Some(size) = size else { return Ok(None) };
    Ok(Some((cells("height", size.height())?, cells("width", size.width())?)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    New,
    Joined,
}

fn namespace(spec: &Spec, wanted: LinuxNamespaceType) -> Option<Namespace> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_ref()?;
    let found = namespaces.iter().find(|namespace| namespace.typ() == wanted)?;
    let joined = found.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    Some(if joined { Namespace::Joined } else { Namespace::New })
}

/// The plan so far. It has three lists, because one field may add to several phases.
struct Planner<'a> {
    spec: &'a Spec,
    host: &'a Host,
    has_mount_namespace: bool,
    parent_opens: bool,
    /// Whether a read-only tmpfs is read-only from the start, because nothing is created in it.
    read_only_from_start: bool,
    next_slot: u16,
    /// Destinations of the mounts so far.
    covered: Vec<String>,
    /// The propagation that all mounts of the namespace get first.
    initial_propagation: Propagation,
    attach_point: AttachPoint,
    outside: Vec<Op>,
    build: Vec<Op>,
    enter: Vec<Op>,
}

impl<'a> Planner<'a> {
    fn new(spec: &'a Spec, host: &'a Host) -> Self {
        Self {
            spec,
            host,
            has_mount_namespace: namespace(spec, LinuxNamespaceType::Mount).is_some(),
            parent_opens: parent_opens_sources(spec, host),
            read_only_from_start: false,
            next_slot: host.first_slot,
            covered: Vec::new(),
            initial_propagation: Propagation::Slave,
            attach_point: AttachPoint::StackOnRoot,
            outside: Vec::new(),
            build: Vec::with_capacity(TYPICAL_LENGTH),
            enter: Vec::with_capacity(TYPICAL_LENGTH),
        }
    }

    fn finish(mut self) -> Vec<Op> {
        // The longest list is not moved.
        self.build.splice(0..0, self.outside);
        self.build.append(&mut self.enter);
        self.build
    }

    fn plan_all(&mut self) -> Result<(), Error> {
        let propagation = self.propagation()?;
        self.root()?;
        self.mounts()?;
        self.devices()?;
        self.console()?;
        self.enter_root()?;
        self.read_only_paths()?;
        self.masked_paths()?;
        self.read_only_root();
        self.final_propagation(propagation);
        Ok(())
    }

    /// Plans mounts in the runtime's mount namespace: below the directory that becomes the root,
    /// from where `delete` unmounts them ([`crate::unmount_below`]). Fields that need the root to
    /// be a mount are refused.
    fn plan_without_mount_namespace(&mut self) -> Result<(), Error> {
        let refuse = |field: &str| Err(Error::NoMountNamespace { field: field.to_owned() });
        let linux = self.spec.linux().as_ref();
        if linux.is_some_and(|linux| linux.rootfs_propagation().is_some()) {
            return refuse("linux.rootfsPropagation");
        }
        if self.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            return refuse("root.readonly");
        }
        if self.host.console.is_some() {
            return refuse("process.terminal");
        }
        self.root_directory()?;
        self.mounts()?;
        self.devices()?;
        self.enter
            .insert(0, Op::new("root", Subject::Nothing, Action::Chroot { move_to_root: false }));
        self.read_only_paths()?;
        self.masked_paths()
    }

    /// Reads `rootfsPropagation`, and plans that new mounts do not propagate to the host.
    fn propagation(&mut self) -> Result<Option<(Propagation, bool)>, Error> {
        const FIELD: &str = "linux.rootfsPropagation";
        let linux = self.spec.linux().as_ref();
        let asked = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let asked = match asked {
            None | Some("") => None,
            Some(name) => Some(propagation_mode(name).ok_or_else(|| {
                let reason =
                    "must be shared, slave, private or unbindable, optionally with the prefix r";
                Error::invalid(FIELD, name, reason)
            })?),
        };
        if let Some((Propagation::Private | Propagation::Unbindable, _)) = asked {
            self.initial_propagation = Propagation::Private;
        }
        self.build.push(Op::new(
            FIELD,
            Subject::Nothing,
            Action::SetPropagation(self.initial_propagation),
        ));
        Ok(asked)
    }

    /// Sets shared or unbindable at the end: pivot_root(2) refuses a shared root (EINVAL), and
    /// hooks cannot bind mount an unbindable one. Slave and private are set already.
    fn final_propagation(&mut self, asked: Option<(Propagation, bool)>) {
        if let Some((propagation @ (Propagation::Shared | Propagation::Unbindable), recursive)) =
            asked
        {
            let action = Action::SetRootPropagation { propagation, recursive };
            self.enter.push(Op::new("linux.rootfsPropagation", Subject::Nothing, action));
        }
    }

    fn console(&mut self) -> Result<(), Error> {
        let Some(console) = self.host.console else { return Ok(()) };
        let asked = self.spec.process().as_ref().and_then(|process| process.console_size());
        let size = terminal_size(asked)?;
        let (master, terminal) = (console.master, console.terminal);
        let policy = match self.on_devtmpfs("/dev/console") {
            true => LookupPolicy::MustExist,
            false => LookupPolicy::NoLinks,
        };
        let action = Action::Console { size, master, terminal, policy };
        self.build.push(Op::new("process.terminal", Subject::Nothing, action));
        Ok(())
    }

    fn read_only_paths(&mut self) -> Result<(), Error> {
        let linux = self.spec.linux().as_ref();
        let paths = linux.and_then(|linux| linux.readonly_paths().as_ref());
        for (field, path, absolute) in distinct("linux.readonlyPaths", paths)? {
            let action = Action::ReadOnlyPath(absolute);
            self.enter.push(Op::new(field, Subject::Path(path.clone()), action));
        }
        Ok(())
    }

    fn masked_paths(&mut self) -> Result<(), Error> {
        let linux = self.spec.linux().as_ref();
        let paths = linux.and_then(|linux| linux.masked_paths().as_ref());
        for (field, path, absolute) in distinct("linux.maskedPaths", paths)? {
            let action = Action::Mask(absolute);
            self.enter.push(Op::new(field, Subject::Path(path.clone()), action));
        }
        Ok(())
    }

    /// A tree of the host, copied now if it must be, else when it is needed.
    fn source(&mut self, origin: Origin, path: CString, recursive: bool, now: bool) -> Source {
        if !now {
            return Source::Path(path);
        }
        let slot = self.new_slot();
        let action = Action::CloneSource { path, recursive, slot };
        self.outside.push(Op { origin, action });
        Source::Slot(slot)
    }

    fn new_slot(&mut self) -> u16 {
        let slot = self.next_slot;
        self.next_slot = self.next_slot.saturating_add(1);
        slot
    }

    /// A path of the host, in the bundle unless it is absolute.
    fn in_bundle(&self, path: &Path) -> PathBuf {
        self.host.bundle.join(path)
    }
}

fn string(field: impl Into<Field>, text: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(text).map_err(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).into_owned();
        Error::invalid(field.into(), text, "contains a NUL byte")
    })
}

fn path_string(field: impl Into<Field>, path: &Path) -> Result<CString, Error> {
    string(field, path.as_os_str().as_bytes())
}

fn absolute(field: Field, path: &str) -> Result<CString, Error> {
    if !path.starts_with('/') {
        return Err(Error::invalid(field, path, "must be an absolute path"));
    }
    string(field, clean(path))
}

/// The paths of a list without duplicates, as written and normalized: a second mount over the first
/// would have no effect.
fn distinct<'a>(
    name: &'static str,
    paths: Option<&'a Vec<String>>,
) -> Result<Vec<(Field, &'a String, CString)>, Error> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    for (index, path) in paths.into_iter().flatten().enumerate() {
        let field = Field::entry(name, index);
        let absolute = absolute(field, path)?;
        if seen.insert(absolute.clone()) {
            list.push((field, path, absolute));
        }
    }
    Ok(list)
}

/// Normalizes an absolute path without looking at symbolic links: `a//b/../c/.` becomes `/a/c`.
fn clean(path: &str) -> String {
    let mut clean = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
            part => {
                clean.push('/');
                clean.push_str(part);
            }
        }
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}

/// Directory and name of a normalized absolute path.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => ("/", path),
    }
}
