//! The operations of a new container's init, from clone3 to where it waits for `start`.

use std::ffi::{CStr, CString};

use oci_spec::runtime::{Process, Spec};

use super::process;
use super::{CreateOptions, StartMode};
use crate::error::{Error, Result};
use crate::hook::{self, Hook, HookPoint, OutputSlots};
use crate::plan::{Op, Section};
use crate::slot;
use crate::state::WAITING_NAME;

/// The state that a hook in the container reads, before and after the pid.
pub(super) type HookState<'a> = &'a dyn Fn(HookPoint) -> (String, String);

/// The parts of the sequence.
pub(super) struct InitSequence<'a> {
    pub(super) spec: &'a Spec,
    pub(super) process: &'a Process,
    pub(super) options: &'a CreateOptions,
    /// The signals that the runtime and its caller ignore.
    pub(super) ignored_signals: u64,
    pub(super) cgroup: &'a [davit_cgroups::Op],
    pub(super) namespaces: &'a davit_namespaces::Plan,
    pub(super) rootfs: Vec<davit_rootfs::Op>,
    /// Whether the runtime has hooks to run before the root changes, or must know that this point
    /// was reached: poststop hooks are then due, even if the creation fails.
    pub(super) runtime_hooks_due: bool,
    /// The output of hooks in the container.
    pub(super) hook_output: OutputSlots,
    pub(super) hook_state: HookState<'a>,
}

impl InitSequence<'_> {
    /// The sections up to the confinement, with these createContainer hooks.
    pub(super) fn sections(&mut self, hooks: Vec<Op>, start: &StartMode) -> Result<Vec<Section>> {
        let [outside, build, _] = davit_rootfs::phases(&self.rootfs);
        let enter = self.rootfs.split_off(outside.len() + build.len());
        let build = std::mem::take(&mut self.rootfs);
        let mut begin =
            vec![Op::SetParentDeathSignal, Op::ResetSignals { ignored: self.ignored_signals }];
        let mut entered = vec![stage(c"davit:root")];
        if !self.namespaces.enter.is_empty() {
            begin.insert(0, stage(c"davit:ns"));
            // The second process does not inherit the parent death signal of the first.
            entered.push(Op::SetParentDeathSignal);
        }
        Ok(vec![
            Section::Namespaces(self.launch()),
            Section::Privileges(vec![davit_privileges::Op::ResetAffinity]),
            Section::Process(begin),
            Section::Namespaces(self.namespaces.enter.clone()),
            Section::Process(entered),
            Section::Namespaces(self.configure()),
            Section::Rootfs(build),
            Section::Process(self.before_root(hooks)?),
            Section::Rootfs(enter),
            Section::Process(self.in_root(*start == StartMode::Immediate)?),
        ])
    }

    /// The operations between the root and the confinement. Where init does not wait for `start`,
    /// execve(2) itself tells whether there is a program.
    fn in_root(&self, executes_at_once: bool) -> Result<Vec<Op>> {
        let mut ops: Vec<Op> = process::session(self.process).into_iter().collect();
        match executes_at_once {
            true => ops.push(Op::AwaitIdentity),
            false => ops.extend(process::find(self.process)?),
        }
        Ok(ops)
    }

    /// The operations before init is executed: it is in the cgroup from the start, and the runtime
    /// can still write /proc/self.
    fn launch(&self) -> Vec<davit_namespaces::Op> {
        let is_legacy = |op: &&davit_cgroups::Op| matches!(op, davit_cgroups::Op::Make { controllers, .. } if !controllers.is_empty());
        let trees = self.cgroup.iter().filter(is_legacy).count();
        let slots = (slot::CGROUP..).take(trees);
        let mut ops: Vec<_> =
            slots.map(|slot| davit_namespaces::Op::EnterCgroup { slot }).collect();
        if self.cgroup.iter().any(davit_cgroups::Op::needs_process) {
            ops.push(davit_namespaces::Op::AwaitCgroup);
        }
        ops.extend(self.process.oom_score_adj().map(davit_namespaces::Op::OomScoreAdj));
        ops.extend(self.namespaces.launch.iter().cloned());
        ops
    }

    /// The cgroup namespace begins at the container's cgroup; the process then moves into the
    /// subgroup.
    fn configure(&self) -> Vec<davit_namespaces::Op> {
        let own =
            self.cgroup.iter().any(|op| matches!(op, davit_cgroups::Op::CreateSubgroup { .. }));
        let own = own.then_some(davit_namespaces::Op::EnterCgroup { slot: slot::DELEGATED });
        self.namespaces.configure.iter().cloned().chain(own).collect()
    }

    /// The operations between the mounts and pivot_root.
    fn before_root(&self, hooks: Vec<Op>) -> Result<Vec<Op>> {
        let mut ops = Vec::new();
        if self.process.terminal() == Some(true) {
            let plain_newlines = self.options.process.plain_newlines;
            ops.push(Op::SendConsole { slot: slot::MASTER, plain_newlines });
        }
        if self.runtime_hooks_due {
            ops.push(Op::RuntimeHooks);
        }
        ops.extend(hooks);
        // Before the root becomes read-only, and in mounts that hooks may have made.
        ops.extend(process::make_working_directory(self.process)?);
        Ok(ops)
    }

    /// The operations between "created" and the start. The container of a `run` is never seen as
    /// created.
    pub(super) fn wait(&self, start: &StartMode) -> Result<Vec<Op>> {
        let name = CString::new(WAITING_NAME).map_err(|_| Error::new("name of init"))?;
        let await_start = Op::AwaitStart { command: slot::START, answer: slot::ANSWER };
        Ok(match start {
            StartMode::WaitForStart => vec![Op::Stage(name), Op::Created, await_start],
            StartMode::StopAtCreated(_) => vec![Op::Created],
            StartMode::Immediate => vec![],
        })
    }

    /// Whether the runtime must act on messages of init before it is created or executes the
    /// program: to answer them, or to pass on the terminal, whose receiver sets its size.
    pub(super) fn acts_on_messages(&self) -> bool {
        let davit_namespaces::Plan { enter, configure, .. } = self.namespaces;
        self.runtime_hooks_due
            || self.process.terminal() == Some(true)
            || self
                .launch()
                .iter()
                .chain(enter)
                .chain(configure)
                .any(davit_namespaces::Op::needs_runtime)
    }

    /// The hooks in the container at one point. A startContainer hook without an environment has
    /// that of the user's program, as with runc and crun.
    pub(super) fn hooks(&self, point: HookPoint) -> Result<Vec<Op>> {
        let run = |mut hook: Hook| {
            let (state_before_pid, state_after_pid) = (self.hook_state)(point);
            let inherits_env = point == HookPoint::StartContainer && hook.env.is_empty();
            if inherits_env {
                hook.env = process::environment(self.process, &self.options.process)?;
            }
            let output = self.hook_output;
            Ok(Op::Hook { hook, point, inherits_env, state_before_pid, state_after_pid, output })
        };
        hook::plan(self.spec, point)?.into_iter().map(run).collect()
    }
}

fn stage(name: &CStr) -> Op {
    Op::Stage(name.to_owned())
}
