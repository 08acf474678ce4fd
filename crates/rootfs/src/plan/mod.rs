//! From the configuration to the list of operations.

mod cgroup;
mod devices;
mod id_maps;
mod label;
mod live;
mod mounts;
mod overlay;
mod root;
mod without_effect;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

pub use self::live::{plan_added, plan_removed};
pub use self::root::{EPHEMERAL, LAYERS};
pub use self::without_effect::without_effect;
use crate::op::{Action, Op, Place, Source};
use crate::options::propagation_mode;
use crate::origin::{Field, Origin, Subject};
use crate::{Console, Error, Host, Propagation};

/// Plans the root of a container: the operations in their order, by phase.
///
/// # Errors
/// What is wrong with which field of the configuration.
pub fn plan(spec: &Spec, host: &Host) -> Result<Vec<Op>, Error> {
    let mut planner = Planner::new(spec, host);
    planner.check_label()?;
    if planner.own_mounts {
        planner.everything()?;
    } else {
        planner.in_our_mounts()?;
    }
    Ok(planner.finish())
}

/// Room for the operations of a usual container: memory that is not used costs less than a second copy.
const USUAL: usize = 96;

/// Whether the operations of [`crate::Phase::Outside`] are the parent's to apply, before the user
/// namespace is entered, and init gets their slots; otherwise init itself applies them first.
#[must_use]
pub fn parent_opens_sources(spec: &Spec, host: &Host) -> bool {
    // A mount can only be copied in the namespace it belongs to (open_tree(2)). A namespace that
    // already exists is not the parent's.
    let joins = namespace(spec, LinuxNamespaceType::Mount) == Some(Namespace::Joined);
    (host.user_namespace || id_maps::any(spec)) && host.privileged_parent && !joins
}

/// Plans the terminal of a further process (`exec`), in the root that it is in by then.
///
/// # Errors
/// A size that no terminal can have.
pub fn exec_terminal(process: &Process, console: Console) -> Result<Op, Error> {
    let size = terminal_size(process.console_size())?;
    let (master, terminal) = (console.master, console.terminal);
    Ok(Op::new("process.terminal", Subject::Nothing, Action::Terminal { size, master, terminal }))
}

/// Plans how a further process gets into the root of a container in its own mount namespace: what
/// is done before it joins the container's other namespaces, and what afterwards.
#[must_use]
pub fn root_of(init: i32) -> [Op; 2] {
    let path = format!("/proc/{init}/root");
    let open = CString::new(path.as_str()).unwrap_or_default();
    [
        Op::new("root.path", Subject::Path(path), Action::RootDirectory(open)),
        Op::new("root", Subject::Nothing, Action::Chroot { move_to_root: false }),
    ]
}

fn terminal_size(asked: Option<oci_spec::runtime::Box>) -> Result<Option<(u16, u16)>, Error> {
    let cells = |name: &str, value: u64| {
        u16::try_from(value).map_err(|_| {
            let field = format!("process.consoleSize.{name}");
            Error::invalid(field, value.to_string(), "is more than a terminal can have")
        })
    };
    let Some(size) = asked else { return Ok(None) };
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

/// What is planned so far. Three lists, because one field may add to several phases.
struct Planner<'a> {
    spec: &'a Spec,
    host: &'a Host,
    own_mounts: bool,
    parent_opens: bool,
    next_slot: u16,
    /// What all mounts of the namespace become at first.
    contain: Propagation,
    place: Place,
    outside: Vec<Op>,
    build: Vec<Op>,
    enter: Vec<Op>,
}

impl<'a> Planner<'a> {
    fn new(spec: &'a Spec, host: &'a Host) -> Self {
        Self {
            spec,
            host,
            own_mounts: namespace(spec, LinuxNamespaceType::Mount).is_some(),
            parent_opens: parent_opens_sources(spec, host),
            next_slot: host.first_slot,
            contain: Propagation::Slave,
            place: Place::OverRoot,
            outside: Vec::new(),
            build: Vec::with_capacity(USUAL),
            enter: Vec::with_capacity(USUAL),
        }
    }

    fn finish(mut self) -> Vec<Op> {
        // What is usually the longest part stays where it is.
        self.build.splice(0..0, self.outside);
        self.build.append(&mut self.enter);
        self.build
    }

