//! The process of `exec`: the container's own with the changes of the command line.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, Process};

use super::blank::blank;
use crate::error::{Error, Result};

/// The changes of the command line to the container's own process.
#[derive(Clone, Debug, Default)]
pub struct ProcessChanges {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<PathBuf>,
    /// `--env`, on top of the configured ones.
    pub env: Vec<String>,
    /// `--tty`
    pub terminal: bool,
    /// `--user`
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`, on top of the configured ones.
    pub additional_gids: Vec<u32>,
    /// `--cap`, on top of the configured ones.
    pub capabilities: Vec<String>,
    /// `--process-label`
    pub selinux_label: Option<String>,
    /// `--apparmor`
    pub apparmor_profile: Option<String>,
    /// `--no-new-privs`
    pub no_new_privileges: bool,
}

/// The container's own process with the changes of the command line.
///
/// # Errors
/// An unknown capability.
pub(crate) fn change(base: &Process, changes: &ProcessChanges) -> Result<Process> {
    let mut process = base.clone();
    process.set_args(Some(changes.args.clone()));
    process.set_terminal(Some(changes.terminal));
    process.set_console_size(None);
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(changes.env.iter().cloned());
    process.set_env(Some(env));
    if changes.selinux_label.is_some() {
        process.set_selinux_label(changes.selinux_label.clone());
    }
    if changes.apparmor_profile.is_some() {
        process.set_apparmor_profile(changes.apparmor_profile.clone());
    }
    if changes.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    change_user(&mut process, changes);
    add_capabilities(&mut process, &changes.capabilities)?;
    Ok(process)
}

fn change_user(process: &mut Process, changes: &ProcessChanges) {
    let mut user = process.user().clone();
    if let Some((uid, gid)) = changes.user {
        let gid = gid.unwrap_or(user.gid());
        user.set_uid(uid).set_gid(gid);
    }
    if !changes.additional_gids.is_empty() {
        let configured = user.additional_gids().iter().flatten();
        let groups = configured.chain(&changes.additional_gids).copied().collect();
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
}

/// As runc does: the process can use an added capability. Programs that it executes get it only if
/// it is in the inheritable set of the container's process.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Capabilities::new();
    for name in names {
        let short = name.to_ascii_uppercase();
        let capability: Capability = (short.trim_start_matches("CAP_").parse())
            .map_err(|_| Error::new(format!("--cap: unknown capability {name:?}")))?;
        added.insert(capability);
    }
    let mut sets = process.capabilities().clone().map_or_else(blank, Ok)?;
    let with = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().chain(&added).copied().collect::<Capabilities>())
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_permitted(with(sets.permitted()));
    sets.set_effective(with(sets.effective()));
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    let passed_on: Capabilities = added.intersection(&inheritable).copied().collect();
    if !passed_on.is_empty() {
        let ambient = sets.ambient().iter().flatten().copied();
        sets.set_ambient(Some(ambient.chain(passed_on).collect()));
    }
    process.set_capabilities(Some(sets));
    Ok(())
}
