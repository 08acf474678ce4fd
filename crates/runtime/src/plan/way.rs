//! The way of a new container's init, from its birth to the word `start`.

use std::ffi::{CStr, CString};

use oci_spec::runtime::{Process, Spec};

use super::CreateOptions;
use super::program;
use crate::error::{Error, Result};
use crate::hook::{self, Moment, OutputSlots};
use crate::slot;
use crate::state::WAITING_NAME;
use crate::step::{Op, Section};

/// What the state of hooks inside says, before and after the pid.
pub(super) type Told<'a> = &'a dyn Fn(Moment) -> (String, String);

/// What the way is made of.
pub(super) struct Way<'a> {
    pub(super) spec: &'a Spec,
    pub(super) process: &'a Process,
    pub(super) options: &'a CreateOptions,
    pub(super) cgroup: &'a [cgroups::Op],
    pub(super) namespaces: &'a namespaces::Plan,
    pub(super) rootfs: Vec<rootfs::Op>,
    /// Whether the runtime has hooks to run before the root changes, or must know that it came to
    /// that: hooks after the end are then due, whatever happens.
    pub(super) tells_when_built: bool,
    /// Where hooks inside print to.
    pub(super) hook_output: OutputSlots,
    pub(super) told: Told<'a>,
}

impl Way<'_> {
    /// The sections up to the last hook before the user's program.
    pub(super) fn sections(mut self) -> Result<Vec<Section>> {
        let [outside, build, _] = rootfs::phases(&self.rootfs);
        let enter = self.rootfs.split_off(outside.len() + build.len());
        let build = std::mem::take(&mut self.rootfs);
        let mut begin = vec![Op::DieWithRuntime, Op::DefaultSignals];
        let mut entered = vec![stage(c"davit:root")];
        if !self.namespaces.enter.is_empty() {
            begin.insert(0, stage(c"davit:ns"));
            // The death signal of the first process is not that of a second one.
            entered.push(Op::DieWithRuntime);
        }
        Ok(vec![
            Section::Namespaces(self.launch()),
            Section::Privileges(vec![privileges::Op::AnyProcessor]),
            Section::Process(begin),
            Section::Namespaces(self.namespaces.enter.clone()),
            Section::Process(entered),
            Section::Namespaces(self.configure()),
            Section::Rootfs(build),
            Section::Process(self.before_root()?),
            Section::Rootfs(enter),
            Section::Process(self.waiting()?),
        ])
    }

    /// What is done before init executes: in the cgroup from the start, and while /proc/self is
    /// still the runtime's to write.
    fn launch(&self) -> Vec<namespaces::Op> {
        let is_legacy = |op: &&cgroups::Op| matches!(op, cgroups::Op::Make { controllers, .. } if !controllers.is_empty());
        let trees = self.cgroup.iter().filter(is_legacy).count();
        let slots = (slot::CGROUP..).take(trees);
        let mut ops: Vec<_> = slots.map(|slot| namespaces::Op::EnterCgroup { slot }).collect();
        if self.cgroup.iter().any(cgroups::Op::wants_process) {
            ops.push(namespaces::Op::AwaitCgroup);
        }
        ops.extend(self.process.oom_score_adj().map(namespaces::Op::OomScoreAdj));
        ops.extend(self.namespaces.launch.iter().cloned());
        ops
    }

    /// The cgroup namespace begins at the container's cgroup; its process is in one below.
    fn configure(&self) -> Vec<namespaces::Op> {
        let own = self.cgroup.iter().any(|op| matches!(op, cgroups::Op::Own { .. }));
        let own = own.then_some(namespaces::Op::EnterCgroup { slot: slot::DELEGATED });
        self.namespaces.configure.iter().cloned().chain(own).collect()
    }

    /// Between the tree of mounts and the change of root.
    fn before_root(&self) -> Result<Vec<Op>> {
        let mut ops = Vec::new();
        if self.process.terminal() == Some(true) {
            let plain_newlines = self.options.process.plain_newlines;
            ops.push(Op::SendConsole { slot: slot::MASTER, plain_newlines });
        }
        if self.tells_when_built {
            ops.push(Op::RuntimeHooks);
        }
        ops.extend(self.hooks(Moment::CreateContainer)?);
        Ok(ops)
    }

    /// From the report that the container is created to the last hook.
    fn waiting(&self) -> Result<Vec<Op>> {
        let name = CString::new(WAITING_NAME).map_err(|_| Error::new("name of init"))?;
        let mut ops = program::session(self.process);
        ops.extend(program::make_working_directory(self.process)?);
        ops.push(program::find(self.process)?);
        // `run` goes on at once: nobody ever sees its container as created.
        match self.options.start_at_once {
            true => ops.push(Op::Created),
            false => ops.extend([
                Op::Stage(name),
                Op::Created,
                Op::AwaitStart { slot: slot::START },
                stage(c"davit:start"),
            ]),
        }
        ops.extend(self.hooks(Moment::StartContainer)?);
        Ok(ops)
    }

    fn hooks(&self, moment: Moment) -> Result<Vec<Op>> {
        let run = |hook| {
            let (state_before_pid, state_after_pid) = (self.told)(moment);
            Op::Hook { hook, state_before_pid, state_after_pid, output: self.hook_output }
        };
        Ok(hook::plan(self.spec, moment)?.into_iter().map(run).collect())
    }
}

fn stage(name: &CStr) -> Op {
    Op::Stage(name.to_owned())
}
