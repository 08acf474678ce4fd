//! A running container and a process -> the plan of `exec`.

use namespaces::Kind;
use oci_spec::runtime::{LinuxDeviceCgroup, Process};
use privileges::affinity::Affinity;
use privileges::capability;
use serde::{Deserialize, Serialize};

use super::ProcessOptions;
use super::program::{Confinement, sections, session};
use crate::bundle::from_json;
use crate::check::check_process;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::slot;
use crate::step::{InitPlan, Op, Section};

/// What `exec` and `update` must know of the configuration that the container was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Base {
    /// `process` of config.json.
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

impl Base {
    /// JSON looks at each byte of a text, and an environment may be large: it stands beside it.
    ///
    /// # Errors
    /// None that is known.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        let env = self.process.env_mut().take();
        let json = serde_json::to_string(&self).map_err(|error| Error::new(error.to_string()))?;
        postcard::to_stdvec(&(env, json)).map_err(|error| Error::new(error.to_string()))
    }

    /// What [`Base::encode`] made.
    ///
    /// # Errors
    /// Bytes of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (env, json): (_, &str) =
            postcard::from_bytes(bytes).map_err(|error| Error::new(error.to_string()))?;
        let mut base: Self = from_json(json.as_bytes())?;
        base.process.set_env(env);
        Ok(base)
    }
}

/// All that a plan is made from.
pub struct ExecInputs<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The process to run.
    pub process: &'a Process,
    /// The container's configuration.
    pub base: &'a Base,
    /// The namespaces to join.
    pub kinds: &'a [Kind],
    /// The container's init.
    pub init: i32,
    /// The container's system call filter.
    pub seccomp: &'a [seccomp::Op],
    /// How many files of cgroup v1 are entered through.
    pub legacy_cgroups: u16,
    /// What this user can do.
    pub host: &'a Host,
    /// What the command line says.
    pub options: &'a ProcessOptions,
}

/// Plans a further process of a running container.
///
/// # Errors
/// The first field that cannot be applied.
pub fn exec(inputs: &ExecInputs<'_>) -> Result<InitPlan> {
    let ExecInputs { id, process, base, kinds, init, seccomp, host, options, .. } = *inputs;
    check_process(process, "process")?;
    let user_namespace = kinds.contains(&Kind::User);
    let confinement = Confinement {
        process,
        personality: base.personality.as_ref(),
        memory_policy: base.memory_policy.as_ref(),
        seccomp: seccomp.to_vec(),
        privileges: privileges::Host {
            grantable: if user_namespace { capability::ALL } else { host.permitted },
            setgroups: base.setgroups,
            keep_groups: base.keep_groups,
            security: host.security(process),
            keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
        },
        options,
    };
    let (last, _) = sections(confinement)?;
    let numbers = slot::CGROUP..slot::CGROUP + inputs.legacy_cgroups;
    let mut launch: Vec<_> = numbers.map(|slot| namespaces::Op::EnterCgroup { slot }).collect();
    launch.extend(process.oom_score_adj().map(namespaces::Op::OomScoreAdj));
    let mut list = vec![
        Section::Namespaces(launch),
        Section::Process(vec![
            Op::Stage(c"davit:exec".to_owned()),
            Op::DieWithRuntime,
            Op::DefaultSignals,
        ]),
        Section::Namespaces(namespaces::join_running(kinds, slot::PROCESS)),
        Section::Process(vec![Op::DieWithRuntime]),
    ];
    if !kinds.contains(&Kind::Mount) {
        // No mount namespace brings its root along. The container's is open before a namespace is
        // joined: by then init is alive still, and the pid is its own.
        let [open, enter] = rootfs::root_of(init);
        list.insert(1, Section::Rootfs(vec![open]));
        list.push(Section::Rootfs(vec![enter]));
    }
    if process.terminal() == Some(true) {
        let console = rootfs::Console { master: slot::MASTER, terminal: slot::TERMINAL };
        list.push(Section::Rootfs(vec![rootfs::exec_terminal(process, console)?]));
        let plain_newlines = options.plain_newlines;
        let send = Op::SendConsole { slot: slot::MASTER, plain_newlines };
        list.push(Section::Process(vec![send]));
    }
    list.push(Section::Privileges(Affinity::of(process)?.after.into_iter().collect()));
    list.push(Section::Process(session(process)));
    list.extend(last);
    Ok(InitPlan { sections: list, channel: -1, slots: Vec::new(), preserved: options.preserved() })
}
