//! `process.scheduler` (sched_setattr(2), sched(7)).

use std::fmt;

use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler as Spec};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Arguments of sched_setattr(2). Its display is for `davit explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler(pub(crate) davit_sys::sched::Scheduler);

/// The policies of Linux. `SCHED_ISO` of the spec has a reserved number, but is not implemented.
const POLICIES: [(LinuxSchedulerPolicy, &str, i32); 6] = [
    (LinuxSchedulerPolicy::SchedOther, "SCHED_OTHER", libc::SCHED_OTHER),
    (LinuxSchedulerPolicy::SchedFifo, "SCHED_FIFO", libc::SCHED_FIFO),
    (LinuxSchedulerPolicy::SchedRr, "SCHED_RR", libc::SCHED_RR),
    (LinuxSchedulerPolicy::SchedBatch, "SCHED_BATCH", libc::SCHED_BATCH),
    (LinuxSchedulerPolicy::SchedIdle, "SCHED_IDLE", libc::SCHED_IDLE),
    (LinuxSchedulerPolicy::SchedDeadline, "SCHED_DEADLINE", libc::SCHED_DEADLINE),
];

/// Minimum of `runtime` in nanoseconds: the kernel counts deadlines in units of 1024 (sched(7)).
const MIN_RUNTIME: u64 = 1024;

impl Scheduler {
    /// Refuses fields that the kernel would refuse, or silently take for another value.
    pub(crate) fn of(spec: &Spec) -> Result<Self, Error> {
        let wrong = |field: &'static str, reason: String| Err(Error::Scheduler { field, reason });
        let policy = POLICIES.iter().find(|(policy, ..)| policy == spec.policy());
        let Some((policy, name, number)) = policy else {
            return wrong("policy", format!("{} is not implemented by Linux", spec.policy()));
        };
        let nice = spec.nice().unwrap_or(0);
        if !(-20..=19).contains(&nice) {
            return wrong("nice", format!("{nice} is not within -20..=19"));
        }
        use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};
        let priority = spec.priority().unwrap_or(0);
        match policy {
            SchedFifo | SchedRr if !(1..=99).contains(&priority) => {
                return wrong(
                    "priority",
                    format!("{priority} is not within 1..=99, as {name} wants"),
                );
            }
            SchedFifo | SchedRr => {}
            _ if priority != 0 => {
                return wrong("priority", format!("{priority}: {name} has no priorities"));
            }
            _ => {}
        }
        let scheduler = Self(davit_sys::sched::Scheduler {
            policy: number.unsigned_abs(),
            flags: spec.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag)),
            nice,
            priority: priority.unsigned_abs(),
            runtime: spec.runtime().unwrap_or(0),
            deadline: spec.deadline().unwrap_or(0),
            period: spec.period().unwrap_or(0),
        });
        match policy {
            SchedDeadline => scheduler.check_deadline()?,
            _ => scheduler.check_no_deadline(name)?,
        }
        Ok(scheduler)
    }

    /// runtime <= deadline <= period (sched(7)); a period of 0 is the deadline's.
    fn check_deadline(&self) -> Result<(), Error> {
        let davit_sys::sched::Scheduler { runtime, deadline, period, .. } = self.0;
        let wrong = |field: &'static str, reason: String| Err(Error::Scheduler { field, reason });
        let max = i64::MAX.unsigned_abs();
        if runtime < MIN_RUNTIME {
            return wrong("runtime", format!("{runtime} is below {MIN_RUNTIME} nanoseconds"));
        }
        if runtime > deadline {
            return wrong("runtime", format!("{runtime} is above the deadline {deadline}"));
        }
        if deadline > max {
            return wrong("deadline", format!("{deadline} is above {max}"));
        }
        if period != 0 && (deadline > period || period > max) {
            return wrong("period", format!("{period} is not within {deadline}..={max}"));
        }
        Ok(())
    }

    fn check_no_deadline(&self, name: &str) -> Result<(), Error> {
        for (field, value) in
            [("runtime", self.0.runtime), ("deadline", self.0.deadline), ("period", self.0.period)]
        {
            if value != 0 {
                let reason = format!("{value}: only SCHED_DEADLINE has one, not {name}");
                return Err(Error::Scheduler { field, reason });
            }
        }
        Ok(())
    }
}

fn bit(flag: LinuxSchedulerFlag) -> u64 {
    u64::from(
        match flag {
            LinuxSchedulerFlag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK,
            LinuxSchedulerFlag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM,
            LinuxSchedulerFlag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY,
            LinuxSchedulerFlag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => libc::SCHED_FLAG_UTIL_CLAMP_MIN,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => libc::SCHED_FLAG_UTIL_CLAMP_MAX,
        }
        .unsigned_abs(),
    )
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let davit_sys::sched::Scheduler {
            policy,
            flags,
            nice,
            priority,
            runtime,
            deadline,
            period,
        } = self.0;
        let known = POLICIES.iter().find(|(.., number)| number.unsigned_abs() == policy);
        write!(f, "{} nice {}", known.map_or("?", |(_, name, _)| name), nice)?;
        if priority != 0 {
            write!(f, " priority {priority}")?;
        }
        if deadline != 0 {
            write!(f, " runtime {runtime} deadline {deadline} period {period}")?;
        }
        if flags != 0 { write!(f, " flags {flags:#x}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(spec: Value) -> Result<String, String> {
        let spec = serde_json::from_value(spec).unwrap();
        let planned = Scheduler::of(&spec);
        planned.map(|scheduler| scheduler.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_policy_is_displayed() {
        for (spec, listing) in [
            (json!({ "policy": "SCHED_OTHER" }), "SCHED_OTHER nice 0"),
            (json!({ "policy": "SCHED_BATCH", "nice": 19 }), "SCHED_BATCH nice 19"),
            (json!({ "policy": "SCHED_IDLE", "nice": -20 }), "SCHED_IDLE nice -20"),
            (json!({ "policy": "SCHED_FIFO", "priority": 1 }), "SCHED_FIFO nice 0 priority 1"),
            (json!({ "policy": "SCHED_RR", "priority": 99 }), "SCHED_RR nice 0 priority 99"),
            (
                json!({ "policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024,
                        "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_KEEP_PARAMS"] }),
                "SCHED_DEADLINE nice 0 runtime 1024 deadline 1024 period 0 flags 0x12",
            ),
        ] {
            assert_eq!(planned(spec).unwrap(), listing);
        }
    }

    #[test]
    fn invalid_fields_are_named() {
        for (spec, error) in [
            (json!({ "policy": "SCHED_ISO" }), "policy: SCHED_ISO is not implemented"),
            (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "nice: 20 is not within"),
            (json!({ "policy": "SCHED_OTHER", "nice": -21 }), "nice: -21 is not within"),
            (json!({ "policy": "SCHED_OTHER", "priority": 1 }), "priority: 1: SCHED_OTHER has no"),
            (json!({ "policy": "SCHED_FIFO" }), "priority: 0 is not within 1..=99"),
            (json!({ "policy": "SCHED_RR", "priority": 100 }), "priority: 100 is not within"),
            (json!({ "policy": "SCHED_RR", "priority": -1 }), "priority: -1 is not within"),
            (json!({ "policy": "SCHED_BATCH", "runtime": 1 }), "runtime: 1: only SCHED_DEADLINE"),
            (json!({ "policy": "SCHED_BATCH", "period": 1 }), "period: 1: only SCHED_DEADLINE"),
            (json!({ "policy": "SCHED_DEADLINE" }), "runtime: 0 is below 1024"),
            (
                json!({ "policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 2000 }),
                "runtime: 3000 is above the deadline 2000",
            ),
            (
                json!({ "policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": u64::MAX }),
                "deadline: 18446744073709551615 is above",
            ),
            (
                json!({ "policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 4000, "period": 3500 }),
                "period: 3500 is not within 4000..=",
            ),
        ] {
            let said = planned(spec).unwrap_err();
            assert!(said.starts_with(&format!("process.scheduler.{error}")), "{said}");
        }
    }

    #[test]
    fn each_flag_has_the_bit_of_linux() {
        let all = [
            LinuxSchedulerFlag::SchedResetOnFork,
            LinuxSchedulerFlag::SchedFlagReclaim,
            LinuxSchedulerFlag::SchedFlagDLOverrun,
            LinuxSchedulerFlag::SchedFlagKeepPolicy,
            LinuxSchedulerFlag::SchedFlagKeepParams,
            LinuxSchedulerFlag::SchedFlagUtilClampMin,
            LinuxSchedulerFlag::SchedFlagUtilClampMax,
        ];
        assert_eq!(all.map(bit), [1, 2, 4, 8, 16, 32, 64]);
    }
}
