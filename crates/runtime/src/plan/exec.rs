//! A running container and a process -> the plan of `exec`.

use davit_namespaces::Kind;
use davit_privileges::affinity::Affinity;
use davit_privileges::capability;
use davit_seccomp::StoredFilter;
use oci_spec::runtime::{LinuxDeviceCgroup, Process};
use serde::{Deserialize, Serialize};

use super::ProcessOptions;
use super::process::{Confinement, confine, session};
use super::seccomp::Filter;
use crate::config::check::check_process;
use crate::config::json::from_json;
use crate::error::{Error, Result, Within};
use crate::host::Host;
use crate::plan::{InitPlan, Op, Section, Supervision};
use crate::slot;
use crate::state::{LaterParts, Part, PlanFile};

/// The part of the container's configuration that `exec`, `update` and `mounts` need. It is stored
/// with names, because another version of davit may read it (docs/state.md).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecConfig {
    /// `process` of config.json; its environment is stored apart.
    #[serde(deserialize_with = "crate::config::file::process")]
    pub process: Process,
    /// `linux.personality`
    #[serde(default)]
    pub personality: Option<oci_spec::runtime::LinuxPersonality>,
    /// `linux.memoryPolicy`
    #[serde(default)]
    pub memory_policy: Option<oci_spec::runtime::LinuxMemoryPolicy>,
    /// The namespaces in which the container differs from the runtime.
    #[serde(rename = "namespaces")]
    pub kinds: Vec<Kind>,
    /// Whether its user namespace lets processes set groups.
    pub setgroups: bool,
    /// The annotation `run.oci.keep_original_groups`
    #[serde(default)]
    pub keep_groups: bool,
    /// `linux.mountLabel`
    #[serde(default)]
    pub mount_label: Option<String>,
    /// `linux.resources.devices`
    #[serde(default)]
    pub devices: Vec<LinuxDeviceCgroup>,
    /// Its system call filters; the instructions are stored apart.
    #[serde(default)]
    pub filters: Vec<StoredFilter>,
}

impl ExecConfig {
    /// The parts of the plan file, with the instructions of these filters. The environment, which
    /// may be large, is no part of the JSON text: JSON looks at each byte.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub(crate) fn encode(mut self, filters: &[davit_seccomp::Op]) -> Result<LaterParts> {
        let env = self.process.env_mut().take().unwrap_or_default();
        let mut environ = Vec::with_capacity(env.iter().map(|entry| entry.len() + 1).sum());
        for entry in env {
            environ.extend_from_slice(entry.as_bytes());
            environ.push(0);
        }
        let (stored, filter) = StoredFilter::of(filters);
        self.filters = stored;
        let config = serde_json::to_vec(&self).map_err(|error| Error::new(error.to_string()))?;
        Ok(LaterParts { filter, environ, config })
    }

    /// The configuration in a container's plan file.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn read(file: &PlanFile) -> Result<Self> {
        Self::decode(file).within(|| PlanFile::NAME)
    }

    fn decode(file: &PlanFile) -> Result<Self> {
        let mut config: Self = from_json(file.part(Part::Config)?)?;
        let environ = file.part(Part::Environ)?;
        let environ = str::from_utf8(environ).map_err(|_| Error::new("is damaged: environ"))?;
        config.process.set_env(Some(environ.split_terminator('\0').map(str::to_owned).collect()));
        Ok(config)
    }

    /// The container's system call filters. A container with a filter never gets a process without
    /// it.
    ///
    /// # Errors
    /// They are not whole.
    pub(crate) fn filters(&self, file: &PlanFile) -> Result<Vec<davit_seccomp::Op>> {
        let restore = || {
            let instructions = file.part(Part::Filter)?;
            StoredFilter::restore(&self.filters, instructions)
                .ok_or_else(|| Error::new("is damaged: the system call filter is not whole"))
        };
        restore().within(|| PlanFile::NAME)
    }
}

/// The inputs of a plan.
pub struct ExecInputs<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The process to run.
    pub process: &'a Process,
    /// The container's configuration.
    pub config: &'a ExecConfig,
    /// The namespaces to join.
    pub kinds: &'a [Kind],
    /// The container's init.
    pub init: i32,
    /// The container's system call filter.
    pub seccomp: &'a [davit_seccomp::Op],
    /// How its process gets into the container's cgroup.
    pub entry: CgroupEntry,
    /// The facts about host and user.
    pub host: &'a Host,
    /// The command line.
    pub options: &'a ProcessOptions,
}

