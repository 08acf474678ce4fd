//! Performing the operations.

use std::os::fd::AsFd;

use davit_sys::{Error, Failure, OsContext, capability as caps, process, sched};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Pid, Uid, fchown};

use crate::capability::numbers;
use crate::{Op, label};

/// Performs `ops` in this process.
///
/// # Errors
/// The operation that failed, with its system call and errno.
pub fn apply(ops: &[Op]) -> Result<(), Failure> {
    for (index, op) in ops.iter().enumerate() {
        davit_sys::trace::operation("privileges", op, || perform(op))
            .map_err(|error| Failure::new(index, error))?;
    }
    Ok(())
}

fn perform(op: &Op) -> Result<(), Error> {
    match op {
        Op::JoinSessionKeyring(name) => match process::join_session_keyring(name) {
            // A kernel without keyrings has none that could leak.
            Err(Error { errno: Errno::ENOSYS, .. }) => Ok(()),
            joined => joined.map(drop),
        },
        Op::Label { attribute, label } => label::apply(*attribute, label),
        Op::Personality(domain) => nix::sys::personality::set(
            nix::sys::personality::Persona::from_bits_retain(*domain as libc::c_int),
        )
        .map(drop)
        .syscall("personality"),
        Op::Umask(mask) => {
            umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Op::Rlimit { resource, soft, hard, .. } => process::set_rlimit(*resource, *soft, *hard),
        Op::Scheduler(scheduler) => sched::set_scheduler(&scheduler.0),
        Op::IoPriority(io) => sched::set_io_priority(io.class, io.priority),
        Op::MemoryPolicy(policy) => {
            sched::set_memory_policy(policy.mode | policy.flags, &policy.nodes)
        }
        Op::ResetAffinity => match sched::reset_affinity() {
            // If a filter forbids this call, the caller cannot have set an affinity by it either.
            Err(Error { errno: Errno::EPERM | Errno::ENOSYS, .. }) => Ok(()),
            result => result,
        },
        Op::Affinity { cpus, .. } => run_on(cpus),
        Op::ChownStandardStreams(uid) => chown_standard_streams(*uid),
        Op::NoNewPrivileges => process::set_no_new_privileges(),
        Op::Bounding(mask) => limit_bounding_set(*mask),
        Op::KeepCapabilities => process::set_keep_capabilities(true),
        Op::Groups(groups) => process::set_groups(groups),
        Op::Ids { uid, gid } => {
            process::set_gid(*gid)?;
            process::set_uid(*uid)
        }
        Op::RaiseEffective => {
            let now = caps::get()?;
            caps::set(caps::Sets { effective: now.permitted, ..now })
        }
        Op::Capabilities { effective, permitted, inheritable, ambient } => {
            // After capset(2): an ambient capability must be permitted and inheritable.
            caps::set(caps::Sets {
                effective: *effective,
                permitted: *permitted,
                inheritable: *inheritable,
            })?;
            caps::clear_ambient()?;
            numbers(*ambient).try_for_each(caps::raise_ambient)
        }
    }
}

fn run_on(cpus: &[u64]) -> Result<(), Error> {
    let mut set = CpuSet::new();
    for (word, mask) in cpus.iter().enumerate() {
        for bit in numbers(*mask) {
            set.set(word * 64 + bit as usize).syscall("sched_setaffinity")?;
        }
    }
    sched_setaffinity(Pid::from_raw(0), &set).syscall("sched_setaffinity")
}

/// Drops all capabilities except `mask`, up to the last one of this kernel.
fn limit_bounding_set(mask: u64) -> Result<(), Error> {
    for capability in numbers(!mask) {
        match caps::drop_bounding(capability) {
            Err(Error { errno: Errno::EINVAL, .. }) => return Ok(()),
            dropped => dropped?,
        }
    }
    Ok(())
}

fn chown_standard_streams(uid: u32) -> Result<(), Error> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let Ok(stat) = fstat(stream) else { continue };
        // /dev/null may be the node of the host, which other users need too.
        let null = stat.st_rdev == nix::sys::stat::makedev(1, 3);
        if stat.st_uid == uid || null {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // In a user namespace, or on a read-only or other file system, that is not possible.
            Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL | Errno::ENOSYS) => {}
            Err(errno) => return Err(Error::new("fchown", errno)),
        }
    }
    Ok(())
}
