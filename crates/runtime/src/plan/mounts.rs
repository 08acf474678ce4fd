//! A running container and mounts -> the plan of a process that adds or removes them.

use std::path::PathBuf;

use namespaces::Kind;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, Spec, SpecBuilder,
};

use super::Base;
use crate::annotations::Annotations;
use crate::error::{Error, Result};
use crate::host::{Host, has_selinux};
use crate::slot;
use crate::step::{InitPlan, Op, Section};

/// What is done with mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are made.
    Add,
    /// They are taken away.
    Remove,
}

/// All that a plan is made from.
pub(crate) struct MountsInputs<'a> {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) change: Change,
    pub(crate) bundle: PathBuf,
    pub(crate) base: &'a Base,
    /// The namespaces to join.
    pub(crate) kinds: &'a [Kind],
    pub(crate) annotations: Annotations,
    pub(crate) host: &'a Host,
}

/// Plans what the runtime does, and what a process inside does.
///
/// # Errors
/// The first field that cannot be applied.
pub(crate) fn mounts(inputs: MountsInputs<'_>) -> Result<(Vec<rootfs::Op>, InitPlan)> {
    let join = namespaces::join_running(inputs.kinds, slot::PROCESS);
    let mut ops = match inputs.change {
        Change::Add => added(inputs)?,
        Change::Remove => rootfs::plan_removed(&inputs.mounts)?,
    };
    let [outside, _, _] = rootfs::phases(&ops);
    let inside = ops.split_off(outside.len());
    let sections = vec![
        Section::Namespaces(Vec::new()),
        Section::Process(vec![
            Op::Stage(c"davit:mounts".to_owned()),
            Op::DieWithRuntime,
            Op::DefaultSignals,
        ]),
        Section::Namespaces(join),
        Section::Process(vec![Op::DieWithRuntime]),
        Section::Rootfs(inside),
        Section::Process(vec![Op::Created]),
    ];
    Ok((ops, InitPlan { sections, channel: -1, slots: Vec::new(), preserved: 0 }))
}

fn added(inputs: MountsInputs<'_>) -> Result<Vec<rootfs::Op>> {
    let label = inputs.base.mount_label.clone();
    let host = rootfs::Host {
        bundle: inputs.bundle,
        user_namespace: inputs.kinds.contains(&Kind::User) || inputs.host.in_user_namespace,
        privileged_parent: inputs.host.is_privileged(),
        cgroups: None,
        console: None,
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: label.is_some() && has_selinux(),
        mount_context: inputs.annotations.mount_context,
        first_slot: slot::SOURCES,
    };
    Ok(rootfs::plan_added(&spec(inputs.mounts, label)?, &host)?)
}

/// As much of a configuration as mounts have to do with.
fn spec(mounts: Vec<Mount>, label: Option<String>) -> Result<Spec> {
    let failed = |error: oci_spec::OciSpecError| Error::new(error.to_string());
    let mount_namespace =
        LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Mount).build().map_err(failed)?;
    let mut linux = LinuxBuilder::default().namespaces(vec![mount_namespace]);
    if let Some(label) = label {
        linux = linux.mount_label(label);
    }
    let linux = linux.build().map_err(failed)?;
    SpecBuilder::default().mounts(mounts).linux(linux).build().map_err(failed)
}
