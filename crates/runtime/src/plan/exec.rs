//! A running container and a process -> the plan of `exec`.

use davit_namespaces::Kind;
use davit_privileges::affinity::Affinity;
use davit_privileges::capability;
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
use crate::state::PlanFile;

/// The part of the container's configuration that `exec` and `update` need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecConfig {
    /// `process` of config.json.
    #[serde(deserialize_with = "crate::config::file::process")]
    pub process: Process,
    /// `linux.personality`
    pub personality: Option<oci_spec::runtime::LinuxPersonality>,
    /// `linux.memoryPolicy`
    #[serde(default)]
    pub memory_policy: Option<oci_spec::runtime::LinuxMemoryPolicy>,
    /// The namespaces in which the container differs from the runtime.
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
    /// Whether its plan has a system call filter.
    #[serde(default)]
    pub has_filter: bool,
}

impl ExecConfig {
    /// The bytes for `PlanFile`. The environment, which may be large, is no part of the JSON text:
    /// JSON looks at each byte.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        let env = self.process.env_mut().take();
        let json = serde_json::to_string(&self).map_err(|error| Error::new(error.to_string()))?;
        postcard::to_stdvec(&(env, json)).map_err(|error| Error::new(error.to_string()))
    }

    /// The configuration in a container's plan file.
    ///
    /// # Errors
    /// The file is of another version of davit, or damaged.
    pub(crate) fn read(file: &PlanFile) -> Result<Self> {
        Self::decode(file.exec_config()).within(|| PlanFile::NAME)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let (env, json): (_, &str) =
            postcard::from_bytes(bytes).map_err(|error| Error::new(error.to_string()))?;
        let mut base: Self = from_json(json.as_bytes())?;
        base.process.set_env(env);
        Ok(base)
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
