//! Memory usage.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pressure::{self, Pressure};
use crate::{Cgroup, Fault};

/// Memory usage in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// Kernel memory (cgroup v1).
    pub kernel: MemoryEntry,
    /// TCP buffers (cgroup v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// The file `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Memory pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    /// Memory events.
    pub event_count: MemoryEvents,
}

/// One kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit.
    pub limit: u64,
    /// Present usage.
    pub usage: u64,
    /// Maximum usage.
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Memory events (cgroup v2; v1 has `oom_kill` alone).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The kernel's own names.
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

pub(super) fn read(cgroup: &Cgroup) -> Result<Memory, Fault> {
    match cgroup.has_v1("memory") {
        true => read_v1(cgroup),
        false => read_v2(cgroup),
    }
}

fn read_v1(cgroup: &Cgroup) -> Result<Memory, Fault> {
    let entry = |kind: &str| -> Result<MemoryEntry, Fault> {
        let number = |name: &str| cgroup.number("memory", &format!("memory{kind}.{name}"));
        Ok(MemoryEntry {
            limit: number("limit_in_bytes")?,
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        })
    };
    let raw = cgroup.table("memory", "memory.stat")?;
    let events = cgroup.table("memory", "memory.oom_control")?;
    let oom_kill = events.get("oom_kill").copied().unwrap_or(0);
    Ok(Memory {
        cache: raw.get("total_cache").or(raw.get("cache")).copied().unwrap_or(0),
        usage: entry("")?,
        swap: entry(".memsw")?,
        kernel: entry(".kmem")?,
        kernel_tcp: entry(".kmem.tcp")?,
        raw,
        psi: pressure::read(cgroup, "memory.pressure")?,
        event_count: MemoryEvents { oom_kill, ..MemoryEvents::default() },
    })
}

fn read_v2(cgroup: &Cgroup) -> Result<Memory, Fault> {
    let number = |file: &str| cgroup.number("", file);
    let raw = cgroup.table("", "memory.stat")?;
    let events = cgroup.table("", "memory.events")?;
    let count = |key: &str| events.get(key).copied().unwrap_or(0);
    let usage = MemoryEntry {
        limit: number("memory.max")?,
        usage: number("memory.current")?,
        max: number("memory.peak")?,
        failcnt: count("max"),
    };
    // cgroup v2 counts swap alone; readers expect memory and swap together, as on v1.
    let sum = |memory: u64, swap: u64| memory.saturating_add(swap);
    let swap = MemoryEntry {
        limit: sum(usage.limit, number("memory.swap.max")?),
        usage: sum(usage.usage, number("memory.swap.current")?),
        ..MemoryEntry::default()
    };
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: pressure::read(cgroup, "memory.pressure")?,
        event_count: MemoryEvents {
            low: count("low"),
            high: count("high"),
            max: count("max"),
            oom: count("oom"),
            oom_kill: count("oom_kill"),
        },
        ..Memory::default()
    })
}
