//! `linux.resources.memory`.
//!
//! A limit of 0 means "not set" (docs/limits.md): docker writes it for every limit that is not set.

use oci_spec::runtime::LinuxMemory;

use super::{ControllerDir, Field, Plan, Version, or_max};
use crate::{Current, Error, IfMissing, Op};

macro_rules! field {
    ($name:literal) => {
        Field::Borrowed(concat!("linux.resources.memory.", $name))
    };
}

/// The limits that both versions of cgroups have; "not set" is None.
struct Limits {
    limit: Option<i64>,
    reservation: Option<i64>,
    swap: Option<i64>,
    check_before_update: bool,
}

/// The fields for which only cgroup v1 has a file; "not set" is None.
struct V1Only {
    kernel: Option<i64>,
    kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    disable_oom_killer: Option<bool>,
    use_hierarchy: Option<bool>,
}

pub(super) fn plan(plan: &mut Plan<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    let (limits, v1_only) = (Limits::of(memory), V1Only::of(memory));
    check(&limits, &v1_only, plan.current.unwrap_or_default())?;
    let version = match plan.layout.hierarchy("memory") {
        Some(_) => Version::V1,
        None => Version::V2,
    };
    let Some(first) = first_field(&limits, &v1_only, version) else { return Ok(()) };
    let dir = plan.dir("memory", "memory", first)?;
    match dir.version {
        Version::V1 => {
            limits_v1(plan, &dir, &limits);
            write_v1_only(plan, &dir, &v1_only);
            Ok(())
        }
        Version::V2 => {
            let fields = v1_only.effective(Version::V2);
            if let Some((_, field)) = fields.into_iter().find(|(is_set, _)| *is_set) {
                return Err(Error::NotOnV2 { field });
            }
            limits_v2(plan, &dir, &limits);
            Ok(())
        }
    }
}

impl Limits {
    fn of(memory: &LinuxMemory) -> Self {
        Self {
            limit: set(memory.limit()),
            reservation: set(memory.reservation()),
            swap: set(memory.swap()),
            check_before_update: memory.check_before_update() == Some(true),
        }
    }
}

/// The limit, unless it is "not set".
fn set(limit: Option<i64>) -> Option<i64> {
    limit.filter(|bytes| *bytes != 0)
}

impl V1Only {
    #[allow(deprecated)] // `kernel`: the spec still has it, so it is applied or refused.
    fn of(memory: &LinuxMemory) -> Self {
        Self {
            kernel: set(memory.kernel()),
            kernel_tcp: set(memory.kernel_tcp()),
            // -1 as an unsigned number: programs in Go write it for "not set".
            swappiness: memory.swappiness().filter(|value| *value != u64::MAX),
            disable_oom_killer: memory.disable_oom_killer(),
            use_hierarchy: memory.use_hierarchy(),
        }
    }

    /// Which of the fields have an effect. cgroup v2 is always hierarchical, always kills and
    /// counts kernel memory as memory: there, fields with just these values have none.
    fn effective(&self, version: Version) -> [(bool, Field); 5] {
        let v1 = version == Version::V1;
        [
            (self.kernel.is_some_and(|limit| v1 || limit != -1), field!("kernel")),
            (self.kernel_tcp.is_some_and(|limit| v1 || limit != -1), field!("kernelTCP")),
            (self.swappiness.is_some(), field!("swappiness")),
            (self.disable_oom_killer.is_some_and(|off| v1 || off), field!("disableOOMKiller")),
            (self.use_hierarchy.is_some_and(|tree| v1 || !tree), field!("useHierarchy")),
        ]
    }
}

/// The first field that needs the controller.
fn first_field(limits: &Limits, v1_only: &V1Only, version: Version) -> Option<Field> {
    let both = [
        (limits.limit.is_some(), field!("limit")),
        (limits.reservation.is_some(), field!("reservation")),
        (limits.swap.is_some(), field!("swap")),
    ];
    let fields = both.into_iter().chain(v1_only.effective(version));
    fields.into_iter().find(|(is_set, _)| *is_set).map(|(_, field)| field)
}

fn check(limits: &Limits, v1_only: &V1Only, current: Current) -> Result<(), Error> {
    for (value, field) in [
        (limits.limit, field!("limit")),
        (limits.reservation, field!("reservation")),
        (limits.swap, field!("swap")),
        (v1_only.kernel, field!("kernel")),
        (v1_only.kernel_tcp, field!("kernelTCP")),
    ] {
        if value.is_some_and(|bytes| bytes < -1) {
            return Err(Error::value(field, "must be a number of bytes, or -1 for no limit"));
        }
    }
    if v1_only.swappiness.is_some_and(|value| value > 100) {
        return Err(Error::value(field!("swappiness"), "must be 0 to 100"));
    }
    check_swap(limits, current)
}