/// How the process of `exec` gets into the container's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupEntry {
    /// It is created there by clone3(2), and enters cgroups v1 by their files.
    Made {
        /// `cgroup.procs` files, in the slots from `slot::CGROUP` on.
        files: u16,
    },
    /// The runtime moves it there after its last fork: at the limit of the pids controller no
    /// process can be created inside.
    Moved,
}

/// The plan of a process in a running container.
#[derive(Clone, Debug)]
pub struct ExecPlan {
    /// The operations of the process.
    pub init: InitPlan,
    /// How the runtime accompanies it.
    pub supervision: Supervision,
    /// What cannot be granted, where the specification wants a warning.
    pub warnings: Vec<String>,
}

/// Plans a process in a running container.
///
/// # Errors
/// The first field that cannot be applied.
pub fn exec(inputs: &ExecInputs<'_>) -> Result<ExecPlan> {
    let ExecInputs { process, kinds, options, .. } = *inputs;
    check_process(process, "process")?;
    let confined = confine(confinement(inputs))?;
    let join = davit_namespaces::join_running(kinds, slot::PROCESS);
    let affinity = Affinity::of(process)?.after;
    let has_terminal = process.terminal() == Some(true);
    let is_moved = inputs.entry == CgroupEntry::Moved;
    let supervision = Supervision {
        acts_on_messages: has_terminal
            || is_moved
            || join.iter().any(davit_namespaces::Op::needs_runtime),
        pins_cpu: affinity.is_some(),
        ..Supervision::default()
    };
    let mut sections = vec![Section::Namespaces(launch(inputs))];
    let root = match kinds.contains(&Kind::Mount) {
        true => None,
        // Without a mount namespace to join, the root has to be entered. It is opened before any
        // namespace is joined: init is still alive then, and the pid is its own.
        false => Some(davit_rootfs::root_of(inputs.init)?),
    };
    let (open_root, enter_root) = root.map(|[open, enter]| (open, enter)).unzip();
    sections.extend(open_root.map(|op| Section::Rootfs(vec![op])));
    sections.push(Section::Process(vec![
        Op::Stage(c"davit:exec".to_owned()),
        Op::SetParentDeathSignal,
        Op::ResetSignals { ignored: inputs.host.ignored_signals },
    ]));
    sections.push(Section::Namespaces(join));
    sections.push(Section::Process(vec![Op::SetParentDeathSignal]));
    if is_moved {
        sections.push(Section::Namespaces(vec![davit_namespaces::Op::RequestCgroup]));
    }
    sections.extend(enter_root.map(|op| Section::Rootfs(vec![op])));
    if has_terminal {
        sections.extend(terminal(process, options)?);
    }
    sections.push(Section::Privileges(affinity.into_iter().collect()));
    sections.push(Section::Process(session(process)));
    sections.extend(confined.sections);
    let preserved = options.descriptors.clone();
    let init = InitPlan { sections, filter: confined.filter, preserved };
    Ok(ExecPlan { init, supervision, warnings: confined.warnings })
}

fn confinement<'a>(inputs: &ExecInputs<'a>) -> Confinement<'a> {
    let ExecInputs { id, process, config, kinds, host, options, .. } = *inputs;
    let user_namespace = kinds.contains(&Kind::User);
    Confinement {
        process,
        personality: config.personality.as_ref(),
        memory_policy: config.memory_policy.as_ref(),
        filter: Filter::of_running(inputs.seccomp),
        wait: Vec::new(),
        hooks: Vec::new(),
        privileges: davit_privileges::Host {
            grantable: if user_namespace { capability::ALL } else { host.permitted },
            setgroups: config.setgroups,
            keep_groups: config.keep_groups,
            security: host.security(process),
            keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
        },
        options,
    }
}

/// The operations before the process executes davit's init.
fn launch(inputs: &ExecInputs<'_>) -> Vec<davit_namespaces::Op> {
    let files = match inputs.entry {
        CgroupEntry::Made { files } => files,
        CgroupEntry::Moved => 0,
    };
    let slots = slot::CGROUP..slot::CGROUP + files;
    let enter = slots.map(|slot| davit_namespaces::Op::EnterCgroup { slot });
    enter.chain(inputs.process.oom_score_adj().map(davit_namespaces::Op::OomScoreAdj)).collect()
}

fn terminal(process: &Process, options: &ProcessOptions) -> Result<[Section; 2]> {
    let console = davit_rootfs::Console { master: slot::MASTER, terminal: slot::TERMINAL };
    let plain_newlines = options.plain_newlines;
    Ok([
        Section::Rootfs(vec![davit_rootfs::exec_terminal(process, console)?]),
        Section::Process(vec![Op::SendConsole { slot: slot::MASTER, plain_newlines }]),
    ])
}
