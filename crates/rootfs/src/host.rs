//! Input of planning beside config.json.

use std::path::PathBuf;

/// Facts of the host, and options of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The bundle, as an absolute path.
    pub bundle: PathBuf,
    /// The container gets or joins a user namespace, or we ourselves are in one: device nodes
    /// cannot be made, and overlays must keep their notes in `user.*` attributes.
    pub user_namespace: bool,
    /// The runtime may mount in its own namespace (`CAP_SYS_ADMIN` there), so that it can open
    /// sources which the container's root could not reach.
    pub privileged_parent: bool,
    /// The runtime may make device nodes (`CAP_MKNOD` in the first user namespace), also those that
    /// a user namespace of the container's forbids to make.
    pub makes_nodes: bool,
    /// The slot of the user namespace that the container joins.
    pub joined_user_namespace: Option<u16>,
    /// Where the container's cgroup is; `None` where the host has no cgroups. Asked only for a
    /// mount of type `cgroup`.
    pub cgroups: Option<Cgroups>,
    /// The slots for a new pseudoterminal, where `process.terminal` is set.
    pub console: Option<Console>,
    /// `--no-pivot`: chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// With `no_pivot`: where procfs and sysfs are mounted (see [`crate::proc_and_sys`]).
    pub proc_and_sys: Vec<PathBuf>,
    /// `--ephemeral`: the same as the annotation [`crate::EPHEMERAL`].
    pub ephemeral: bool,
    /// SELinux is on. Asked only for `linux.mountLabel`.
    pub selinux: bool,
    /// The option as which `linux.mountLabel` is given.
    pub mount_context: ContextType,
    /// `/dev` in the directory root.path is the host's own: root.path is `/`, or has a bind of it
    /// there.
    pub shares_dev: bool,
    /// The first slot that this crate may use for sources it opens in the parent.
    pub first_slot: u16,
}

/// Which context of a mount a label is (mount(8), "context=").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextType {
    /// That of every file in it.
    #[default]
    Context,
    /// That of the file system itself.
    Fscontext,
    /// That of files which have none.
    Defcontext,
    /// That of its root directory.
    Rootcontext,
}

impl ContextType {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Context, Self::Fscontext, Self::Defcontext, Self::Rootcontext];

    /// The option of a mount.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Fscontext => "fscontext",
            Self::Defcontext => "defcontext",
            Self::Rootcontext => "rootcontext",
        }
    }
}

/// Slots that receive the two sides of the container's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// The side that the caller keeps.
    pub master: u16,
    /// The side that is the process's terminal.
    pub terminal: u16,
}

/// The cgroup hierarchies of the host, with the container's place in those of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// One hierarchy of version 2.
    Unified {
        /// Where it is mounted, usually `/sys/fs/cgroup`.
        mountpoint: PathBuf,
    },
    /// Hierarchies of version 1, and perhaps one of version 2 beside them.
    Several(Vec<Hierarchy>),
}

/// One of several cgroup hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted, such as `/sys/fs/cgroup/cpu,cpuacct`.
    pub mountpoint: PathBuf,
    /// The container's cgroup in it.
    pub path: PathBuf,
    /// Its controllers (`cpu`, `cpuacct`) or its name (`name=systemd`); none for version 2.
    pub controllers: Vec<String>,
}
