//! Properties of this process: prctl(2), ids, limits, signals, descriptors, and execveat(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::error::check;
use crate::{Error, OsContext};

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<(), Error> {
    // SAFETY: the options used in this file take one integer and three unused zeroes.
    check("prctl", unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(drop)
}

/// Whether this process is in the initial user namespace, by its fixed inode number. The id map is
/// no proof: another namespace may map all ids to themselves (systemd 260 creates such ones).
///
/// # Errors
/// /proc is not mounted.
pub fn in_initial_user_namespace() -> Result<bool, Error> {
    /// `PROC_USER_INIT_INO` of linux/proc_ns.h
    const INITIAL: u64 = 0xEFFF_FFFD;
    Ok(nix::sys::stat::stat("/proc/self/ns/user").syscall("stat")?.st_ino == INITIAL)
}

/// `PR_SET_DUMPABLE`: whether this process may be traced and its /proc files belong to its user.
///
/// # Errors
/// Not documented for these values.
pub fn set_dumpable(dumpable: bool) -> Result<(), Error> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// `PR_SET_PDEATHSIG`: the signal that this process gets when its parent thread ends (`None`:
/// no signal).
///
/// # Errors
/// Not documented for valid signals.
pub fn set_parent_death_signal(signal: Option<Signal>) -> Result<(), Error> {
    prctl(libc::PR_SET_PDEATHSIG, signal.map_or(0, |signal| signal as libc::c_ulong))
}

/// `PR_SET_NO_NEW_PRIVS`: execve(2) grants no privileges to this process and its children.
///
/// # Errors
/// Not documented.
pub fn set_no_new_privileges() -> Result<(), Error> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// `PR_SET_KEEPCAPS`: permitted capabilities survive a change from uid 0 to another uid.
///
/// # Errors
/// EPERM if the securebits are locked.
pub fn set_keep_capabilities(keep: bool) -> Result<(), Error> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into())
}

/// `PR_SET_NAME`: the name in `ps`, at most 15 bytes.
///
/// # Errors
/// Not documented for valid strings.
pub fn set_name(name: &CStr) -> Result<(), Error> {
    // SAFETY: the kernel reads at most 16 bytes of a terminated string.
    check("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }.into())
        .map(drop)
}

/// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`: executes the file `program`.
///
/// Returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, argv: &CArray<'_>, envp: &CArray<'_>) -> Error {
    // SAFETY: both arrays end with a null pointer and borrow the strings they point to.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.0.as_ptr(),
            envp.0.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Error::last("execveat")
}

/// execve(2): executes the file at `path`. Returns only on failure.
pub fn exec_path(path: &CStr, argv: &CArray<'_>, envp: &CArray<'_>) -> Error {
    // SAFETY: both arrays end with a null pointer and borrow the strings they point to.
    unsafe { libc::execve(path.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    Error::last("execve")
}

/// A null-terminated array of strings for execve(2), allocated in advance.
#[derive(Debug)]
pub struct CArray<'a>(Vec<*const libc::c_char>, std::marker::PhantomData<&'a CStr>);

impl<'a> CArray<'a> {
    /// The array of `strings`.
    pub fn new<S: AsRef<CStr> + 'a>(strings: impl IntoIterator<Item = &'a S>) -> Self {
        let pointers = strings.into_iter().map(|string| string.as_ref().as_ptr());
        Self(pointers.chain([std::ptr::null()]).collect(), std::marker::PhantomData)
    }
}

/// close_range(2): sets close-on-exec for all descriptors from `first`.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Error> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
    // SAFETY: the call only sets a flag on descriptors; it closes nothing.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    check("close_range", ret).map(drop)
}

/// fcntl(2) `F_SETFD`: sets or clears close-on-exec of `fd`.
///
/// # Errors
/// EBADF.
///
/// # Safety
/// The caller owns or borrows `fd`: with `close` false the next program inherits it.
pub unsafe fn set_close_on_exec(fd: RawFd, close: bool) -> Result<(), Error> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches only the descriptor's flags.
    check("fcntl", unsafe { libc::fcntl(fd, libc::F_SETFD, flags) }.into()).map(drop)
}

