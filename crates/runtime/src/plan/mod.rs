//! Everything that will be done, decided before anything is done.

mod cgroup;
mod create;
mod exec;
mod mounts;
mod program;
mod seccomp;
mod spec;
mod way;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cgroups::resctrl::Group;
use namespaces::net_devices::Move;
use namespaces::{IdMaps, Kind};
use oci_spec::runtime::{BoxBuilder, Process};

use crate::annotations::HookOutput;
use crate::hook::Hook;
use crate::step::InitPlan;

pub use cgroup::request as cgroup_request;
pub use create::{Inputs, create};
pub use exec::{Base, ExecInputs, exec};
pub use mounts::Change;
pub(crate) use mounts::{MountsInputs, mounts};
pub use seccomp::RECEIVER;
pub use spec::kinds;

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

/// What the command line says of a new process, of create, run and exec alike.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// How many descriptors from 3 up the user's program gets.
    pub preserve_fds: u32,
    /// Socket units' descriptors among them, and their names (sd_listen_fds(3)).
    pub listen_fds: Option<ListenFds>,
    /// No session keyring of its own.
    pub no_new_keyring: bool,
    /// Tells rows and columns of the caller's terminal, for a process whose terminal has no size.
    pub terminal_size: Option<fn() -> Option<TerminalSize>>,
    /// The terminal's output goes through the caller's own terminal, which adds carriage returns.
    pub plain_newlines: bool,
}

impl ProcessOptions {
    /// How many descriptors from 3 up the user's program gets, whoever they come from.
    #[must_use]
    pub fn preserved(&self) -> u32 {
        self.preserve_fds + self.listen_fds.as_ref().map_or(0, |listen| listen.count)
    }
}

/// Gives a terminal that says no size that of the caller's.
pub fn fit_terminal(process: &mut Process, options: &ProcessOptions) {
    if let (Some(true), None, Some(size)) =
        (process.terminal(), process.console_size(), options.terminal_size)
        && let Some((rows, columns)) = size()
    {
        // The builder refuses nothing of a struct whose fields have defaults.
        let size = BoxBuilder::default().height(rows).width(columns).build().ok();
        process.set_console_size(size);
    }
}

/// Descriptors of socket activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenFds {
    /// How many.
    pub count: u32,
    /// `LISTEN_FDNAMES`
    pub names: Option<String>,
}

/// What the command line says of a new container.
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
    /// What init does.
    pub init: InitPlan,
    /// Namespaces that the first process is born into.
    pub born: Vec<Kind>,
    /// Id maps of its user namespace.
    pub id_maps: Option<IdMaps>,
    /// Network devices that are moved to it when it asks for them.
    pub moves: Vec<Move>,
    /// How its cgroup is made.
    pub cgroup: Vec<cgroups::Op>,
    /// Its group of resctrl, and how that is made.
    pub resctrl: Option<(Group, Vec<cgroups::resctrl::Op>)>,
    /// Mount sources that the runtime opens before the user namespace is entered.
    pub outside: Vec<rootfs::Op>,
    /// Hard limits that only the runtime may raise, as kernel number, soft and hard limit.
    pub raise: Vec<privileges::Op>,
    /// Whether the caller's groups stay the container's.
    pub(crate) keep_groups: bool,
    /// Whether its user namespace lets processes set groups.
    pub(crate) setgroups: bool,
    /// Where hooks print to.
    pub(crate) hook_output: HookOutput,
    /// Hooks that the runtime runs before the root changes, with the status that each is told.
    pub hooks: Vec<(Hook, &'static str)>,
    /// The agent that its filter notifies.
    pub listener: Option<::seccomp::Listener>,
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
    /// What was asked for and cannot be given, where the spec wants no failure.
    pub warnings: Vec<String>,
    /// Whether it has no mount namespace of its own.
    pub shares_mounts: bool,
}
