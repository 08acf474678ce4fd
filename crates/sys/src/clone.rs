//! `clone3(2)`: creates a process in new namespaces and in a cgroup.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::{Error, OsContext};

/// The child shares the caller's memory and the caller sleeps until it has executed or exited.
/// No memory is copied: the cheapest way to execute another program.
pub const SHARE_MEMORY_UNTIL_EXEC: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;

/// The parent of the child is the caller's parent.
pub const SIBLING: u64 = libc::CLONE_PARENT as u64;

/// New time namespace: [`libc`] lacks it, because it does not fit in an `int` with the other flags.
pub const NEWTIME: u64 = 0x80;

/// A child that was just created.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// Creates a child that runs `body` on a stack of its own ([`STACK`]) and exits with its result.
///
/// With [`SHARE_MEMORY_UNTIL_EXEC`] `body` shares memory with the sleeping caller, who sees its
/// changes of captured variables. `cgroup` (a cgroup v2 directory) is the cgroup that the child is
/// created in (`CLONE_INTO_CGROUP`, Linux 5.7).
///
/// # Errors
/// The errno of clone3(2): EPERM, ENOSPC (too many namespaces), EBUSY or EOPNOTSUPP (cgroup), ...
///
/// # Safety
/// - `flags` are those of namespaces, [`SIBLING`], and [`SHARE_MEMORY_UNTIL_EXEC`] with both of its
///   bits.
/// - As after fork(2), `body` must not depend on state that another thread of the caller may be
///   changing: it takes no lock, and if there are other threads it does not allocate.
/// - With shared memory, no signal has a handler: it would run in the child and write to the
///   caller's memory.
pub unsafe fn spawn<F>(flags: u64, cgroup: Option<BorrowedFd<'_>>, body: F) -> Result<Child, Error>
where
    F: FnMut() -> i32,
{
    let stack = Stack::new()?;
    let mut pidfd: RawFd = -1;
    let mut body = body;
    let mut args = clone_args(flags | libc::CLONE_PIDFD as u64);
    args.pidfd = (&raw mut pidfd) as u64;
    args.stack = stack.lowest() as u64;
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
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor without another
    // owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: Pid::from_raw(ret as i32), pidfd })
}

/// The arguments of clone3(2), which the crate libc does not have for every architecture.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Arguments without a stack. A sibling has no exit signal (clone(2), EINVAL).
fn clone_args(flags: u64) -> CloneArgs {
    let exit_signal = if flags & SIBLING == 0 { libc::SIGCHLD as u64 } else { 0 };
    CloneArgs { flags, exit_signal, ..CloneArgs::default() }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Size of the stack on which the child makes a few system calls before it executes, with a line of
/// output for each with `--debug`.
pub const STACK: usize = 64 * 1024;

/// Size of the inaccessible memory below it, so that an overflow does not write to other memory.
const GUARD: usize = 64 * 1024;

/// The stack of a child above its guard. It stays mapped: a command creates one or two children.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> Result<Self, Error> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let size = GUARD + STACK;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Error::last("mmap"));
        }
        let stack = Self(start);
        // SAFETY: a part of the mapping, which is not in use yet. Both sizes are multiples of any
        // page size.
        let done =
            unsafe { libc::mprotect(stack.lowest(), STACK, libc::PROT_READ | libc::PROT_WRITE) };
        if done != 0 {
            return Err(Error::last("mprotect"));
        }
        // Not in the child: page tables are charged to the cgroup of the process that faults, and
        // the OOM killer skips a child that shares memory (in_vfork()). With a small limit it would
        // fault endlessly.
        for page in [stack.lowest(), stack.lowest().wrapping_byte_add(STACK - 1)] {
            // SAFETY: the first and the last byte of what was just made writable.
            unsafe { page.cast::<u8>().write_volatile(0) };
        }
        Ok(stack)
    }

    fn lowest(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD)
    }
}

