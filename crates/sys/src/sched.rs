//! Scheduling policy, CPU affinity, I/O priority and NUMA policy.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::check;

/// Arguments of sched_setattr(2), in the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Nice value, for the policies without static priority.
    pub nice: i32,
    /// Static priority, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Runtime for `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    /// Deadline for `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: u64,
    /// Period for `SCHED_DEADLINE`, in nanoseconds.
    pub period: u64,
}

/// The struct of Linux 5.3 and later, `SCHED_ATTR_SIZE_VER1`: with the older one of the libraries
/// the kernel refuses the clamping flags.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// sched_setattr(2) of this thread.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, EINVAL, EBUSY if the deadline cannot be guaranteed, EOPNOTSUPP.
pub fn set_scheduler(scheduler: &Scheduler) -> Result<(), Error> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the kernel reads one struct, which contains its size (and writes only the size that
    // it supports, if that is smaller).
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check("sched_setattr", ret).map(drop)
}

/// getcpu(2): the number of the CPU that this thread runs on. The C library uses the vDSO, which
/// takes longer to find than the system call.
///
/// # Errors
/// ENOSYS under a seccomp filter.
pub fn current_cpu() -> Result<usize, Error> {
    let mut number: libc::c_uint = 0;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel writes one integer, and nothing to null pointers.
    check("getcpu", unsafe { libc::syscall(libc::SYS_getcpu, &raw mut number, none, none) })?;
    Ok(number as usize)
}

/// sched_setaffinity(2) of this thread to all CPUs: it may run on all CPUs of its cpuset, also if
/// that changes later. (A smaller set would still apply then, since Linux 6.2.)
///
/// # Errors
/// EPERM; ENOSYS under a seccomp filter.
pub fn reset_affinity() -> Result<(), Error> {
    // Maximum number of CPUs of a kernel (`NR_CPUS`); it does not read beyond its own mask.
    static ALL: [u64; 8192 / 64] = [u64::MAX; _];
    let call = libc::SYS_sched_setaffinity;
    // SAFETY: the kernel reads at most as many bytes as the array has.
    let ret = unsafe { libc::syscall(call, 0, size_of_val(&ALL), &raw const ALL) };
    check("sched_setaffinity", ret).map(drop)
}

/// ioprio_set(2) of this process's process group: `class` is one of `IOPRIO_CLASS_*`.
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_NICE or CAP_SYS_ADMIN, EINVAL.
pub fn set_io_priority(class: u8, priority: u8) -> Result<(), Error> {
    // linux/ioprio.h, which the libraries lack.
    const IOPRIO_WHO_PGRP: libc::c_int = 2;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << IOPRIO_CLASS_SHIFT | libc::c_int::from(priority);
    // SAFETY: the call takes three integers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, value) };
    check("ioprio_set", ret).map(drop)
}

/// set_mempolicy(2) of this thread: `mode` with its `MPOL_F_*` flags, and the nodes as a mask.
///
/// # Errors
/// ENOSYS in a kernel without NUMA, EINVAL for an unknown mode, or for nodes that do not exist or
/// are not in the cpuset.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Error> {
    // The kernel subtracts one from the number of bits (mm/mempolicy.c, get_nodes): 1 means no
    // nodes, and 0 would be far too many.
    let bits = nodes.len() * u64::BITS as usize + 1;
    // SAFETY: the kernel reads `bits - 1` bits, which are those of the slice.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    check("set_mempolicy", ret).map(drop)
}
