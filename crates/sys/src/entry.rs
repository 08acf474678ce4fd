//! The entry point of the program, instead of that of the standard library.
//!
//! That of Rust prepares for threads and for a message on stack overflow: eleven system calls, two
//! pages and a mapping, twice for every container. The parts that davit needs are done below: no
//! descriptor that davit opens may become 0, 1 or 2, and a closed pipe is an error and not a
//! signal.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

/// Defines the C `main` of a program that is `#![no_main]`: it calls `$main`, a `fn(Vec<OsString>)
/// -> u8`, and exits with its result.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the linker is to find it")]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: std::ffi::c_int,
            arguments: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            // SAFETY: these are the arguments that the C library passed to main.
            let arguments = unsafe { $crate::entry::arguments(count, arguments) };
            // Flushes standard output.
            std::process::exit(i32::from($main(arguments)))
        }
    };
}

/// The arguments of the program.
///
/// # Safety
/// `arguments` must point to `count` C strings, as in a C program's `main`.
#[must_use]
pub unsafe fn arguments(count: c_int, arguments: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    (0..count)
        .map(|index| {
            // SAFETY: `index` is below the count, and each is a C string.
            let argument = unsafe { CStr::from_ptr(*arguments.add(index)) };
            OsString::from_vec(argument.to_bytes().to_vec())
        })
        .collect()
}

/// The smallest soft limit of the stack, in bytes. Arguments and environment take up to a quarter
/// of it (execve(2)).
const STACK: u64 = 128 << 10;

/// From asm-generic/resource.h: C libraries differ in its type.
const RLIMIT_STACK: u32 = 3;

const IGNORED: [c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// `ITIMER_REAL`, `ITIMER_VIRTUAL` and `ITIMER_PROF`.
const TIMERS: [c_int; 3] = [0, 1, 2];

/// The umask of davit: the caller's must not change the modes of files that davit makes.
const UMASK: libc::mode_t = 0o022;

/// Prepares the process, because any caller may have left settings behind:
///
/// - /dev/null replaces closed standard streams, so that no file that davit opens gets their
///   numbers;
/// - SIGPIPE and SIGXFSZ are ignored: a closed pipe and a file at its size limit are errors;
/// - interval timers are stopped: they outlive the exec of the program that set them
///   (setitimer(2));
/// - SIGCHLD is not ignored: if a caller ignores it, the kernel keeps no exit status of a child
///   (wait(2));
/// - a stack that is too small is an error, and not a later fault;
/// - the umask is davit's own; [`caller_umask`] has the caller's.
///
/// # Errors
/// poll(2)'s; open(2)'s of /dev/null; ENOMEM where RLIMIT_STACK is below `STACK`.
pub fn prepare() -> Result<(), crate::Error> {
    let (stack, _) = crate::process::rlimit(RLIMIT_STACK)?;
    if stack < STACK {
        return Err(crate::Error::new("RLIMIT_STACK below 128 KiB", Errno::ENOMEM));
    }
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three structs, as the length of the array says.
    let polled = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    Errno::result(polled).map_err(|errno| crate::Error::new("poll", errno))?;
    for stream in streams {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: a C string. The lowest free number is that of the stream: those below are
            // open.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            Errno::result(opened).map_err(|errno| crate::Error::new("open /dev/null", errno))?;
        }
    }
    // SAFETY: davit installs no handler, and umask(2) takes an integer.
    unsafe {
        for signal in IGNORED {
            libc::signal(signal, libc::SIG_IGN);
        }
        for timer in TIMERS {
            let none = std::ptr::null_mut::<libc::itimerval>();
            libc::syscall(libc::SYS_setitimer, timer, none, none);
        }
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        CALLER_UMASK.store(libc::umask(UMASK), Ordering::Relaxed);
    }
    Ok(())
}

/// No umask: [`prepare`] is not called in init, which keeps its umask.
const NONE: u32 = u32::MAX;

static CALLER_UMASK: AtomicU32 = AtomicU32::new(NONE);

/// The umask of the caller; hooks of the runtime run with it.
#[must_use]
pub fn caller_umask() -> Option<u32> {
    Some(CALLER_UMASK.load(Ordering::Relaxed)).filter(|umask| *umask != NONE)
}
