//! When and where a process runs, and where its memory is: scheduling policy, I/O priority, NUMA
//! policy.

use crate::Error;

fn check(call: &'static str, ret: libc::c_long) -> Result<(), Error> {
    if ret < 0 { Err(Error::last(call)) } else { Ok(()) }
}

/// What sched_setattr(2) sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For the policies without static priority.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds, as the two that follow.
    pub runtime: u64,
    /// See `runtime`.
    pub deadline: u64,
    /// See `runtime`.
    pub period: u64,
}

/// The struct of Linux 5.3 and later, `SCHED_ATTR_SIZE_VER1`: the libraries have the older one,
/// with which the kernel refuses the clamping flags.
#[repr(C)]
struct KernelAttributes {
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
/// EPERM without CAP_SYS_NICE, EINVAL, EBUSY where the deadline cannot be promised, EOPNOTSUPP.
pub fn set_scheduler(attributes: &Attributes) -> Result<(), Error> {
    let attributes = KernelAttributes {
        size: size_of::<KernelAttributes>() as u32,
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        runtime: attributes.runtime,
        deadline: attributes.deadline,
        period: attributes.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the kernel reads one struct, which says its own size (and writes only the size that
    // it wants, where it knows a shorter one).
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    check("sched_setattr", ret)
}

/// The number of the processor that this thread runs on: getcpu(2). The C library asks the vDSO, and to find that
/// there takes more time than the system call.
///
/// # Errors
/// ENOSYS where a filter says so.
pub fn processor() -> Result<usize, Error> {
    let mut number: libc::c_uint = 0;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel writes one integer, and nothing where the pointers are null.
    check("getcpu", unsafe { libc::syscall(libc::SYS_getcpu, &raw mut number, none, none) })?;
    Ok(number as usize)
}

/// sched_setaffinity(2) of this thread, to all processors that there may be: it may run wherever its cpuset lets
/// it, also where that changes later. A set of processors would be kept (Linux 6.2).
///
/// # Errors
/// EPERM, ENOSYS where a filter says so.
pub fn run_anywhere() -> Result<(), Error> {
    // As many as a kernel can be built for (`NR_CPUS`); what is longer than its own mask it does not read.
    static ALL: [u64; 8192 / 64] = [u64::MAX; _];
    let call = libc::SYS_sched_setaffinity;
    // SAFETY: the kernel reads at most as many bytes as the array has.
    check("sched_setaffinity", unsafe { libc::syscall(call, 0, size_of_val(&ALL), &raw const ALL) })
}

/// ioprio_set(2) of this process's process group: `class` is one of `IOPRIO_CLASS_*`.
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_NICE or CAP_SYS_ADMIN, EINVAL.
pub fn set_io_priority(class: u8, priority: u8) -> Result<(), Error> {
    // linux/ioprio.h, which no library has.
    const IOPRIO_WHO_PGRP: libc::c_int = 2;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << IOPRIO_CLASS_SHIFT | libc::c_int::from(priority);
    // SAFETY: the call takes three integers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, value) };
    check("ioprio_set", ret)
}

/// set_mempolicy(2) of this thread: `mode` with its `MPOL_F_*` flags, and the nodes as a mask.
///
/// # Errors
/// ENOSYS in a kernel without NUMA, EINVAL for a mode that it does not know or for nodes that it
/// does not have or that the cpuset does not allow.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Error> {
    // The kernel takes one off before it looks at the number of bits (mm/mempolicy.c, get_nodes):
    // 0 would be far too many, and "no nodes" is said by 1.
    let bits = nodes.len() * u64::BITS as usize + 1;
    // SAFETY: the kernel reads `bits - 1` bits, which are those of the slice.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    check("set_mempolicy", ret)
}