/// Calls `body` with the pid of a child that waits in a new user namespace. The child ends when
/// `body` returns, or with this process.
///
/// # Errors
/// Those of `body` and clone3(2).
pub fn in_new_user_namespace<T>(body: impl FnOnce(Pid) -> Result<T, Error>) -> Result<T, Error> {
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let (ours, theirs) =
        socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).syscall("socketpair")?;
    let wait_for_parent = || {
        // With its copy of the parent's end the child would wait for itself.
        let _ = nix::unistd::close(ours.as_raw_fd());
        let _ = nix::unistd::read(&theirs, &mut [0]);
        0
    };
    // SAFETY: the child has a copy of the memory, and makes two system calls.
    let child = unsafe { spawn(libc::CLONE_NEWUSER as u64, None, wait_for_parent) }?;
    let result = body(child.pid);
    drop(ours);
    waitpid(child.pid, None).syscall("waitpid")?;
    result
}

extern "C" fn enter<F: FnMut() -> i32>(body: *mut c_void) -> ! {
    // SAFETY: `spawn` passes a pointer to its `F`, alive for as long as the child runs on it.
    let code = unsafe { (*body.cast::<F>())() };
    // SAFETY: _exit has no preconditions, and runs no exit handlers of the parent.
    unsafe { libc::_exit(code) }
}

/// The system call itself; the child calls `entry(body)` on the stack named in `args`.
///
/// # Safety
/// `args` must name a writable stack that stays valid while the child uses it, and `entry` must
/// accept `body` and never return.
#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(
    args: &mut CloneArgs,
    entry: extern "C" fn(*mut c_void) -> !,
    body: *mut c_void,
) -> isize {
    let ret: isize;
    // SAFETY: the syscall clobbers only rax, rcx and r11. The child starts with every other
    // register as here and rsp at the top of the new stack, aligned to 16 bytes as for a call;
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
            in("rsi") size_of::<CloneArgs>(),
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
    args: &mut CloneArgs,
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
            in("x1") size_of::<CloneArgs>(),
            in("x20") body,
            in("x21") entry,
        );
    }
    ret
}

/// For other architectures: a fork(2) on the caller's stack, which is copied.
///
/// # Safety
/// `entry` must accept `body` and never return.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw_clone3(
    args: &mut CloneArgs,
    entry: extern "C" fn(*mut c_void) -> !,
    body: *mut c_void,
) -> isize {
    args.flags &= !SHARE_MEMORY_UNTIL_EXEC;
    args.stack = 0;
    args.stack_size = 0;
    // SAFETY: with neither CLONE_VM nor a stack this is fork(2) of a single-threaded process.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut *args, size_of::<CloneArgs>()) };
    match ret {
        0 => entry(body),
        -1 => -(Errno::last_raw() as isize),
        pid => pid as isize,
    }
}

/// The result of [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkResult {
    /// In the parent: the pid of the child.
    Parent(Pid),
    /// In the child.
    Child,
}

/// fork(2) with the namespace flags of clone3(2). With [`SIBLING`] the caller's parent becomes the
/// child's, and waits for it.
///
/// # Errors
/// The errno of clone3(2).
///
/// # Safety
/// `flags` are those of namespaces and [`SIBLING`]. As after fork(2), the child must not depend on
/// state that another thread may be changing; in a process with one thread it may do anything.
pub unsafe fn fork(flags: u64) -> Result<ForkResult, Error> {
    let mut args = clone_args(flags & !SHARE_MEMORY_UNTIL_EXEC);
    // SAFETY: without CLONE_VM and without a stack this is fork(2): the child has a copy of the
    // memory.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match ret {
        -1 => Err(Error::last("clone3")),
        0 => Ok(ForkResult::Child),
        pid => Ok(ForkResult::Parent(Pid::from_raw(pid as i32))),
    }
}

