//! seccomp(2): installing a filter, and querying the actions of the kernel.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::Error;

/// One classic BPF instruction, with the layout of `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation: class, size, mode.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when a comparison does not hold.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Synchronise all threads of the process to the new filter.
pub const TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
/// Log every returned action except ALLOW.
pub const LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Do not enable the mitigation of speculative store bypass.
pub const SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Return a descriptor on which NOTIFY actions are reported.
pub const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
/// With [`TSYNC`]: fail with ESRCH if a thread cannot be synchronised, so that the result can be a
/// listener.
pub const TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
/// A process that waits for the answer to a received notification is interrupted only by fatal
/// signals.
pub const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// seccomp(2), `SECCOMP_SET_MODE_FILTER`: installs `program` for this thread.
///
/// Returns the listener if `flags` has [`NEW_LISTENER`].
///
/// # Errors
/// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`, `EINVAL` for an invalid program or one with
/// more than 4096 instructions, `ESRCH` if another thread could not be synchronised.
pub fn set_mode_filter(flags: u32, program: &[Instruction]) -> Result<Option<OwnedFd>, Error> {
    const CALL: &str = "seccomp";
    let len = u16::try_from(program.len()).map_err(|_| Error::new(CALL, Errno::EINVAL))?;
    let filter =
        libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>() };
    // SAFETY: Instruction has the layout of sock_filter, `filter` describes exactly the slice
    // `program`, which outlives the call, and the kernel only reads it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&filter),
        )
    };
    match i32::try_from(answer) {
        Ok(fd) if fd >= 0 && flags & NEW_LISTENER != 0 => {
            // SAFETY: with NEW_LISTENER a successful call returns a new descriptor.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        Ok(0) => Ok(None),
        // With TSYNC a positive result is the id of a thread that could not be synchronised.
        Ok(tid) if tid > 0 => Err(Error::new(CALL, Errno::ESRCH)),
        _ => Err(Error::last(CALL)),
    }
}

/// seccomp(2), `SECCOMP_GET_ACTION_AVAIL` (Linux 4.14): whether the kernel has the action `action`.
///
/// # Errors
/// `EINVAL` on older kernels.
pub fn action_available(action: u32) -> Result<bool, Error> {
    // SAFETY: the kernel reads one u32 at the pointer, which is valid during the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            std::ptr::from_ref(&action),
        )
    };
    match answer {
        0 => Ok(true),
        _ if Errno::last() == Errno::EOPNOTSUPP => Ok(false),
        _ => Err(Error::last("seccomp")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_has_the_layout_of_the_kernels() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(
            std::mem::offset_of!(Instruction, k),
            std::mem::offset_of!(libc::sock_filter, k)
        );
        assert_eq!(
            std::mem::offset_of!(Instruction, jf),
            std::mem::offset_of!(libc::sock_filter, jf)
        );
    }

    #[test]
    fn an_empty_program_is_refused_by_the_kernel() {
        let error = set_mode_filter(0, &[]).expect_err("no filter is empty");
        assert_eq!(error, Error::new("seccomp", Errno::EINVAL));
    }

    #[test]
    fn the_kernel_knows_allow_and_not_nonsense() {
        assert_eq!(action_available(libc::SECCOMP_RET_ALLOW), Ok(true));
        assert_eq!(action_available(0x1234_0000), Ok(false));
    }
}
