//! What a process says about itself to the kernel: prctl(2), execveat(2), session keyring, groups.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::Error;

fn check(call: &'static str, ret: libc::c_long) -> Result<libc::c_long, Error> {
    if ret < 0 { Err(Error::last(call)) } else { Ok(ret) }
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<(), Error> {
    // SAFETY: the options used in this file take one integer and three unused zeroes.
    check("prctl", unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(drop)
}

/// `PR_SET_DUMPABLE`: whether this process may be traced and its /proc files belong to its user.
///
/// # Errors
/// None that the kernel documents for 0 and 1.
pub fn set_dumpable(dumpable: bool) -> Result<(), Error> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// `PR_SET_PDEATHSIG`: the signal this process gets when the thread that made it ends (`None`: none).
///
/// # Errors
/// None for a valid signal.
pub fn set_parent_death_signal(signal: Option<Signal>) -> Result<(), Error> {
    prctl(libc::PR_SET_PDEATHSIG, signal.map_or(0, |signal| signal as libc::c_ulong))
}

/// `PR_SET_NO_NEW_PRIVS`: no exec of this process grants anything any more.
///
/// # Errors
/// None that the kernel documents.
pub fn set_no_new_privileges() -> Result<(), Error> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// `PR_SET_KEEPCAPS`: permitted capabilities outlive the change from uid 0 to another one.
///
/// # Errors
/// EPERM where the securebits are locked.
pub fn set_keep_capabilities(keep: bool) -> Result<(), Error> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into())
}

/// `PR_SET_NAME`: what `ps` shows; the kernel keeps 15 bytes.
///
/// # Errors
/// None for a valid string.
pub fn set_name(name: &CStr) -> Result<(), Error> {
    // SAFETY: the kernel reads at most 16 bytes of a terminated string.
    check("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }.into())
        .map(drop)
}

/// `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`: becomes the program behind `program`.
///
/// Returns only when it failed: execveat(2).
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

/// execve(2): becomes the program at `path`. Returns only when it failed.
pub fn exec_path(path: &CStr, argv: &CArray<'_>, envp: &CArray<'_>) -> Error {
    // SAFETY: both arrays end with a null pointer and borrow the strings they point to.
    unsafe { libc::execve(path.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    Error::last("execve")
}

/// A null-terminated array of strings as exec wants it, made before the moment it is needed.
#[derive(Debug)]
pub struct CArray<'a>(Vec<*const libc::c_char>, std::marker::PhantomData<&'a CStr>);

impl<'a> CArray<'a> {
    /// The array of `strings`.
    pub fn new<S: AsRef<CStr> + 'a>(strings: impl IntoIterator<Item = &'a S>) -> Self {
        let pointers = strings.into_iter().map(|string| string.as_ref().as_ptr());
        Self(pointers.chain([std::ptr::null()]).collect(), std::marker::PhantomData)
    }
}

/// close_range(2) from `first` up, all closed when the process executes.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn close_on_exec_from(first: RawFd) -> Result<(), Error> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
    // SAFETY: the call only sets a flag on descriptors; it closes nothing.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    check("close_range", ret).map(drop)
}

/// Whether `fd` is closed when the process executes (fcntl(2), `F_SETFD`).
///
/// # Errors
/// EBADF.
pub fn set_close_on_exec(fd: RawFd, close: bool) -> Result<(), Error> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches only the descriptor's flags.
    check("fcntl", unsafe { libc::fcntl(fd, libc::F_SETFD, flags) }.into()).map(drop)
}

/// Whether `fd` is an open descriptor of this process.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Takes over a descriptor that came as a number: from a system call, or from the program that
/// executed this one.
///
/// # Errors
/// EBADF for what no descriptor can be; whether it is open its first use shows.
pub fn take_over(fd: RawFd) -> Result<OwnedFd, Error> {
    if fd < 0 {
        return Err(Error::new("descriptor", nix::errno::Errno::EBADF));
    }
    // SAFETY: by the contract of the one who passed the number it is for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// dup2(2) onto a number that the process relies on (0, 1, 2): what was there is closed.
///
/// # Errors
/// EBADF, EBUSY.
pub fn duplicate_onto(fd: impl AsFd, number: RawFd) -> Result<(), Error> {
    // SAFETY: only the standard streams and numbers that nobody in this process owns are given.
    check("dup2", unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.into()).map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: a new session keyring of that name.
///
/// # Errors
/// ENOSYS without CONFIG_KEYS, EDQUOT, EACCES.
pub fn join_session_keyring(name: &CStr) -> Result<i32, Error> {
    // SAFETY: the operation takes a terminated string.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, 1 as libc::c_long, name.as_ptr()) };
    check("keyctl", ret).map(|serial| serial as i32)
}

/// setgroups(2) of this process. The system call itself, as in the two below: the C libraries' look
/// for other threads first, of which there are none.
///
/// # Errors
/// EPERM where /proc/self/setgroups says deny, EINVAL for an id that is not mapped.
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

/// Sets the disposition of signals to the default, and blocks none: what the caller of the runtime ignored or blocked
/// is not the container's. To ask which ones are ignored (proc(5)) is dearer than to set the standard ones and the two that
/// C libraries keep for themselves. The real-time signals above them are left: what they mean is agreed upon by two
/// programs, and nobody ignores them for a third (signal(7)).
///
/// # Errors
/// None for signals that can be set.
pub fn default_signals() -> Result<(), Error> {
    const LAST: libc::c_int = 33;
    // The kernel's own struct sigaction: all zeroes is SIG_DFL without flags, whatever its order.
    // The C library's call refuses its own two.
    let default = [0u64; 4];
    for signal in (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: the kernel reads one struct of at most 32 bytes, with a mask of 8, and installs
        // no code of ours.
        let ret = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>())
        };
        check("rt_sigaction", ret)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|errno| Error::new("sigprocmask", errno))
}

/// prlimit(2) with raw numbers, on this process: both limits of `resource` at once.
///
/// # Errors
/// EPERM for a hard limit above the present one without CAP_SYS_RESOURCE, EINVAL for soft > hard.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Error> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is a valid struct, the old one is not asked for.
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
    // SAFETY: the kernel writes one struct to where it is told.
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

/// The controlling terminal of this session leader becomes `terminal` (ioctl_tty(2), `TIOCSCTTY`).
///
/// # Errors
/// EPERM where the process leads no session or has a terminal already.
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
