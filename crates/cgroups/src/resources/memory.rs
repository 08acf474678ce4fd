//! `linux.resources.memory`.

use oci_spec::runtime::LinuxMemory;

use super::{Field, Place, Plan, Version, or_max};
use crate::{Current, Error, Missing, Op};

macro_rules! field {
    ($name:literal) => {
        Field::Borrowed(concat!("linux.resources.memory.", $name))
    };
}

/// The fields that only cgroup v1 has a file for, checked and ready to be written there.
struct Legacy {
    kernel: Option<i64>,
    kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    disable_oom_killer: Option<bool>,
    use_hierarchy: Option<bool>,
}

pub(super) fn plan(plan: &mut Plan<'_>, memory: &LinuxMemory) -> Result<(), Error> {
    check(memory, plan.current.unwrap_or_default())?;
    let version = match plan.layout.hierarchy("memory") {
        Some(_) => Version::V1,
        None => Version::V2,
    };
    let Some(first) = first_field(memory, version) else { return Ok(()) };
    let place = plan.place("memory", "memory", first)?;
    match place.version {
        Version::V1 => {
            limits_v1(plan, &place, memory);
            legacy_v1(plan, &place, &Legacy::of(memory));
            Ok(())
        }
        Version::V2 => {
            let beyond = Legacy::of(memory).asked(Version::V2);
            if let Some((_, field)) = beyond.into_iter().find(|(asked, _)| *asked) {
                return Err(Error::NotOnV2 { field });
            }
            limits_v2(plan, &place, memory);
            Ok(())
        }
    }
}

impl Legacy {
    #[allow(deprecated)] // `kernel`: the spec still has it, so it is applied or refused.
    fn of(memory: &LinuxMemory) -> Self {
        Self {
            kernel: memory.kernel(),
            kernel_tcp: memory.kernel_tcp(),
            swappiness: memory.swappiness(),
            disable_oom_killer: memory.disable_oom_killer(),
            use_hierarchy: memory.use_hierarchy(),
        }
    }

