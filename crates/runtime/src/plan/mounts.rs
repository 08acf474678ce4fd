//! A running container and mounts -> the plan of a process that adds or removes them.

use std::path::PathBuf;

use davit_namespaces::Kind;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, Spec, SpecBuilder,
};

use super::ExecConfig;
use crate::config::annotations::Annotations;
use crate::error::{Error, Result};
use crate::host::{Host, has_selinux};
use crate::plan::{InitPlan, Op, Section};
use crate::slot;

/// The change of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are mounted.
    Add,
    /// They are unmounted.
    Remove,
}

/// The inputs of a plan.
pub(crate) struct MountsInputs<'a> {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) change: Change,
    pub(crate) bundle: PathBuf,
    pub(crate) config: &'a ExecConfig,
    /// The namespaces to join.
    pub(crate) kinds: &'a [Kind],
    pub(crate) annotations: Annotations,
    pub(crate) host: &'a Host,
    /// The container's mountinfo.
    pub(crate) mountinfo: &'a [u8],
}

/// Plans the operations of the runtime, and those of a process in the container.
///
/// # Errors
/// The first field that cannot be applied.
pub(crate) fn mounts(inputs: MountsInputs<'_>) -> Result<(Vec<davit_rootfs::Op>, InitPlan)> {
    let join = davit_namespaces::join_running(inputs.kinds, slot::PROCESS);
    let ignored = inputs.host.ignored_signals;
    let mut ops = match inputs.change {
        Change::Add => added(inputs)?,
        Change::Remove => davit_rootfs::plan_removed(&inputs.mounts)?,
    };
    let [outside, _, _] = davit_rootfs::phases(&ops);
    let inside = ops.split_off(outside.len());
    let sections = vec![
        Section::Namespaces(Vec::new()),
        Section::Process(vec![
            Op::Stage(c"davit:mounts".to_owned()),
            Op::SetParentDeathSignal,
            Op::ResetSignals { ignored },
        ]),
        Section::Namespaces(join),
        Section::Process(vec![Op::SetParentDeathSignal]),
        Section::Rootfs(inside),
        Section::Process(vec![Op::Created]),
    ];
    Ok((ops, InitPlan { sections, ..InitPlan::default() }))
}

fn added(inputs: MountsInputs<'_>) -> Result<Vec<davit_rootfs::Op>> {
    let label = inputs.config.mount_label.clone();
    let host = davit_rootfs::Host {
        user_namespace: inputs.kinds.contains(&Kind::User) || inputs.host.in_user_namespace,
        ..mounts_alone(inputs.host, inputs.bundle, label.is_some(), inputs.annotations)
    };
    Ok(davit_rootfs::plan_added(&spec(inputs.mounts, label)?, &host, inputs.mountinfo)?)
}

/// What the plan of mounts depends on that are made without a container's root; `labels`: whether
/// they get a label.
pub(super) fn mounts_alone(
    host: &Host,
    bundle: PathBuf,
    labels: bool,
    annotations: Annotations,
) -> davit_rootfs::Host {
    davit_rootfs::Host {
        bundle,
        user_namespace: host.in_user_namespace,
        privileged_parent: host.is_privileged(),
        makes_nodes: false,
        joined_user_namespace: None,
        cgroups: None,
        console: None,
        no_pivot: false,
        proc_and_sys: Vec::new(),
        ephemeral: false,
        selinux: labels && has_selinux(),
        mount_context: annotations.mount_context,
        shares_dev: false,
        first_slot: slot::SOURCES,
    }
}

/// The part of a configuration that mounts depend on.
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
