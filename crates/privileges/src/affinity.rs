//! `process.execCPUAffinity` (sched_setaffinity(2)): for `exec` alone, and not for init
//! (config.md).

use nix::sched::CpuSet;
use oci_spec::runtime::Process;

use crate::{Error, Op, ranges};

/// The CPUs on which an exec is created, and on which it then runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Before it enters the container's cgroup; `None` for no change.
    pub before: Option<Op>,
    /// In the container's cgroup; `None` for no change.
    pub after: Option<Op>,
}

impl Affinity {
    /// Plans `process.execCPUAffinity`.
    ///
    /// # Errors
    /// An invalid list, or numbers that are too large for a CPU set.
    pub fn of(process: &Process) -> Result<Self, Error> {
        let spec = process.exec_cpu_affinity().as_ref();
        let op = |field: &'static str, list: Option<&String>| match list.map(String::as_str) {
            None | Some("") => Ok(None),
            Some(list) => ranges::parse(list, CpuSet::count())
                .map(|cpus| Some(Op::Affinity { is_final: field == "final", cpus }))
                .map_err(|reason| Error::Affinity { field, reason }),
        };
        let before = op("initial", spec.and_then(|spec| spec.initial().as_ref()))?;
        let after = op("final", spec.and_then(|spec| spec.cpu_affinity_final().as_ref()))?;
        // With `initial` alone the affinity does not change afterwards (config.md).
        let any = before.is_none().then_some(Op::ResetAffinity);
        Ok(Self { before, after: after.or(any) })
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
        let any = Some(Op::ResetAffinity.to_string());
        let both = json!({ "initial": "7", "final": "0-3,7" });
        assert_eq!(planned(both).unwrap(), [initial.clone(), last.clone()]);
        assert_eq!(planned(json!({ "initial": "7" })).unwrap(), [initial, None]);
        assert_eq!(planned(json!({ "final": "0-1,2,3,7" })).unwrap(), [None, last]);
        assert_eq!(planned(json!({})).unwrap(), [None, any]);
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
