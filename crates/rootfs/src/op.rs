//! The operations that set up a container's root: plain data, passed to init as bytes.

use std::ffi::CString;

use davit_sys::mount::{Attr, Propagation};
use serde::{Deserialize, Serialize};

use crate::origin::{Field, Origin, Subject};

/// One operation, and the field of config.json that it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// For messages only: it is not passed to init.
    #[serde(skip)]
    pub origin: Origin,
    /// The action.
    pub action: Action,
}

/// When an operation is performed. The phases of a plan are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sources are opened, by the parent if [`crate::parent_opens_sources`].
    Outside,
    /// The tree is built, before the hooks `createRuntime` and `createContainer`.
    Build,
    /// The tree becomes the root, and paths in it are masked or made read-only.
    Enter,
}

/// A kind of operation with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Copies the mount at a path of the host, detached, into a slot (open_tree(2)).
    CloneSource {
        /// The path on the host.
        path: CString,
        /// Whether with the mounts below it.
        recursive: bool,
        /// The slot that receives it.
        slot: u16,
    },
    /// Maps the ids of the files in a copied tree.
    MapIds {
        /// The slot that holds the tree.
        tree: u16,
        /// Whether with the mounts below it.
        recursive: bool,
        /// The maps.
        maps: IdMaps,
    },
    /// Creates device nodes in a detached tmpfs, named by their indexes in the list. Nodes that the
    /// runtime may not create are left out.
    MakeNodes {
        /// The slot that receives the tmpfs.
        slot: u16,
        /// The nodes.
        nodes: Vec<NewNode>,
    },
    /// Sets the propagation of all mounts, so that new mounts do not propagate to the host.
    SetPropagation(Propagation),
    /// Makes a tree of the host the container's root.
    Root {
        /// The tree.
        source: Source,
        /// Whether with the mounts below it.
        recursive: bool,
        /// Where it is attached.
        at: AttachPoint,
        /// Changes of its attributes and propagation, before it is attached.
        changes: Vec<Change>,
    },
    /// Makes an overlay of directories of the host the container's root.
    RootOverlay {
        /// The directories, topmost first.
        layers: Vec<CString>,
        /// Whether with a writable tmpfs layer on top.
        ephemeral: bool,
        /// Whether the overlay uses `user.*` attributes, as it must in a user namespace.
        userxattr: bool,
        /// Where it is attached.
        at: AttachPoint,
    },
    /// Uses a directory of the host without a mount: there is no mount namespace.
    RootDirectory(CString),
    /// Attaches a copy of a tree of the host or of the container.
    Bind {
        /// The tree.
        source: Source,
        /// Whether with the mounts below it.
        recursive: bool,
        /// The destination.
        target: Target,
        /// Whether it must be a procfs, because it is mounted on `/proc`.
        procfs: bool,
        /// Changes of its attributes and propagation.
        changes: Vec<Change>,
    },
    /// Creates a file system and attaches it.
    Mount {
        /// The file system.
        filesystem: Filesystem,
        /// The destination.
        target: Target,
        /// Changes that fsmount(2) cannot make.
        changes: Vec<Change>,
    },
    /// Creates an overlay of directories of the host and attaches it.
    Overlay {
        /// The overlay.
        overlay: Overlay,
        /// The destination.
        target: Target,
        /// Changes that fsmount(2) cannot make.
        changes: Vec<Change>,
    },
    /// Mounts with mount(2), for flags and long values that fsconfig(2) does not accept.
    LegacyMount {
        /// Type of the file system.
        fstype: CString,
        /// Its source.
        source: CString,
        /// `MS_*`.
        flags: u64,
        /// The options of the file system, separated by commas.
        data: CString,
        /// The destination.
        target: Target,
        /// Changes that mount(2) cannot make in the same call.
        changes: Vec<Change>,
    },
    /// Changes the mount at a path.
    Remount {
        /// The path in the container.
        target: Target,
        /// New options of the superblock; `None` to change the mount alone.
        settings: Option<Vec<FsOption>>,
        /// Changes of the attributes and propagation of the mount.
        changes: Vec<Change>,
    },
    /// Lazily unmounts what is mounted at a path (MNT_DETACH).
    Unmount(Target),
    /// Creates a symbolic link.
    Symlink {
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// Target of the link.
        points_to: CString,
        /// Whether an existing file is replaced.
        replace: bool,
    },
    /// Creates a device node or a FIFO.
    Node {
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// The device.
        device: Device,
        /// Permission bits.
        mode: u32,
        /// Owner in the container.
        uid: u32,
        /// Group in the container.
        gid: u32,
    },
    /// Attaches the tmpfs of [`Action::MakeNodes`] over `/`: before Linux 6.15 a part of a mount
    /// can only be copied while that is attached. Absolute paths still start in the root below it,
    /// and the mount namespace has no other process yet.
    AttachNodes {
        /// The slot that holds the tmpfs.
        slot: u16,
    },
    /// Detaches it again; bound nodes stay.
    DetachNodes {
        /// The slot that holds the tmpfs.
        slot: u16,
    },
    /// Bind mounts a device node that was created outside, or the host's: in a user namespace none
    /// can be created.
    BindNode {
        /// The slot of the tmpfs and the name in it; if that does not exist the host's node is
        /// used.
        made: Option<(u16, CString)>,
        /// The node's path on the host.
        source: CString,
        /// Directory in the container.
        directory: Target,
        /// Name in that directory.
        name: CString,
        /// The device that the node must be.
        device: Device,
    },
    /// Opens a pseudoterminal of the container's own devpts and makes it `/dev/console`.
    Console {
        /// Lines and columns, if they are configured.
        size: Option<(u16, u16)>,
        /// The slot for the pty master.
        master: u16,
        /// The slot for the terminal of the process.
        terminal: u16,
        /// The policy of the lookup of `/dev/console`.
        policy: LookupPolicy,
    },
    /// Opens a pseudoterminal of the devpts in the present root.
    Terminal {
        /// Lines and columns, if they are configured.
        size: Option<(u16, u16)>,
        /// The slot for the pty master.
        master: u16,
        /// The slot for the terminal of the process.
        terminal: u16,
    },
    /// Unmounts a procfs or sysfs of the host, or covers it with an empty tmpfs.
    CoverHostMount(CString),
    /// pivot_root(2) into the container's root, and detaches the old root.
    Pivot,
    /// chroot(2) into the container's root.
    Chroot {
        /// Whether it is moved onto `/` before.
        move_to_root: bool,
    },
    /// Makes the mount at a path read-only.
    ReadOnlyMount(CString),
    /// Covers a path with an empty directory or with the null device.
    Mask(CString),
    /// Covers a path with a read-only bind mount of itself.
    ReadOnlyPath(CString),
    /// Makes the container's root mount read-only.
    ReadOnlyRoot,
    /// Sets the propagation of the container's root.
    SetRootPropagation {
        /// The propagation.
        propagation: Propagation,
        /// Whether with the mounts below it.
        recursive: bool,
    },
}