    /// Which of the fields ask for something. cgroup v2 is always hierarchical, always kills, and
    /// counts kernel memory as memory: there, who asks for just that asks for nothing.
    fn asked(&self, version: Version) -> [(bool, Field); 5] {
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
fn first_field(memory: &LinuxMemory, version: Version) -> Option<Field> {
    let limits = [
        (memory.limit().is_some(), field!("limit")),
        (memory.reservation().is_some(), field!("reservation")),
        (memory.swap().is_some(), field!("swap")),
    ];
    let asked = limits.into_iter().chain(Legacy::of(memory).asked(version));
    asked.into_iter().find(|(asked, _)| *asked).map(|(_, field)| field)
}

fn check(memory: &LinuxMemory, current: Current) -> Result<(), Error> {
    let legacy = Legacy::of(memory);
    for (value, field) in [
        (memory.limit(), field!("limit")),
        (memory.reservation(), field!("reservation")),
        (memory.swap(), field!("swap")),
        (legacy.kernel, field!("kernel")),
        (legacy.kernel_tcp, field!("kernelTCP")),
    ] {
        if value.is_some_and(|bytes| bytes < -1) {
            return Err(Error::value(field, "must be a number of bytes, or -1 for no limit"));
        }
    }
    if memory.limit() == Some(0) {
        return Err(Error::value(
            field!("limit"),
            "no process can run in 0 bytes (-1 is no limit)",
        ));
    }
    if legacy.swappiness.is_some_and(|value| value > 100) {
        return Err(Error::value(field!("swappiness"), "must be 0 to 100"));
    }
    check_swap(memory, current)
}

/// `swap` is memory and swap together, so it says something only on top of a limit of memory: the new
/// one, or the one that stays.
fn check_swap(memory: &LinuxMemory, current: Current) -> Result<(), Error> {
    match (memory.swap(), memory.limit().or(current.memory)) {
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
    match (memory.swap(), memory.limit(), current.memory_and_swap) {
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

/// cgroup v1 wants memory.memsw at or above memory.limit at every moment: what is raised goes from
/// above, what is lowered from below. In a new cgroup both are unlimited.
fn limits_v1(plan: &mut Plan<'_>, place: &Place, memory: &LinuxMemory) {
    // No limit of memory means none of both.
    let unlimited = memory.limit().filter(|limit| *limit == -1);
    let swap = memory.swap().or(unlimited);
    if raises_swap(swap, plan.current) {
        swap_v1(plan, place, memory, swap);
    }
    if let Some(limit) = memory.limit() {
        plan.write(place, "memory.limit_in_bytes", limit, field!("limit"));
    }
    if !raises_swap(swap, plan.current) {
        swap_v1(plan, place, memory, swap);
    }
    if let Some(reservation) = memory.reservation() {
        plan.write(place, "memory.soft_limit_in_bytes", reservation, field!("reservation"));
    }
}

fn swap_v1(plan: &mut Plan<'_>, place: &Place, memory: &LinuxMemory, swap: Option<i64>) {
    let Some(swap) = swap else { return };
    // Without swap accounting there is no file, and "no limit" is what one has.
    let missing = if swap == -1 { Missing::Fine } else { Missing::Refused };
    let field = if memory.swap().is_some() { field!("swap") } else { field!("limit") };
    let values = vec![swap.to_string()];
    plan.write_or(place, "memory.memsw.limit_in_bytes", values, missing, field);
}

/// Whether memory and swap together will be as much as now, or more.
fn raises_swap(swap: Option<i64>, current: Option<Current>) -> bool {
    match (swap, current.and_then(|current| current.memory_and_swap)) {
        (Some(-1), _) => true,
        (Some(swap), Some(now)) => now != -1 && swap >= now,
        _ => false,
    }
}

fn legacy_v1(plan: &mut Plan<'_>, place: &Place, legacy: &Legacy) {
    if let Some(limit) = legacy.kernel {
        plan.write(place, "memory.kmem.limit_in_bytes", limit, field!("kernel"));
    }
    if let Some(limit) = legacy.kernel_tcp {
        plan.write(place, "memory.kmem.tcp.limit_in_bytes", limit, field!("kernelTCP"));
    }
    if let Some(swappiness) = legacy.swappiness {
        plan.write(place, "memory.swappiness", swappiness, field!("swappiness"));
    }
    if let Some(disable) = legacy.disable_oom_killer {
        plan.write(place, "memory.oom_control", u8::from(disable), field!("disableOOMKiller"));
    }
    if let Some(hierarchical) = legacy.use_hierarchy {
        let value = u8::from(hierarchical);
        plan.write(place, "memory.use_hierarchy", value, field!("useHierarchy"));
    }
}

fn limits_v2(plan: &mut Plan<'_>, place: &Place, memory: &LinuxMemory) {
    if let (Some(true), Some(Ok(limit))) =
        (memory.check_before_update(), memory.limit().map(u64::try_from))
    {
        plan.push(Op::CheckUsage { directory: place.directory.clone(), limit });
    }
    // Swap first, as a limit of memory may push pages out at once.
    if let Some(swap) = memory.swap() {
        let current = plan.current.and_then(|current| current.memory);
        let value = match (swap, memory.limit().or(current)) {
            (-1, _) | (_, None) => "max".to_owned(),
            (swap, Some(limit)) => swap.saturating_sub(limit).to_string(),
        };
        // A kernel without swap has no file: then no swap and unlimited swap are the same.
        let trivial = value == "0" || value == "max";
        let missing = if trivial { Missing::Fine } else { Missing::Refused };
        plan.write_or(place, "memory.swap.max", vec![value], missing, field!("swap"));
    }
    if let Some(limit) = memory.limit() {
        plan.write(place, "memory.max", or_max(limit), field!("limit"));
    }
    if let Some(reservation) = memory.reservation() {
        plan.write(place, "memory.low", or_max(reservation), field!("reservation"));
    }
}