/// Takes ownership of a descriptor that this process has inherited under that number.
///
/// # Errors
/// EBADF for a negative number. Whether it is open is not checked.
///
/// # Safety
/// Nothing else in this process owns `fd`, now or later (`std::io`, "I/O Safety").
pub unsafe fn adopt_fd(fd: RawFd) -> Result<OwnedFd, Error> {
    if fd < 0 {
        return Err(Error::new("descriptor", nix::errno::Errno::EBADF));
    }
    // SAFETY: not -1, and without another owner by the contract of this function.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// dup2(2): closes the descriptor `number`, and makes it a duplicate of `fd`.
///
/// # Errors
/// EBADF, EBUSY.
///
/// # Safety
/// Nothing in this process owns `number`, or its owner expects this.
pub unsafe fn dup2(fd: impl AsFd, number: RawFd) -> Result<(), Error> {
    // SAFETY: the call takes two integers; the caller may close `number`.
    check("dup2", unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.into()).map(drop)
}

/// Makes standard input, output and error duplicates of `fd`.
///
/// # Errors
/// EBADF, EBUSY.
pub fn set_standard_streams(fd: impl AsFd) -> Result<(), Error> {
    // SAFETY: no value owns the numbers 0 to 2: the handles of std only use them.
    (0..=2).try_for_each(|stream| unsafe { dup2(&fd, stream) })
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: creates and joins a session keyring of that name.
///
/// # Errors
/// ENOSYS without CONFIG_KEYS, EDQUOT, EACCES.
pub fn join_session_keyring(name: &CStr) -> Result<i32, Error> {
    // SAFETY: the operation takes a terminated string.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, 1 as libc::c_long, name.as_ptr()) };
    check("keyctl", ret).map(|serial| serial as i32)
}

/// setgroups(2) of this process, without the C library, as in the two below: that would look for
/// other threads, of which there are none.
///
/// # Errors
/// EPERM if /proc/self/setgroups is "deny", EINVAL for an id that is not mapped.
pub fn set_groups(groups: &[libc::gid_t]) -> Result<(), Error> {
    // SAFETY: pointer and length are of one slice.
    let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check("setgroups", ret).map(drop)
}

/// setresgid(2) of this process, all three ids at once.
///
/// # Errors
/// EPERM, EINVAL for an id that is not mapped.
pub fn set_gid(gid: libc::gid_t) -> Result<(), Error> {
    // SAFETY: the call takes three integers.
    check("setresgid", unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setresuid(2) of this process, all three ids at once.
///
/// # Errors
/// EPERM, EINVAL for an id that is not mapped, EAGAIN (RLIMIT_NPROC).
pub fn set_uid(uid: libc::uid_t) -> Result<(), Error> {
    // SAFETY: the call takes three integers.
    check("setresuid", unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// What /proc/self/status says of this process (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The signals that it ignores, as a mask: signal 1 is its lowest bit.
    pub ignored_signals: u64,
    /// Its permitted capabilities, as a mask.
    pub permitted: u64,
}

impl Status {
    /// Reads it.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn read() -> Result<Self, Error> {
        let status = crate::file::read_record("/proc/self/status")?;
        Self::parse(&String::from_utf8_lossy(&status))
            .ok_or(Error::new("read /proc/self/status", nix::errno::Errno::EINVAL))
    }

    fn parse(text: &str) -> Option<Self> {
        let mask = |field: &str| {
            let mask = text.lines().find_map(|line| line.strip_prefix(field))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        };
        Some(Self { ignored_signals: mask("SigIgn:")?, permitted: mask("CapPrm:")? })
    }
}

/// Resets the signals of `ignored`, a mask as in [`Status`], to their default action, and
/// unblocks all signals.
///
/// # Errors
/// rt_sigaction(2) or sigprocmask(2) failed.
pub fn reset_signals(ignored: u64) -> Result<(), Error> {
    // The kernel's struct sigaction: all zeroes is SIG_DFL without flags. The C library refuses the
    // two signals that it uses itself.
    let default = [0u64; 4];
    let settable = |signal: &i32| ![libc::SIGKILL, libc::SIGSTOP].contains(signal);
    let is_ignored = |signal: &i32| ignored >> (signal - 1) & 1 != 0;
    for signal in (1..=64).filter(is_ignored).filter(settable) {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: the kernel reads one struct of at most 32 bytes, with a mask of 8 bytes, and
        // installs no handler.
        let ret = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>())
        };
        check("rt_sigaction", ret)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| Error::new("sigprocmask", errno))
}

/// Lets `command` start with default signal actions and no blocked signals, whatever this process
/// ignores and blocks, and with this umask if there is one.
pub fn reset_child_signals(command: &mut Command, umask: Option<u32>) {
    let reset = move || {
        if let Some(umask) = umask {
            // SAFETY: the call takes an integer.
            unsafe { libc::umask(umask) };
        }
        reset_signals(u64::MAX).map_err(|error| error.errno.into())
    };
    // SAFETY: a few system calls between fork and exec, and no allocation.
    unsafe { command.pre_exec(reset) };
}

/// exit_group(2), and if a seccomp filter refuses that, an instruction that ends the process.
pub fn exit(code: i32) -> ! {
    // SAFETY: the call takes an integer.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an invalid instruction: the kernel kills the process with SIGILL.
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    };
    #[cfg(not(target_arch = "x86_64"))]
    std::process::abort();
}

/// prlimit(2) with raw numbers, on this process: both limits of `resource` at once.
///
/// # Errors
/// EPERM for a hard limit above the present one without CAP_SYS_RESOURCE, EINVAL for soft > hard.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Error> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is a valid struct, and the old one is not requested.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<libc::c_void>(),
        )
    };
    check("prlimit", ret).map(drop)
}

/// prlimit(2): soft and hard limit of `resource` of this process.
///
/// # Errors
/// EINVAL for an unknown resource.
pub fn rlimit(resource: u32) -> Result<(u64, u64), Error> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one struct.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::c_void>(),
            &raw mut limit,
        )
    };
    check("prlimit", ret)?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// ioctl_tty(2) `TIOCSCTTY`: makes `terminal` the controlling terminal of this session leader.
///
/// # Errors
/// EPERM if the process is not a session leader or has a controlling terminal.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(
        "ioctl TIOCSCTTY",
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into(),
    )
    .map(drop)
}

/// setdomainname(2): the NIS domain name of the uts namespace.
///
/// # Errors
/// EPERM, EINVAL for one of more than 64 bytes.
pub fn set_domain_name(name: &CStr) -> Result<(), Error> {
    // SAFETY: pointer and length are of one terminated string.
    let ret = unsafe { libc::setdomainname(name.as_ptr(), name.to_bytes().len()) };
    check("setdomainname", ret.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_by_its_fields() {
        let text = "Name:\tSigIgn: 1\nSigIgn:\t0000000001001000\nCapPrm:\t000001ffffffffff\n";
        let expected = Status { ignored_signals: 0x100_1000, permitted: 0x1ff_ffff_ffff };
        assert_eq!(Status::parse(text), Some(expected));
        assert_eq!(Status::parse("CapPrm:\t0\n"), None);
        assert_eq!(Status::parse("SigIgn:\tx\nCapPrm:\t0\n"), None);
        assert!(Status::read().is_ok());
    }
}
