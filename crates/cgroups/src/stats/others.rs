//! Tasks, huge pages, RDMA devices, and resources of the `misc` controller.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Cgroup, Fault, file};

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Number of tasks.
    pub current: u64,
    /// Limit of tasks; 0 is no limit.
    pub limit: u64,
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    /// Bytes in use.
    pub usage: u64,
    /// Maximum usage (cgroup v1).
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// RDMA devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rdma {
    /// The limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_limit: Vec<RdmaEntry>,
    /// Present usage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_current: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles.
    pub hca_handles: u32,
    /// Objects.
    pub hca_objects: u32,
}

/// One scalar resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Misc {
    /// Present usage.
    pub usage: u64,
    /// How often the limit was reached.
    pub events: u64,
}

/// The controller's name on v1, or `""` for cgroup v2, where it has the same files.
fn tree<'a>(cgroup: &Cgroup, controller: &'a str) -> &'a str {
    if cgroup.has_v1(controller) { controller } else { "" }
}

pub(super) fn pids(cgroup: &Cgroup) -> Result<Pids, Fault> {
    let tree = tree(cgroup, "pids");
    let limit = match cgroup.number(tree, "pids.max")? {
        u64::MAX => 0,
        limit => limit,
    };
    Ok(Pids { current: cgroup.number(tree, "pids.current")?, limit })
}

pub(super) fn hugetlb(cgroup: &Cgroup) -> Result<BTreeMap<String, Hugetlb>, Fault> {
    let tree = tree(cgroup, "hugetlb");
    let usage = if tree.is_empty() { "current" } else { "usage_in_bytes" };
    let mut all = BTreeMap::new();
    for size in page_sizes(cgroup, tree, usage) {
        let file = |name: &str| format!("hugetlb.{size}.{name}");
        let failcnt = match tree {
            "" => cgroup.table(tree, &file("events"))?.get("max").copied().unwrap_or(0),
            tree => cgroup.number(tree, &file("failcnt"))?,
        };
        let entry = Hugetlb {
            usage: cgroup.number(tree, &file(usage))?,
            max: cgroup.number(tree, &file("max_usage_in_bytes"))?,
            failcnt,
        };
        all.insert(size, entry);
    }
    Ok(all)
}

/// The sizes of huge pages for which the kernel has files.
fn page_sizes(cgroup: &Cgroup, tree: &str, usage: &str) -> Vec<String> {
    let Some(directory) = cgroup.directory(tree) else { return Vec::new() };
    let size = |name: &str| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(usage)?.strip_suffix('.')?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let names = std::fs::read_dir(directory).into_iter().flatten();
    names.filter_map(|entry| size(entry.ok()?.file_name().to_str()?)).collect()
}

pub(super) fn rdma(cgroup: &Cgroup) -> Result<Rdma, Fault> {
    let tree = tree(cgroup, "rdma");
    let entries = |file: &str| -> Result<Vec<RdmaEntry>, Fault> {
        let text = cgroup.read(tree, file)?.unwrap_or_default();
        Ok(text.lines().filter_map(rdma_entry).collect())
    };
    Ok(Rdma { rdma_limit: entries("rdma.max")?, rdma_current: entries("rdma.current")? })
}

/// `mlx4_0 hca_handle=2 hca_object=max`
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let number = value.parse().unwrap_or(u32::MAX);
        match key {
            "hca_handle" => entry.hca_handles = number,
            "hca_object" => entry.hca_objects = number,
            _ => {}
        }
    }
    Some(entry)
}

pub(super) fn misc(cgroup: &Cgroup) -> Result<BTreeMap<String, Misc>, Fault> {
    let tree = tree(cgroup, "misc");
    let events = cgroup.read(tree, "misc.events")?.unwrap_or_default();
    let misc = cgroup.table(tree, "misc.current")?.into_iter().map(|(name, usage)| {
        let events = file::value_of(&events, &format!("{name}.max")).unwrap_or(0);
        (name, Misc { usage, events })
    });
    Ok(misc.collect())
}
