//! The program's first instructions, in the place of the standard library's.
//!
//! Rust's own start prepares for threads and for a message on stack overflow: eleven system calls, two pages
//! and a mapping, twice for every container. What of it counts here is done below: no descriptor that we open
//! may become 0, 1 or 2, and a reader that went away is an error and not the end.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;

/// Defines the C `main` of a program that is `#![no_main]`: it calls `$main`, a
/// `fn(Vec<OsString>) -> u8`, and exits with what that returns.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the linker is to find it")]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: std::ffi::c_int,
            arguments: *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            // SAFETY: these are what the C library handed to main.
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

/// What a program that was called by a stranger does first: opens /dev/null in the place of standard streams
/// that are closed, so that no file of ours takes their numbers, and ignores SIGPIPE.
///
/// # Errors
/// poll(2)'s; open(2)'s of /dev/null.
pub fn prepare() -> Result<(), crate::Error> {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three structs, as the call is told.
    let polled = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    Errno::result(polled).map_err(|errno| crate::Error::new("poll", errno))?;
    for stream in streams {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: a C string. The lowest free number is that of the stream: those below are open.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            Errno::result(opened).map_err(|errno| crate::Error::new("open /dev/null", errno))?;
        }
    }
    // SAFETY: no handler of ours is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    Ok(())
}
