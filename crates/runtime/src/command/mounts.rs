//! `mounts`: adds or removes mounts of a running container.

use std::path::Path;
use std::rc::Rc;

use davit_sys::{OsContext, Slots};

use super::{LOCK, exec};
use crate::config::annotations::Annotations;
use crate::config::{input, parse};
use crate::error::{Error, Result, Within};
use crate::host::Host;
use crate::id::Id;
use crate::log::warn;
use crate::plan::apply_outside;
use crate::plan::{self, Change, ExecConfig, MountsInputs, Supervision};
use crate::slot;
use crate::spawn::channel::protocol_error;
use crate::spawn::self_exe;
use crate::spawn::{self, NoEvents, Progress, Start, Started};
use crate::state::Process;
use crate::state::StateRoot;
use crate::state::Status;

/// Adds the mounts in a file to a container, or unmounts their destinations, in their order. The
/// file has the `mounts` of a config.json, as an array or as a member of an object; `-` is standard
/// input.
///
/// # Errors
/// The mount that failed; those before it stay.
pub fn mounts(root: &StateRoot, id: &Id, change: Change, file: &Path) -> Result<()> {
    let read = || parse::mounts(input::read_or_stdin(file)?);
    let (mounts, warnings) = read().within(|| file.display().to_string())?;
    warnings.into_iter().for_each(warn);
    let dir = root.get(id)?;
    let _lock = dir.lock(LOCK)?;
    let record = dir.record()?;
    Status::of_living(&record)?;
    let init = record.init.filter(Process::has_its_start_time);
    let init = init.ok_or_else(Error::not_running)?;
    let config = ExecConfig::read(&dir.plan_file()?)?;
    if !config.kinds.contains(&davit_namespaces::Kind::Mount) {
        return Err(Error::new("mounts: the container has no mount namespace of its own"));
    }
    let mountinfo = format!("/proc/{}/mountinfo", init.pid);
    let (outside, inside) = plan::mounts(MountsInputs {
        mounts,
        change,
        bundle: record.bundle.clone(),
        config: &config,
        kinds: &exec::kinds(&config, init)?,
        annotations: Annotations::of(&Some(record.annotations.into_iter().collect()))?,
        host: &Host::discover(false)?,
        mountinfo: &std::fs::read(&mountinfo).syscall("read").within(|| mountinfo)?,
    })?;
    let mut slots = Slots::default();
    let pidfd = init.pidfd()?.ok_or_else(Error::not_running)?;
    slots.put(slot::PROCESS, pidfd);
    let mut context = davit_rootfs::Context::new(slots);
    apply_outside(&outside, &mut context)?;
    let mut process = spawn::start(Start {
        file: &|bytes| self_exe::in_memory(&bytes),
        plan: Rc::new(inside),
        supervision: Supervision { stops_at_created: true, ..Supervision::default() },
        is_further: true,
        clone_namespaces: &[],
        id_maps: None,
        moves: Vec::new(),
        late_cgroup: None,
        cgroup: None,
        slots: context.slots,
    })?;
    finish(&mut process).inspect_err(|_| process.kill())
}

fn finish(process: &mut Started) -> Result<()> {
    match process.listen(&NoEvents)? {
        Progress::Created => process.go()?,
        Progress::Executed => {
            return Err(protocol_error());
        }
    }
    process.finish()
}
