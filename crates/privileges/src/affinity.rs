//! `process.execCPUAffinity` (sched_setaffinity(2)): for `exec` alone, and not for init (config.md).

use nix::sched::CpuSet;
use oci_spec::runtime::Process;

use crate::{Error, Op, ranges};

/// The processors on which a further process of a container is made, and on which it then runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Before the container's cgroup is entered.
    pub before: Option<Op>,
    /// In the container's cgroup; `None` leaves it to the kernel.
    pub after: Option<Op>,
}

impl Affinity {
    /// Plans `process.execCPUAffinity`.
    ///
    /// # Errors
    /// A list that is none, or with numbers that no set of processors holds.
    pub fn of(process: &Process) -> Result<Self, Error> {
        let Some(spec) = process.exec_cpu_affinity() else { return Ok(Self::default()) };
        let op = |field: &'static str, list: &Option<String>| match list.as_deref() {
            None | Some("") => Ok(None),
            Some(list) => ranges::parse(list, CpuSet::count())
                .map(|cpus| Some(Op::Affinity { r#final: field == "final", cpus }))
                .map_err(|reason| Error::Affinity { field, reason }),
        };
        Ok(Self {
            before: op("initial", spec.initial())?,
            after: op("final", spec.cpu_affinity_final())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(affinity: Value) -> Result<[Option<String>; 2], String> {
        let user = json!({ "uid": 0, "gid": 0 });
        let process = json!({ "cwd": "/", "user": user, "execCPUAffinity": affinity });
        let planned = Affinity::of(&serde_json::from_value(process).unwrap());
        let planned = planned.map_err(|error| error.to_string())?;
        Ok([planned.before, planned.after].map(|op| op.map(|op| op.to_string())))
    }

    #[test]
    fn each_list_is_for_its_moment() {
        let initial = Some("process.execCPUAffinity.initial 7".to_owned());
        let last = Some("process.execCPUAffinity.final 0-3,7".to_owned());
        let both = json!({ "initial": "7", "final": "0-3,7" });
        assert_eq!(planned(both).unwrap(), [initial.clone(), last.clone()]);
        assert_eq!(planned(json!({ "initial": "7" })).unwrap(), [initial, None]);
        assert_eq!(planned(json!({ "final": "0-1,2,3,7" })).unwrap(), [None, last]);
        assert_eq!(planned(json!({})).unwrap(), [None, None]);
    }

    #[test]
    fn faults_are_named() {
        for (field, list, fault) in [
            ("initial", "3-1", r#""3-1": "3-1" ends before it begins"#),
            ("final", "1024", r#""1024": 1024 is above 1023"#),
        ] {
            assert_eq!(
                planned(json!({ field: list })).unwrap_err(),
                format!("process.execCPUAffinity.{field}: {fault}")
            );
        }
    }
}