/// Whether [`vfork`] works on this architecture.
pub const CAN_VFORK: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Continues in a new process, a child of the caller's parent. The old process sleeps until that
/// executes or ends, and then exits with 0. Both share their memory, and the old process does not
/// touch it again.
///
/// Returns, in the new process, its pid in the old process's pid namespace.
///
/// # Errors
/// The errno of clone3(2); ENOSYS if [`CAN_VFORK`] is false.
///
/// # Safety
/// The process has one thread, and no signal has a handler: it could run in the old process, on the
/// stack that the new process uses.
pub unsafe fn vfork() -> Result<Pid, Error> {
    let mut pid: libc::pid_t = 0;
    let flags = SHARE_MEMORY_UNTIL_EXEC | SIBLING | libc::CLONE_PARENT_SETTID as u64;
    let mut args = clone_args(flags);
    // Written before the new process runs, into the shared memory.
    args.parent_tid = (&raw mut pid) as u64;
    // SAFETY: `args` has no stack, and `parent_tid` is a variable of this frame.
    match unsafe { raw_vfork(&mut args) } {
        // SAFETY: a variable of this frame, which the kernel has written.
        0 => Ok(Pid::from_raw(unsafe { (&raw const pid).read_volatile() })),
        error => Err(Error::new("clone3", Errno::from_raw(-(error as i32)))),
    }
}

/// clone3(2); returns 0 in the new process, or a negative errno. The old process does not return:
/// when it is woken up it exits by a system call, without using the stack that both share.
///
/// # Safety
/// `args` must have CLONE_VM and CLONE_VFORK, and no stack.
#[cfg(target_arch = "x86_64")]
unsafe fn raw_vfork(args: &mut CloneArgs) -> isize {
    let ret: isize;
    // SAFETY: the syscall clobbers only rax, rcx and r11. The new process returns with all other
    // registers and the stack as they were; the old process needs none of them.
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
            in("rsi") size_of::<CloneArgs>(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// See the function for x86_64.
///
/// # Safety
/// As for x86_64.
#[cfg(target_arch = "aarch64")]
unsafe fn raw_vfork(args: &mut CloneArgs) -> isize {
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
            in("x1") size_of::<CloneArgs>(),
        );
    }
    ret
}

/// Not supported on other architectures.
///
/// # Safety
/// Always safe.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn raw_vfork(_: &mut CloneArgs) -> isize {
    -(libc::ENOSYS as isize)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    fn spawn<F: FnMut() -> i32>(flags: u64, body: F) -> Result<Child, Error> {
        // SAFETY: the bodies below neither allocate nor take a lock; the handlers of a Rust program
        // are for faults of its own threads.
        unsafe { super::spawn(flags, None, body) }
    }

    #[test]
    fn a_child_that_needs_more_stack_than_it_has_is_ended_by_a_fault() {
        fn touch(start: usize, bytes: usize) -> u8 {
            let frame = std::hint::black_box([1u8; 512]);
            let used = start - frame.as_ptr() as usize;
            if used < bytes { touch(start, bytes) & frame[used % 512] } else { 0 }
        }
        let end = |bytes: usize| {
            let body = || {
                let start = [0u8; 1];
                touch(start.as_ptr() as usize, bytes).into()
            };
            let child = spawn(SHARE_MEMORY_UNTIL_EXEC, body).unwrap();
            waitpid(child.pid, None).unwrap()
        };
        assert!(matches!(end(STACK / 2), WaitStatus::Exited(_, 0)), "{:?}", end(STACK / 2));
        let more = STACK + 8 * 1024;
        assert!(
            matches!(end(more), WaitStatus::Signaled(_, Signal::SIGSEGV, _)),
            "{:?}",
            end(more)
        );
    }

    #[test]
    fn a_child_that_shares_memory_is_seen_to_have_run() {
        let mut seen = 0;
        let child = spawn(SHARE_MEMORY_UNTIL_EXEC, || {
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
        let child = spawn(0, || {
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
        let old = spawn(SHARE_MEMORY_UNTIL_EXEC, || {
            // SAFETY: nothing else runs in the child's copy of this thread.
            new = unsafe { vfork() }.unwrap().as_raw();
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
        let error = spawn(libc::CLONE_SIGHAND as u64, || 0).unwrap_err();
        assert_eq!(error, Error::new("clone3", Errno::EINVAL));
    }
}
