//! `mounts`: other mounts for a container that lives.

use std::path::Path;

use oci_spec::runtime::Mount;
use serde::Deserialize;
use sys::Slots;

use super::{LOCK, exec};
use crate::annotations::Annotations;
use crate::bundle;
use crate::error::{Error, Result, Within};
use crate::execute::{self, Progress, Start, Started};
use crate::host::Host;
use crate::id::Id;
use crate::plan::{self, Change, MountsInputs};
use crate::program;
use crate::record::Root;
use crate::slot;
use crate::state::Status;
use crate::strict;

/// Adds the mounts in a file to a container, or removes what is mounted at their destinations, in
/// their order. The file holds the `mounts` of a config.json, with or without what is around them;
/// `-` is standard input.
///
/// # Errors
/// The mount that failed: those before it are done.
pub fn mounts(root: &Root, id: &Id, change: Change, file: &Path) -> Result<()> {
    let mounts = read(file).within(|| file.display().to_string())?;
    let entry = root.get(id)?;
    let _lock = entry.lock(LOCK)?;
    let record = entry.record()?;
    Status::of_living(&record)?;
    let init = record.init.ok_or_else(|| Error::new("container not running"))?;
    let base = entry.kept()?.base()?;
    if !base.kinds.contains(&namespaces::Kind::Mount) {
        return Err(Error::new("mounts: the container has no mount namespace of its own"));
    }
    let (outside, inside) = plan::mounts(MountsInputs {
        mounts,
        change,
        bundle: record.bundle.clone(),
        base: &base,
        kinds: &exec::kinds(&base, init)?,
        annotations: Annotations::of(&Some(record.annotations.into_iter().collect()))?,
        host: &Host::discover(false)?,
    })?;
    let mut slots = Slots::default();
    let pidfd = init.handle()?.ok_or_else(|| Error::new("container not running"))?;
    slots.put(slot::PROCESS, pidfd);
    let mut context = rootfs::Context::new(slots);
    rootfs::apply(&outside, &mut context).map_err(|failure| {
        let step = outside.get(failure.op).map(|op| op.origin.to_string());
        Error::from(failure.error).within(step.unwrap_or_default())
    })?;
    let mut process = execute::start(Start {
        file: &|bytes| program::in_memory(&bytes),
        plan: inside,
        born: &[],
        id_maps: None,
        moves: Vec::new(),
        cgroup: None,
        slots: context.slots,
    })?;
    finish(&mut process).inspect_err(|_| process.kill())
}

fn finish(process: &mut Started) -> Result<()> {
    match process.listen(&|_| Ok(()))? {
        Progress::Created => process.go()?,
        Progress::Executed => {
            return Err(Error::new("davit's init does not keep to the conversation"));
        }
    }
    execute::reap(process.pid).map(drop)
}

/// The list alone, as crun takes it, or within an object.
fn read(file: &Path) -> Result<Vec<Mount>> {
    #[derive(Deserialize)]
    struct Section {
        mounts: Vec<Mount>,
    }
    let mut text = bundle::read_or_stdin(file)?;
    if text.trim_ascii_start().starts_with(b"[") {
        text = [b"{\"mounts\":", text.as_slice(), b"}"].concat();
    }
    strict::check(&text)?;
    bundle::refuse_nul(&text)?;
    Ok(bundle::from_json::<Section>(&text)?.mounts)
}