/// How the ids of a mount's files are mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMaps {
    /// These maps.
    Lines {
        /// Lines of a uid_map (user_namespaces(7)).
        uids: String,
        /// Lines of a gid_map.
        gids: String,
    },
    /// The maps of the user namespace in this slot.
    Namespace(u16),
}

/// A device node that the runtime creates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// The device.
    pub device: Device,
    /// Permission bits.
    pub mode: u32,
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
}

/// The source of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A path in the container's root, looked up when the operation is performed: an earlier mount
    /// covers it.
    Inside(CString),
    /// A path of the host, looked up when the operation is performed.
    Path(CString),
    /// A detached mount in a slot.
    Slot(u16),
}

/// Where the container's root is attached before it becomes the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachPoint {
    /// On a directory of the host.
    Directory(CString),
    /// Over `/`, which needs no path that the container's root user may be unable to reach.
    /// Absolute paths still start in the old root: a mount on `/` does not affect them
    /// (path_resolution(7)).
    StackOnRoot,
}

/// A destination in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A normalized absolute path.
    pub path: CString,
    /// The policy of its lookup.
    pub policy: LookupPolicy,
}

/// What the lookup of a [`Target`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LookupPolicy {
    /// Symbolic links inside the root, but not into a procfs.
    OutsideProc,
    /// Symbolic links inside the root, also into procfs, for the files that lxcfs covers.
    Proc,
    /// No symbolic links: procfs and sysfs must really be at their paths.
    NoLinks,
    /// No symbolic links, and nothing is created: the destination is in the devtmpfs of the host.
    MustExist,
}

