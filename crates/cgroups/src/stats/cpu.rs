//! CPU time and CPU sets.

use serde::Serialize;

use super::pressure::{self, Pressure};
use crate::{Cgroup, Fault};

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// CPU time used.
    pub usage: CpuUsage,
    /// Throttling by the quota.
    pub throttling: Throttling,
    /// CPU pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// Total.
    pub total: u64,
    /// Per CPU (cgroup v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, per CPU (cgroup v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user space, per CPU (cgroup v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// Throttling by the quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which it was exhausted.
    pub throttled_periods: u64,
    /// Nanoseconds for which processes were throttled.
    pub throttled_time: u64,
}

/// CPUs and memory nodes, and the flags of cgroup v1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The files' own names (cpuset(7)).
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

pub(super) fn read(cgroup: &Cgroup) -> Result<Cpu, Fault> {
    let unified = cgroup.table("", "cpu.stat")?;
    let microseconds = |key: &str| unified.get(key).copied().unwrap_or(0).saturating_mul(1000);
    let usage = match cgroup.has_v1("cpuacct") {
        true => usage_v1(cgroup)?,
        false => CpuUsage {
            total: microseconds("usage_usec"),
            kernel: microseconds("system_usec"),
            user: microseconds("user_usec"),
            ..CpuUsage::default()
        },
    };
    let (table, waited) = match cgroup.has_v1("cpu") {
        true => {
            let table = cgroup.table("cpu", "cpu.stat")?;
            let waited = table.get("throttled_time").copied().unwrap_or(0);
            (table, waited)
        }
        false => {
            let waited = microseconds("throttled_usec");
            (unified, waited)
        }
    };
    let count = |key: &str| table.get(key).copied().unwrap_or(0);
    let throttling = Throttling {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: waited,
    };
    Ok(Cpu { usage, throttling, psi: pressure::read(cgroup, "cpu.pressure")? })
}

fn usage_v1(cgroup: &Cgroup) -> Result<CpuUsage, Fault> {
    let each = |file: &str| -> Result<Vec<u64>, Fault> {
        let text = cgroup.read("cpuacct", file)?.unwrap_or_default();
        Ok(text.split_whitespace().filter_map(|number| number.parse().ok()).collect())
    };
    Ok(CpuUsage {
        total: cgroup.number("cpuacct", "cpuacct.usage")?,
        percpu: each("cpuacct.usage_percpu")?,
        percpu_kernel: each("cpuacct.usage_percpu_sys")?,
        percpu_user: each("cpuacct.usage_percpu_user")?,
        kernel: cgroup.number("cpuacct", "cpuacct.usage_sys")?,
        user: cgroup.number("cpuacct", "cpuacct.usage_user")?,
    })
}

pub(super) fn read_set(cgroup: &Cgroup) -> Result<CpuSet, Fault> {
    let list = |tree: &str, file: &str| -> Result<Vec<u16>, Fault> {
        Ok(cgroup.read(tree, file)?.map_or_else(Vec::new, |text| members(&text)))
    };
    if !cgroup.has_v1("cpuset") {
        return Ok(CpuSet {
            cpus: list("", "cpuset.cpus.effective")?,
            mems: list("", "cpuset.mems.effective")?,
            ..CpuSet::default()
        });
    }
    let number = |name: &str| cgroup.number("cpuset", &format!("cpuset.{name}"));
    let level = cgroup.read("cpuset", "cpuset.sched_relax_domain_level")?;
    Ok(CpuSet {
        cpus: list("cpuset", "cpuset.cpus")?,
        cpu_exclusive: number("cpu_exclusive")?,
        mems: list("cpuset", "cpuset.mems")?,
        mem_hardwall: number("mem_hardwall")?,
        mem_exclusive: number("mem_exclusive")?,
        memory_migrate: number("memory_migrate")?,
        memory_spread_page: number("memory_spread_page")?,
        memory_spread_slab: number("memory_spread_slab")?,
        memory_pressure: number("memory_pressure")?,
        sched_load_balance: number("sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

/// `0-2,7` -> 0, 1, 2, 7.
fn members(list: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}
