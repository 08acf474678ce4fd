//! clock_gettime(2) as a system call.
//!
//! A command reads the clock once or twice. musl looks its function up in the vDSO first, by name: that takes 4 us and two
//! page faults, and a system call a tenth of one.

/// clock_gettime(2). The linker takes this one, for it looks into the C library last.
///
/// # Safety
/// As in C: `time` can be written to.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the caller's promise is that of the system call, whose struct is the same on 64 bits.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}