/// A file system to create with fsopen(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Its type.
    pub fstype: CString,
    /// Its source, a device or a name.
    pub source: Option<CString>,
    /// Its options.
    pub settings: Vec<FsOption>,
    /// `MOUNT_ATTR_*` of its mount.
    pub attributes: u64,
    /// Whether its root directory gets the mode of the directory that it covers.
    pub inherit_mode: bool,
    /// Whether the content of the covered directory is copied into it.
    pub copy_up: bool,
    /// The same for mount(2), if that can express it all.
    pub mount2: Option<ClassicMount>,
}

/// Arguments of mount(2): one call, instead of one fsconfig(2) for each option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicMount {
    /// `MS_*`.
    pub flags: u64,
    /// The options of the file system, separated by commas.
    pub data: CString,
}

/// An overlay in an entry of `mounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Its source, only a name.
    pub source: Option<CString>,
    /// Lower directories, topmost first.
    pub layers: Vec<Layer>,
    /// All other options.
    pub settings: Vec<FsOption>,
    /// `MOUNT_ATTR_*` of its mount.
    pub attributes: u64,
}

/// One lower directory of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The directory.
    pub path: CString,
    /// Whether it is a data-only layer.
    pub data_only: bool,
}

/// One option of a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FsOption {
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
    /// Whether for the mounts below too.
    pub recursive: bool,
}

/// The device of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

impl Change {
    /// The change of a single mount, for mount_setattr(2).
    pub(crate) const fn attr(&self) -> davit_sys::mount::Change {
        davit_sys::mount::Change {
            set: Attr::from_bits(self.set),
            clear: Attr::from_bits(self.clear),
            propagation: self.propagation,
        }
    }
}

impl Op {
    pub(crate) fn new(field: impl Into<Field>, subject: Subject, action: Action) -> Self {
        Self { origin: Origin { field: field.into(), subject }, action }
    }

    /// When the operation is performed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.action.phase()
    }
}

impl Action {
    /// When the operation is performed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self {
            Self::CloneSource { .. } | Self::MapIds { .. } | Self::MakeNodes { .. } => {
                Phase::Outside
            }
            Self::SetPropagation(_)
            | Self::Root { .. }
            | Self::RootOverlay { .. }
            | Self::RootDirectory(_)
            | Self::Bind { .. }
            | Self::Mount { .. }
            | Self::Overlay { .. }
            | Self::LegacyMount { .. }
            | Self::Remount { .. }
            | Self::Unmount(_)
            | Self::Symlink { .. }
            | Self::Node { .. }
            | Self::AttachNodes { .. }
            | Self::DetachNodes { .. }
            | Self::BindNode { .. }
            | Self::Console { .. }
            | Self::Terminal { .. } => Phase::Build,
            Self::CoverHostMount(_)
            | Self::Pivot
            | Self::Chroot { .. }
            | Self::ReadOnlyMount(_)
            | Self::Mask(_)
            | Self::ReadOnlyPath(_)
            | Self::ReadOnlyRoot
            | Self::SetRootPropagation { .. } => Phase::Enter,
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