/// `swap` is memory and swap together, so it needs a memory limit: the new one, or the present one.
fn check_swap(limits: &Limits, current: Current) -> Result<(), Error> {
    match (limits.swap, limits.limit.or(current.memory)) {
        (None | Some(-1), _) => {}
        (Some(_), None | Some(-1)) => {
            return Err(Error::value(field!("swap"), "needs linux.resources.memory.limit as well"));
        }
        (Some(swap), Some(limit)) if swap < limit => {
            return Err(Error::value(
                field!("swap"),
                "is memory and swap together: it cannot be below linux.resources.memory.limit",
            ));
        }
        (Some(_), Some(_)) => {}
    }
    match (limits.swap, limits.limit, current.memory_and_swap) {
        (None, Some(limit), Some(both)) if both != -1 && limit > both => Err(Error::value(
            field!("limit"),
            format!(
                "is above the {both} bytes of memory and swap together: linux.resources.memory.swap \
                 must be raised with it"
            ),
        )),
        _ => Ok(()),
    }
}

/// On cgroup v1 memory.memsw must always be at or above memory.limit: it is raised before and
/// lowered after it. In a new cgroup both are unlimited.
fn limits_v1(plan: &mut Plan<'_>, dir: &ControllerDir, limits: &Limits) {
    // No memory limit means no limit of both together.
    let unlimited = limits.limit.filter(|limit| *limit == -1);
    let swap = limits.swap.or(unlimited);
    if raises_swap(swap, plan.current) {
        swap_v1(plan, dir, limits, swap);
    }
    if let Some(limit) = limits.limit {
        plan.write(dir, "memory.limit_in_bytes", limit, field!("limit"));
    }
    if !raises_swap(swap, plan.current) {
        swap_v1(plan, dir, limits, swap);
    }
    if let Some(reservation) = limits.reservation {
        plan.write(dir, "memory.soft_limit_in_bytes", reservation, field!("reservation"));
    }
}

fn swap_v1(plan: &mut Plan<'_>, dir: &ControllerDir, limits: &Limits, swap: Option<i64>) {
    let Some(swap) = swap else { return };
    // Without swap accounting there is no file, and no limit.
    let if_missing = if swap == -1 { IfMissing::Ignore } else { IfMissing::Fail };
    let field = if limits.swap.is_some() { field!("swap") } else { field!("limit") };
    let values = vec![swap.to_string()];
    plan.write_or(dir, "memory.memsw.limit_in_bytes", values, if_missing, field);
}

/// Whether the limit of memory and swap together does not decrease.
fn raises_swap(swap: Option<i64>, current: Option<Current>) -> bool {
    match (swap, current.and_then(|current| current.memory_and_swap)) {
        (Some(-1), _) => true,
        (Some(swap), Some(now)) => now != -1 && swap >= now,
        _ => false,
    }
}

fn write_v1_only(plan: &mut Plan<'_>, dir: &ControllerDir, v1_only: &V1Only) {
    if let Some(limit) = v1_only.kernel {
        plan.write(dir, "memory.kmem.limit_in_bytes", limit, field!("kernel"));
    }
    if let Some(limit) = v1_only.kernel_tcp {
        plan.write(dir, "memory.kmem.tcp.limit_in_bytes", limit, field!("kernelTCP"));
    }
    if let Some(swappiness) = v1_only.swappiness {
        plan.write(dir, "memory.swappiness", swappiness, field!("swappiness"));
    }
    if let Some(disable) = v1_only.disable_oom_killer {
        plan.write(dir, "memory.oom_control", u8::from(disable), field!("disableOOMKiller"));
    }
    if let Some(hierarchical) = v1_only.use_hierarchy {
        let value = u8::from(hierarchical);
        plan.write(dir, "memory.use_hierarchy", value, field!("useHierarchy"));
    }
}

fn limits_v2(plan: &mut Plan<'_>, dir: &ControllerDir, limits: &Limits) {
    if let (true, Some(Ok(limit))) = (limits.check_before_update, limits.limit.map(u64::try_from)) {
        plan.push(Op::CheckUsage { directory: dir.directory.clone(), limit });
    }
    // No memory limit means no swap limit, unless that is set too.
    let unlimited = limits.limit.filter(|limit| *limit == -1);
    // Swap first: a memory limit may swap out pages at once.
    if let Some(swap) = limits.swap.or(unlimited) {
        let current = plan.current.and_then(|current| current.memory);
        let value = match (swap, limits.limit.or(current)) {
            (-1, _) | (_, None) => "max".to_owned(),
            (swap, Some(limit)) => swap.saturating_sub(limit).to_string(),
        };
        // A kernel without swap has no file, and no swap and unlimited swap are the same.
        let trivial = value == "0" || value == "max";
        let if_missing = if trivial { IfMissing::Ignore } else { IfMissing::Fail };
        let field = if limits.swap.is_some() { field!("swap") } else { field!("limit") };
        plan.write_or(dir, "memory.swap.max", vec![value], if_missing, field);
    }
    if let Some(limit) = limits.limit {
        plan.write(dir, "memory.max", or_max(limit), field!("limit"));
    }
    if let Some(reservation) = limits.reservation {
        plan.write(dir, "memory.low", or_max(reservation), field!("reservation"));
    }
}
