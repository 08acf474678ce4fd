//! `linux.resources.cpu`.
//!
//! Zero shares, quota and periods mean "not set" (docs/limits.md): some engines always write them.

use oci_spec::runtime::LinuxCpu;

use super::{ControllerDir, Field, Plan, Version};
use crate::Error;

macro_rules! field {
    ($name:literal) => {
        Field::Borrowed(concat!("linux.resources.cpu.", $name))
    };
}

/// The fields of the `cpu` controller; "not set" is None.
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
    burst: Option<u64>,
    idle: Option<i64>,
    realtime_runtime: Option<i64>,
    realtime_period: Option<u64>,
}

pub(super) fn plan(plan: &mut Plan<'_>, spec: &LinuxCpu) -> Result<(), Error> {
    let cpu = Cpu::of(spec)?;
    if let Some(first) = cpu.first_field() {
        let dir = plan.dir("cpu", "cpu", first)?;
        match dir.version {
            Version::V1 => cpu.plan_v1(plan, &dir),
            Version::V2 => cpu.plan_v2(plan, &dir)?,
        }
    }
    for (list, file, field) in
        [(spec.cpus(), "cpuset.cpus", field!("cpus")), (spec.mems(), "cpuset.mems", field!("mems"))]
    {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        if list.chars().any(char::is_control) {
            return Err(Error::value(field, "is not a list such as 0-3,7"));
        }
        let dir = plan.dir("cpuset", "cpuset", field.clone())?;
        plan.write(&dir, file, list, field);
    }
    Ok(())
}

impl Cpu {
    fn of(spec: &LinuxCpu) -> Result<Self, Error> {
        let cpu = Self {
            shares: spec.shares().filter(|shares| *shares != 0),
            quota: spec.quota().filter(|quota| *quota != 0),
            period: spec.period().filter(|period| *period != 0),
            burst: spec.burst(),
            idle: spec.idle(),
            realtime_runtime: spec.realtime_runtime().filter(|runtime| *runtime != 0),
            realtime_period: spec.realtime_period().filter(|period| *period != 0),
        };
        if cpu.quota.is_some_and(|quota| quota < -1) {
            let reason = "must be a number of microseconds, or -1 for no limit";
            return Err(Error::value(field!("quota"), reason));
        }
        if cpu.idle.is_some_and(|idle| !(0..=1).contains(&idle)) {
            return Err(Error::value(field!("idle"), "must be 0 or 1"));
        }
        let quota = cpu.quota.and_then(|quota| u64::try_from(quota).ok());
        if quota.zip(cpu.burst).is_some_and(|(quota, burst)| burst > quota) {
            let reason = "cannot be above linux.resources.cpu.quota";
            return Err(Error::value(field!("burst"), reason));
        }
        Ok(cpu)
    }

    fn first_field(&self) -> Option<Field> {
        let fields = [
            (self.shares.is_some(), field!("shares")),
            (self.quota.is_some(), field!("quota")),
            (self.period.is_some(), field!("period")),
            (self.burst.is_some(), field!("burst")),
            (self.idle.is_some(), field!("idle")),
            (self.realtime_runtime.is_some(), field!("realtimeRuntime")),
            (self.realtime_period.is_some(), field!("realtimePeriod")),
        ];
        fields.into_iter().find(|(is_set, _)| *is_set).map(|(_, field)| field)
    }

    fn plan_v1(&self, plan: &mut Plan<'_>, dir: &ControllerDir) {
        self.weight(plan, dir, "cpu.shares", self.shares);
        // First: the kernel checks a quota against the present period.
        if let Some(period) = self.period {
            plan.write(dir, "cpu.cfs_period_us", period, field!("period"));
        }
        self.reset_burst(plan, dir, "cpu.cfs_burst_us");
        if let Some(quota) = self.quota {
            plan.write(dir, "cpu.cfs_quota_us", quota, field!("quota"));
        }
        if let Some(burst) = self.burst {
            plan.write(dir, "cpu.cfs_burst_us", burst, field!("burst"));
        }
        if let Some(period) = self.realtime_period {
            plan.write(dir, "cpu.rt_period_us", period, field!("realtimePeriod"));
        }
        if let Some(runtime) = self.realtime_runtime {
            plan.write(dir, "cpu.rt_runtime_us", runtime, field!("realtimeRuntime"));
        }
    }

    fn plan_v2(&self, plan: &mut Plan<'_>, dir: &ControllerDir) -> Result<(), Error> {
        if self.realtime_runtime.is_some() {
            return Err(Error::NotOnV2 { field: field!("realtimeRuntime") });
        }
        if self.realtime_period.is_some() {
            return Err(Error::NotOnV2 { field: field!("realtimePeriod") });
        }
        self.weight(plan, dir, "cpu.weight", self.shares.map(weight));
        // One file has both, and a period alone does not change the quota.
        let quota = match self.period {
            Some(_) => self.quota.or_else(|| plan.current.and_then(|current| current.quota)),
            None => self.quota,
        };
        let max = match (quota, self.period) {
            (None, None) => None,
            (None | Some(-1), Some(period)) => Some((format!("max {period}"), field!("period"))),
            (Some(-1), None) => Some(("max".to_owned(), field!("quota"))),
            // A number alone does not change the period, 100 ms in a new cgroup.
            (Some(quota), None) => Some((quota.to_string(), field!("quota"))),
            (Some(quota), Some(period)) => Some((format!("{quota} {period}"), field!("quota"))),
        };
        self.reset_burst(plan, dir, "cpu.max.burst");
        if let Some((value, field)) = max {
            plan.write(dir, "cpu.max", value, field);
        }
        if let Some(burst) = self.burst {
            plan.write(dir, "cpu.max.burst", burst, field!("burst"));
        }
        Ok(())
    }

    /// Resets the burst if both change: the kernel refuses a quota below the present burst.
    fn reset_burst(&self, plan: &mut Plan<'_>, dir: &ControllerDir, file: &str) {
        if plan.current.is_some() && self.quota.is_some() && self.burst.is_some() {
            plan.write(dir, file, 0, field!("burst"));
        }
    }

    /// Writes cpu.idle 0 before the weight and 1 after it: an idle cgroup refuses a weight, and 0
    /// resets it. The cgroup may be idle already: before an update, or by systemd.
    fn weight(&self, plan: &mut Plan<'_>, dir: &ControllerDir, file: &str, weight: Option<u64>) {
        if self.idle == Some(0) || self.idle.is_some() && weight.is_some() {
            plan.write(dir, "cpu.idle", 0, field!("idle"));
        }
        if let Some(weight) = weight {
            plan.write(dir, file, weight, field!("shares"));
        }
        if self.idle == Some(1) {
            plan.write(dir, "cpu.idle", 1, field!("idle"));
        }
    }
}

/// Converts cpu.shares (2 to 262144, default 1024) to cpu.weight (1 to 10000, default 100).
///
/// The formula that runc and crun agreed on in 2025: it maps minimum, default and maximum to each
/// other, which the linear formula used before did not.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn minimum_default_and_maximum_are_mapped() {
        for (shares, expected) in [
            (1, 1),
            (2, 1),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn more_shares_never_weigh_less() {
        let mut last = 0;
        for shares in 2..=262_144 {
            let now = weight(shares);
            assert!((1..=10_000).contains(&now) && now >= last, "{shares}");
            last = now;
        }
    }
}
