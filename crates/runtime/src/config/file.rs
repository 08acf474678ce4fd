//! config.json as it is read: the fields for Linux, into the types of oci-spec.
//!
//! oci-spec could read the whole file itself. It would then also read what belongs to other
//! platforms, and check `process.execCPUAffinity` with a regular expression: a fourth of the
//! program's size for a check that the planner makes anyway.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Box as ConsoleSize, ExecCPUAffinity, Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount,
    PosixRlimit, Process, Root, Scheduler, Spec, User,
};
use serde::{Deserialize, Deserializer};

use crate::config::blank::blank;
use crate::error::Result;

/// `config.json`
#[derive(Deserialize)]
#[serde(expecting = "struct Spec", rename_all = "camelCase")]
pub(crate) struct SpecFile {
    #[serde(default)]
    oci_version: String,
    root: Option<Root>,
    mounts: Option<Vec<Mount>>,
    process: Option<ProcessFile>,
    hostname: Option<String>,
    domainname: Option<String>,
    hooks: Option<Hooks>,
    annotations: Option<HashMap<String, String>>,
    linux: Option<Linux>,
}

/// `process` of config.json, and the file of `exec --process`.
#[derive(Deserialize)]
#[serde(expecting = "struct Process", rename_all = "camelCase")]
pub(crate) struct ProcessFile {
    terminal: Option<bool>,
    console_size: Option<ConsoleSize>,
    /// A process without a user is root's.
    #[serde(default)]
    user: User,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: PathBuf,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Option<Vec<PosixRlimit>>,
    no_new_privileges: Option<bool>,
    apparmor_profile: Option<String>,
    oom_score_adj: Option<i32>,
    selinux_label: Option<String>,
    io_priority: Option<LinuxIOPriority>,
    scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<AffinityFile>,
}

/// `process.execCPUAffinity`
#[derive(Deserialize)]
#[serde(expecting = "struct ExecCPUAffinity")]
struct AffinityFile {
    initial: Option<String>,
    r#final: Option<String>,
}

impl SpecFile {
    /// The same as the type that planners know.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn into_spec(self) -> Result<Box<Spec>> {
        let mut spec: Box<Spec> = Box::new(blank()?);
        spec.set_version(self.oci_version)
            .set_root(self.root)
            .set_mounts(self.mounts)
            .set_process(self.process.map(ProcessFile::into_process).transpose()?)
            .set_hostname(self.hostname)
            .set_domainname(self.domainname)
            .set_hooks(self.hooks)
            .set_annotations(self.annotations)
            .set_linux(self.linux);
        Ok(spec)
    }
}

impl ProcessFile {
    /// The same as the type that planners know.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn into_process(self) -> Result<Process> {
        let mut process: Process = blank()?;
        process
            .set_terminal(self.terminal)
            .set_console_size(self.console_size)
            .set_user(self.user)
            .set_args(self.args)
            .set_env(self.env)
            .set_cwd(self.cwd)
            .set_capabilities(self.capabilities)
            .set_rlimits(self.rlimits)
            .set_no_new_privileges(self.no_new_privileges)
            .set_apparmor_profile(self.apparmor_profile)
            .set_oom_score_adj(self.oom_score_adj)
            .set_selinux_label(self.selinux_label)
            .set_io_priority(self.io_priority)
            .set_scheduler(self.scheduler)
            .set_exec_cpu_affinity(self.exec_cpu_affinity.map(AffinityFile::into_affinity));
        Ok(process)
    }
}

impl AffinityFile {
    fn into_affinity(self) -> ExecCPUAffinity {
        // An empty list is as good as none.
        let list = |list: Option<String>| list.filter(|list| !list.is_empty());
        let mut affinity = ExecCPUAffinity::default();
        affinity.set_initial(list(self.initial)).set_cpu_affinity_final(list(self.r#final));
        affinity
    }
}

/// Reads a process that is a field of another struct.
///
/// # Errors
/// What the deserializer says.
pub(crate) fn process<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Process, D::Error> {
    let file = ProcessFile::deserialize(deserializer)?;
    file.into_process().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// A field that oci-spec reads and this file forgets would be ignored.
    #[test]
    fn all_that_oci_spec_reads_for_linux_is_read() {
        for file in [
            include_str!("../../../../fuzz/corpus/config/many-fields.json"),
            include_str!("../../../../fuzz/corpus/config/podman.json"),
        ] {
            let mut value: Value = serde_json::from_str(file).unwrap();
            // Both are amended before they reach the parser.
            for pointer in ["/process/scheduler/flags", "/process/capabilities/bounding"] {
                let list = value.pointer_mut(pointer);
                list.into_iter().for_each(|list| *list = Value::Array(Vec::new()));
            }
            let theirs: Spec = serde_json::from_value(value.clone()).unwrap();
            let ours: SpecFile = serde_json::from_value(value).unwrap();
            assert_eq!(*ours.into_spec().unwrap(), theirs);
        }
    }
}