    fn everything(&mut self) -> Result<(), Error> {
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

    /// The mount namespace of the runtime: mounts are made in the directory that becomes the root,
    /// and whoever deletes the container takes them away ([`crate::unmount_below`]). What would
    /// make a mount of the root itself is refused.
    fn in_our_mounts(&mut self) -> Result<(), Error> {
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

    /// Reads `rootfsPropagation` and keeps the mounts made from now on in the namespace.
    fn propagation(&mut self) -> Result<Option<(Propagation, bool)>, Error> {
        const FIELD: &str = "linux.rootfsPropagation";
        let linux = self.spec.linux().as_ref();
        let asked = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let asked = match asked {
            None | Some("") => None,
            Some(name) => Some(propagation_mode(name).ok_or_else(|| {
                let reason =
                    "must be shared, slave, private or unbindable, perhaps with an r before";
                Error::invalid(FIELD, name, reason)
            })?),
        };
        if let Some((Propagation::Private | Propagation::Unbindable, _)) = asked {
            self.contain = Propagation::Private;
        }
        self.build.push(Op::new(FIELD, Subject::Nothing, Action::Contain(self.contain)));
        Ok(asked)
    }

    /// A root that is shared could not be pivoted into (pivot_root(2), EINVAL), and one that is
    /// unbindable not be bound in the hooks: so these come last. Slave and private already are.
    fn final_propagation(&mut self, asked: Option<(Propagation, bool)>) {
        if let Some((propagation @ (Propagation::Shared | Propagation::Unbindable), recursive)) =
            asked
        {
            let action = Action::Propagate { propagation, recursive };
            self.enter.push(Op::new("linux.rootfsPropagation", Subject::Nothing, action));
        }
    }

    fn console(&mut self) -> Result<(), Error> {
        let Some(console) = self.host.console else { return Ok(()) };
        let asked = self.spec.process().as_ref().and_then(|process| process.console_size());
        let size = terminal_size(asked)?;
        let (master, terminal) = (console.master, console.terminal);
        let action = Action::Console { size, master, terminal };
        self.build.push(Op::new("process.terminal", Subject::Nothing, action));
        Ok(())
    }

    fn read_only_paths(&mut self) -> Result<(), Error> {
        let linux = self.spec.linux().as_ref();
        let paths = linux.and_then(|linux| linux.readonly_paths().as_ref());
        for (index, path) in paths.into_iter().flatten().enumerate() {
            let field = Field::entry("linux.readonlyPaths", index);
            let action = Action::ReadOnlyPath(absolute(field, path)?);
            self.enter.push(Op::new(field, Subject::Path(path.clone()), action));
        }
        Ok(())
    }

    fn masked_paths(&mut self) -> Result<(), Error> {
        let linux = self.spec.linux().as_ref();
        let paths = linux.and_then(|linux| linux.masked_paths().as_ref());
        for (index, path) in paths.into_iter().flatten().enumerate() {
            let field = Field::entry("linux.maskedPaths", index);
            let action = Action::Mask(absolute(field, path)?);
            self.enter.push(Op::new(field, Subject::Path(path.clone()), action));
        }
        Ok(())
    }

    /// A tree of the host: copied by the parent where that must be, else when it is needed.
    fn source(&mut self, origin: Origin, path: CString, recursive: bool, now: bool) -> Source {
        if !now {
            return Source::Path(path);
        }
        let slot = self.next_slot;
        self.next_slot = self.next_slot.saturating_add(1);
        let action = Action::CloneSource { path, recursive, slot };
        self.outside.push(Op { origin, action });
        Source::Slot(slot)
    }

    /// A path of the host, in the bundle unless it is absolute.
    fn in_bundle(&self, path: &Path) -> PathBuf {
        self.host.bundle.join(path)
    }
}

fn string(field: impl Into<Field>, text: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(text).map_err(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).into_owned();
        Error::invalid(field.into(), text, "has a NUL byte in it")
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

/// The shortest absolute path by the words alone: `a//b/../c/.` is `/a/c`. The kernel then finds
/// out about symbolic links.
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

/// Directory and name of a clean absolute path.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => ("/", path),
    }
}
