//! Planning: every operation is decided before the first is performed.

mod cgroup;
mod create;
mod exec;
mod failure;
pub(crate) mod hint;
mod init;
mod init_plan;
mod mounts;
mod process;
mod seccomp;
mod spec;
mod staged;
mod start_mode;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;

use davit_cgroups::resctrl::Group;
use davit_namespaces::net_devices::Move;
use davit_namespaces::{IdMaps, Kind};

use crate::hook::{Hook, HookOutput};

pub use cgroup::request as cgroup_request;
pub use create::{Inputs, create};
pub use exec::{CgroupEntry, ExecConfig, ExecInputs, exec};
pub(crate) use failure::apply_outside;
pub use init_plan::{InitInput, InitPlan, Op, Section, Supervision};
pub use mounts::Change;
pub(crate) use mounts::{MountsInputs, mounts};
pub(crate) use staged::staged;

pub use spec::kinds;
pub use start_mode::StartMode;

/// Which cgroup driver makes the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime writes the cgroup file system.
    #[default]
    Cgroupfs,
    /// systemd makes it, as that of a transient unit.
    Systemd,
    /// The container stays in the caller's cgroup.
    Disabled,
}

/// Rows and columns.
pub type TerminalSize = (u16, u16);

/// The options of a new process, for create, run and exec.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// Open descriptors of the caller that the process gets, each under its own number.
    pub descriptors: Vec<RawFd>,
    /// Socket units' descriptors among them, and their names (sd_listen_fds(3)).
    pub listen_fds: Option<ListenFds>,
    /// No session keyring of its own.
    pub no_new_keyring: bool,
    /// Returns rows and columns of the caller's terminal, for a process whose terminal has no size.
    pub terminal_size: Option<fn() -> Option<TerminalSize>>,
    /// The terminal's output goes through the caller's own terminal, which adds carriage returns.
    pub plain_newlines: bool,
}

/// Descriptors of socket activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenFds {
    /// How many.
    pub count: u32,
    /// `LISTEN_FDNAMES`
    pub names: Option<String>,
}

/// The options of a new container.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Of its process.
    pub process: ProcessOptions,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--ephemeral`
    pub ephemeral: bool,
    /// `--cgroup-manager`
    pub cgroup_manager: CgroupManager,
    /// Start at once (`run`) instead of waiting for `start`.
    pub start_at_once: bool,
}

/// The plan of a new container: the runtime's part and init's part.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it starts.
    pub start: StartMode,
    /// The operations of init.
    pub init: Rc<InitPlan>,
    /// How the runtime accompanies init.
    pub supervision: Supervision,
    /// Namespaces that the first process is created in.
    pub clone_namespaces: Vec<Kind>,
    /// Id maps of its user namespace.
    pub id_maps: Option<IdMaps>,
    /// Network devices that are moved to it when it asks for them.
    pub moves: Vec<Move>,
    /// The operations that make its cgroup.
    pub cgroup: Vec<davit_cgroups::Op>,
    /// Its resctrl group, and the operations that make it.
    pub resctrl: Option<(Group, Vec<davit_cgroups::resctrl::Op>)>,
    /// Mount sources that the runtime opens before the user namespace is entered.
    pub outside: Vec<davit_rootfs::Op>,
    /// Hard limits that only the runtime may raise, as kernel number, soft and hard limit.
    pub raise: Vec<davit_privileges::Op>,
    /// Whether the caller's groups stay the container's.
    pub(crate) keep_groups: bool,
    /// Whether its user namespace lets processes set groups.
    pub(crate) setgroups: bool,
    /// The output of hooks.
    pub(crate) hook_output: HookOutput,
    /// Hooks that the runtime runs before the root changes, with the status in the state of each.
    pub hooks: Vec<(Hook, &'static str)>,
    /// The agent that its filter notifies.
    pub listener: Option<davit_seccomp::Listener>,
    /// Hooks after the start.
    pub poststart: Vec<Hook>,
    /// Hooks after the end.
    pub poststop: Vec<Hook>,
    /// The container's root, as a path on the host.
    pub rootfs: PathBuf,
    /// Annotations of config.json.
    pub annotations: BTreeMap<String, String>,
    /// Whether it has a pid namespace of its own.
    pub own_pid_namespace: bool,
    /// Warnings: fields that cannot be applied where the specification wants no error.
    pub warnings: Vec<String>,
    /// Whether it has no mount namespace of its own.
    pub shares_mounts: bool,
}
