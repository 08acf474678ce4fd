//! `clone3(2)`: start a process straight in its namespaces and its cgroup.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::Error;

/// The child shares the caller's memory and the caller sleeps until it has executed or exited.
/// Nothing is copied: the cheapest way to another program.
pub const SHARE_MEMORY_UNTIL_EXEC: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;

/// The child gets the caller's parent as its own.
pub const SIBLING: u64 = libc::CLONE_PARENT as u64;

/// New time namespace: not in the `int` that [`libc`] gives the other flags.
pub const NEWTIME: u64 = 0x80;

/// A child that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// A handle that stays with this very process, whatever happens to the number.
    pub pidfd: OwnedFd,
}

/// Room for what the child does before it executes: a few system calls, no formatting.
const STACK: usize = 64 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK]);

/// Makes a child that runs `body` on a stack of its own and exits with its result.
///
/// With [`SHARE_MEMORY_UNTIL_EXEC`] `body` shares memory with the sleeping caller: it must only make system calls, as after
/// vfork(2), and what it writes to its captures is seen by the caller. No signal may have a handler: it
/// would run in the child and write to the caller's memory.
/// `cgroup` (a cgroup v2 directory) places the child there from its first instruction
/// (`CLONE_INTO_CGROUP`, Linux 5.7).
///
/// # Errors
/// The errno of clone3(2): EPERM, ENOSPC (too many namespaces), EBUSY or EOPNOTSUPP (cgroup), ...
pub fn spawn<F>(flags: u64, cgroup: Option<BorrowedFd<'_>>, body: F) -> Result<Child, Error>
where
    F: FnMut() -> i32,
{
    // Not here: an array of this size in a frame is touched page by page, used or not.
    let mut stack = Box::<Stack>::new_uninit();
    let mut pidfd: RawFd = -1;
    let mut body = body;
    // SAFETY: clone_args is plain integers; all zeroes is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    // A child that joins its creator's siblings may not name an exit signal (clone(2), EINVAL).
    args.exit_signal = if flags & SIBLING == 0 { libc::SIGCHLD as u64 } else { 0 };
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = STACK as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` names a stack that outlives the child's use of it: with CLONE_VM the caller
    // sleeps (CLONE_VFORK) until the child has left it, without CLONE_VM the child has a copy.
    // `enter::<F>` is given the pointer to `body` that it expects, and never returns.
    let ret = unsafe { raw_clone3(&mut args, enter::<F>, (&raw mut body).cast()) };
    if ret < 0 {
        return Err(Error::new("clone3", Errno::from_raw(-(ret as i32))));
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that is ours.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: Pid::from_raw(ret as i32), pidfd })
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

extern "C" fn enter<F: FnMut() -> i32>(body: *mut c_void) -> ! {
    // SAFETY: `spawn` passes a pointer to its `F`, alive for as long as the child runs on it.
    let code = unsafe { (*body.cast::<F>())() };
    // SAFETY: _exit has no preconditions; it runs no handlers of the shared memory's owner.
    unsafe { libc::_exit(code) }
}

/// The system call itself; the child calls `entry(body)` on the stack named in `args`.
///
/// # Safety
/// `args` must name a writable stack that stays valid while the child uses it, and `entry` must
/// accept `body` and never return.
#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(
    args: &mut libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    body: *mut c_void,
) -> isize {
    let ret: isize;
    // SAFETY: the syscall clobbers only rax, rcx and r11. The child starts with every other
    // register as here and rsp at the top of the new stack, 16 bytes aligned as a call wants it;
    // it never reaches the code after the block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => ret,
            in("rdi") &raw mut *args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") body,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// The system call itself; the child calls `entry(body)` on the stack named in `args`.
///
/// # Safety
/// As for x86_64.
#[cfg(target_arch = "aarch64")]
unsafe fn raw_clone3(
    args: &mut libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    body: *mut c_void,
) -> isize {
    let ret: isize;
    // SAFETY: the syscall changes only x0. The child starts with every other register as here and
    // sp at the top of the new stack; it never reaches the code after the block.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw mut *args => ret,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") body,
            in("x21") entry,
        );
    }
    ret
}

/// Without assembly for this machine: a plain fork on the caller's stack, which is copied.
///
/// # Safety
/// `entry` must accept `body` and never return.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw_clone3(
    args: &mut libc::clone_args,
    entry: extern "C" fn(*mut c_void) -> !,
    body: *mut c_void,
) -> isize {
    args.flags &= !SHARE_MEMORY_UNTIL_EXEC;
    args.stack = 0;
    args.stack_size = 0;
    // SAFETY: with neither CLONE_VM nor a stack this is fork(2) of a single-threaded process.
    let ret =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut *args, size_of::<libc::clone_args>()) };
    match ret {
        0 => entry(body),
        -1 => -(Errno::last_raw() as isize),
        pid => pid as isize,
    }
}

/// On which side of a [`fork`] the caller finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the process that called; this is the child's pid.
    Parent(Pid),
    /// In the new process.
    Child,
}

/// fork(2) with clone3(2)'s namespace flags: the child goes on where the caller is.
///
/// With [`SIBLING`] the caller's parent becomes the child's, and waits for it.
///
/// # Errors
/// The errno of clone3(2).
pub fn fork(flags: u64) -> Result<Side, Error> {
    // SAFETY: clone_args is plain integers; all zeroes is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags & !SHARE_MEMORY_UNTIL_EXEC;
    args.exit_signal = if flags & SIBLING == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: without CLONE_VM and without a stack this is fork(2): the child has a copy of all
    // memory, and the process has one thread, so no lock is held by anyone else.
    let ret =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match ret {
        -1 => Err(Error::last("clone3")),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(Pid::from_raw(pid as i32))),
    }
}

/// Whether [`vfork`] works on this machine.
pub const CAN_VFORK: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The caller goes on as a new process, a child of its parent; the old one sleeps until that executes or
/// ends, and then ends with 0. They share their memory, of which nothing is copied, and the old one does not touch
/// it again.
/// The caller has one thread.
///
/// Returns, in the new process, its pid in the old one's pid namespace.
///
/// # Errors
/// The errno of clone3(2); ENOSYS where [`CAN_VFORK`] is false.
pub fn vfork() -> Result<Pid, Error> {
    let mut pid: libc::pid_t = 0;
    // SAFETY: clone_args is plain integers; all zeroes is its documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = SHARE_MEMORY_UNTIL_EXEC | SIBLING | libc::CLONE_PARENT_SETTID as u64;
    // Written before the new process runs, into the memory that is its too.
    args.parent_tid = (&raw mut pid) as u64;
    // SAFETY: `args` names no stack, and `parent_tid` is a variable of this frame.
    match unsafe { raw_vfork(&mut args) } {
        // SAFETY: a variable of this frame, which the kernel has written.
        0 => Ok(Pid::from_raw(unsafe { (&raw const pid).read_volatile() })),
        error => Err(Error::new("clone3", Errno::from_raw(-(error as i32)))),
    }
}

/// clone3(2); returns 0 in the new process, or a negative errno. The old process never comes back: woken
/// up, it ends by a system call, without a look at the stack that both have used.
///
/// # Safety
/// `args` must ask for CLONE_VM with CLONE_VFORK and name no stack.
#[cfg(target_arch = "x86_64")]
unsafe fn raw_vfork(args: &mut libc::clone_args) -> isize {
    let ret: isize;
    // SAFETY: the syscall clobbers only rax, rcx and r11. What returns has all other registers and the
    // stack as they were here; what does not return needs none of them.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jle 2f",
            "xor edi, edi",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone3 as isize => ret,
            in("rdi") &raw mut *args,
            in("rsi") size_of::<libc::clone_args>(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// The same.
///
/// # Safety
/// As for x86_64.
#[cfg(target_arch = "aarch64")]
unsafe fn raw_vfork(args: &mut libc::clone_args) -> isize {
    let ret: isize;
    // SAFETY: the syscall changes only x0; the rest as for x86_64.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cmp x0, 0",
            "b.le 2f",
            "mov x0, 0",
            "mov x8, {exit_group}",
            "svc 0",
            "brk 1",
            "2:",
            exit_group = const libc::SYS_exit_group,
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw mut *args => ret,
            in("x1") size_of::<libc::clone_args>(),
        );
    }
    ret
}

/// Without assembly for this machine there is no way back to a stack that two have used.
///
/// # Safety
/// None is asked for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw_vfork(_: &mut libc::clone_args) -> isize {
    -(libc::ENOSYS as isize)
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    #[test]
    fn a_child_that_shares_memory_is_seen_to_have_run() {
        let mut seen = 0;
        let child = spawn(SHARE_MEMORY_UNTIL_EXEC, None, || {
            seen += 1;
            7
        })
        .unwrap();
        assert_eq!(waitpid(child.pid, None), Ok(WaitStatus::Exited(child.pid, 7)));
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_forked_child_has_its_own_memory() {
        let mut seen = 0;
        let child = spawn(0, None, || {
            seen += 1;
            seen
        })
        .unwrap();
        assert_eq!(waitpid(child.pid, None), Ok(WaitStatus::Exited(child.pid, 1)));
        assert_eq!(seen, 0);
    }

    #[test]
    fn the_old_process_ends_when_the_new_one_has_and_both_have_one_parent() {
        let (mut new, mut seen) = (0, 0);
        let old = spawn(SHARE_MEMORY_UNTIL_EXEC, None, || {
            new = vfork().unwrap().as_raw();
            seen = std::process::id();
            7
        })
        .unwrap();
        assert_ne!(new, old.pid.as_raw());
        assert_eq!(new as u32, seen);
        let new = Pid::from_raw(new);
        assert_eq!(waitpid(new, None), Ok(WaitStatus::Exited(new, 7)));
        assert_eq!(waitpid(old.pid, None), Ok(WaitStatus::Exited(old.pid, 0)));
    }

    #[test]
    fn refused_flags_are_an_error_of_clone3() {
        let error = spawn(libc::CLONE_SIGHAND as u64, None, || 0).unwrap_err();
        assert_eq!(error, Error::new("clone3", Errno::EINVAL));
    }
}
