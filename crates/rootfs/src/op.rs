//! The operations that make a container's root: plain data, carried to init as bytes.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

use crate::origin::{Field, Origin, Subject};

/// One operation, and what in config.json asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// For messages only: it stays with the runtime and does not cross to init.
    #[serde(skip)]
    pub origin: Origin,
    /// What is to be done.
    pub action: Action,
}

/// When an operation is done. Phases never go back in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sources are opened: by the parent where [`crate::parent_opens_sources`].
    Outside,
    /// The tree is built, before the hooks `createRuntime` and `createContainer`.
    Build,
    /// The tree becomes the root, and is closed.
    Enter,
}

/// A kind of operation with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Copies the mount at a path of the host, detached, into a slot.
    CloneSource {
        /// The path on the host.
        path: CString,
        /// With the mounts below it.
        recursive: bool,
        /// The slot that receives it.
        slot: u16,
    },
    /// Maps the ids of the files in a copied tree.
    MapIds {
        /// The slot that holds the tree.
        tree: u16,
        /// With the mounts below it.
        recursive: bool,
        /// Lines of a uid_map (user_namespaces(7)).
        uids: String,
        /// Lines of a gid_map.
        gids: String,
    },
    /// Keeps what is mounted here from being seen outside: sets all mounts of the namespace.
    Contain(Propagation),
    /// Makes a copy of a tree of the host the container's root.
    Root {
        /// The tree.
        source: Source,
        /// With the mounts below it.
        recursive: bool,
        /// Where it is attached.
        at: Place,
        /// Its attributes and propagation, before it is attached.
        changes: Vec<Change>,
    },
    /// Makes an overlay of directories of the host the container's root.
    RootOverlay {
        /// The directories, topmost first.
        layers: Vec<CString>,
        /// With a writable tmpfs layer on top.
        ephemeral: bool,
        /// The overlay's notes are `user.*` attributes, as in a user namespace they must be.
        userxattr: bool,
        /// Where it is attached.
        at: Place,
    },
    /// Uses a directory of the host as it is: there is no mount namespace.
    RootDirectory(CString),
    /// Attaches a copy of a part of the host's or the container's tree.
    Bind {
        /// What is attached.
        source: Source,
        /// With the mounts below it.
        recursive: bool,
        /// Where to.
        target: Target,
        /// It must be a whole procfs: it goes over `/proc`.
        procfs: bool,
        /// Its attributes and propagation.
        changes: Vec<Change>,
    },
    /// Makes a file system and attaches it.
    Mount {
        /// The file system.
        filesystem: Filesystem,
        /// Where to.
        target: Target,
        /// What fsmount(2) cannot set.
        changes: Vec<Change>,
    },
    /// Makes an overlay of directories of the host and attaches it.
    Overlay {
        /// The overlay.
        overlay: Overlay,
        /// Where to.
        target: Target,
        /// What fsmount(2) cannot set.
        changes: Vec<Change>,
    },
    /// Mounts with mount(2), for flags and lengths that fsconfig(2) does not take.
    OldMount {
        /// Type of the file system.
        fstype: CString,
        /// Its source.
        source: CString,
        /// `MS_*`.
        flags: u64,
        /// The options of the file system, separated by commas.
        data: CString,
        /// Where to.
        target: Target,
        /// What mount(2) cannot set in the same call.
        changes: Vec<Change>,
    },
    /// Changes what is already mounted at a path.
    Remount {
        /// The path in the container.
        target: Target,
        /// New options of the superblock, unless the mount alone is meant.
        settings: Option<Vec<Setting>>,
        /// New attributes and propagation of the mount.
        changes: Vec<Change>,
    },
    /// Takes what is mounted at a path out of sight, and lets it go when it is not used any more.
    Unmount(Target),
    /// Makes a symbolic link.
    Symlink {
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// What the link says.
        points_to: CString,
        /// Takes the place of what is there; otherwise that stays.
        replace: bool,
    },
    /// Makes a device node, or a FIFO.
    Node {
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// What it stands for.
        device: Device,
        /// Permission bits.
        mode: u32,
        /// Owner in the container.
        uid: u32,
        /// Group in the container.
        gid: u32,
    },
    /// Attaches the host's device node, where a user namespace forbids to make one.
    BindNode {
        /// The node's path on the host.
        source: CString,
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// What the host's node must stand for.
        device: Device,
    },
    /// Opens a pseudoterminal of the container's own devpts and makes it `/dev/console`.
    Console {
        /// Lines and columns, where the configuration says.
        size: Option<(u16, u16)>,
        /// The slot for the caller's side.
        master: u16,
        /// The slot for the process's side.
        terminal: u16,
    },
    /// Opens a pseudoterminal of the devpts in the root that this process has already.
    Terminal {
        /// Lines and columns, where the configuration says.
        size: Option<(u16, u16)>,
        /// The slot for the caller's side.
        master: u16,
        /// The slot for the process's side.
        terminal: u16,
    },
    /// Takes a procfs or sysfs of the host out of sight, or covers it.
    Hide(CString),
    /// pivot_root(2) into the container's root, and the old root is let go of.
    Pivot,
    /// chroot(2) into the container's root.
    Chroot {
        /// It is moved onto `/` before.
        move_to_root: bool,
    },
    /// Makes the mount at a path read-only.
    ReadOnlyMount(CString),
    /// Puts an empty directory, or the null device, over a path.
    Mask(CString),
    /// Puts a read-only copy of a path over itself.
    ReadOnlyPath(CString),
    /// Makes the container's root mount read-only.
    ReadOnlyRoot,
    /// Sets the propagation of the container's root.
    Propagate {
        /// The propagation.
        propagation: Propagation,
        /// With the mounts below it.
        recursive: bool,
    },
}

/// Where a tree comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A path, looked up when the operation is done.
    Path(CString),
    /// A detached mount that is there already.
    Slot(u16),
}

/// Where the container's root is attached before it becomes the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On a directory of the host.
    Directory(CString),
    /// Over `/`, which needs no path that the container's root user might not reach. Absolute
    /// paths still begin in the old root: path_resolution(7) does not look at what covers it.
    OverRoot,
}

/// Where in the container something is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A clean absolute path.
    pub path: CString,
    /// What the lookup may meet.
    pub rule: Rule,
}

/// What looking up a [`Target`] may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// Symbolic links inside the root, but not into a procfs.
    OutsideProc,
    /// Symbolic links inside the root, also into procfs: the files that lxcfs covers.
    Proc,
    /// No symbolic link at all: procfs and sysfs must be where they seem to be.
    NoLinks,
}

/// A file system to make with fsopen(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Its type.
    pub fstype: CString,
    /// Its source, a device or a name.
    pub source: Option<CString>,
    /// Its options.
    pub settings: Vec<Setting>,
    /// `MOUNT_ATTR_*` of its mount.
    pub attributes: u64,
    /// Its root directory gets the mode of the directory that it covers.
    pub inherit_mode: bool,
    /// It gets a copy of what it covers.
    pub copy_up: bool,
}

/// An overlay, as an entry of `mounts` describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Its source, only a name.
    pub source: Option<CString>,
    /// Lower directories, topmost first.
    pub layers: Vec<Layer>,
    /// All other options.
    pub settings: Vec<Setting>,
    /// `MOUNT_ATTR_*` of its mount.
    pub attributes: u64,
}

/// One lower directory of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The directory.
    pub path: CString,
    /// It only holds data that others refer to.
    pub data_only: bool,
}

/// One option of a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// `name`
    Flag(CString),
    /// `name=value`
    Text(CString, CString),
}

/// One call of mount_setattr(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// For the mounts below too.
    pub recursive: bool,
}

/// See mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Events go both ways.
    Shared,
    /// Events come in.
    Slave,
    /// No events.
    Private,
    /// No events, and no copies.
    Unbindable,
}

/// What a node of the file system stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

impl Op {
    pub(crate) fn new(field: impl Into<Field>, subject: Subject, action: Action) -> Self {
        Self { origin: Origin { field: field.into(), subject }, action }
    }

    /// When the operation is done.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.action {
            Action::CloneSource { .. } | Action::MapIds { .. } => Phase::Outside,
            Action::Contain(_)
            | Action::Root { .. }
            | Action::RootOverlay { .. }
            | Action::RootDirectory(_)
            | Action::Bind { .. }
            | Action::Mount { .. }
            | Action::Overlay { .. }
            | Action::OldMount { .. }
            | Action::Remount { .. }
            | Action::Unmount(_)
            | Action::Symlink { .. }
            | Action::Node { .. }
            | Action::BindNode { .. }
            | Action::Console { .. }
            | Action::Terminal { .. } => Phase::Build,
            Action::Hide(_)
            | Action::Pivot
            | Action::Chroot { .. }
            | Action::ReadOnlyMount(_)
            | Action::Mask(_)
            | Action::ReadOnlyPath(_)
            | Action::ReadOnlyRoot
            | Action::Propagate { .. } => Phase::Enter,
        }
    }
}

/// The operations of each phase: outside, build, enter.
#[must_use]
pub fn phases(ops: &[Op]) -> [&[Op]; 3] {
    let build = ops.partition_point(|op| op.phase() < Phase::Build);
    let enter = ops.partition_point(|op| op.phase() < Phase::Enter);
    let (before, last) = ops.split_at(enter);
    let (first, middle) = before.split_at(build);
    [first, middle, last]
}
