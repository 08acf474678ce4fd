//! memcpy(3) and memmove(3) for small pieces.
//!
//! Those of musl for x86-64 start with `rep movsq`, which needs some thirty cycles before it copies
//! anything, and copy byte by byte up to a multiple of eight and from it. davit copies thousands of
//! short strings and structs: this was a quarter of the time of `run` in its own code. Other C
//! libraries copy such sizes as this crate does.
//!
//! LLVM knows both by name. In a crate with `no_builtins` it neither assumes their meaning nor puts
//! calls of them into their own bodies. Each program that depends on this crate uses them,
//! including tests: they run the symbols with which the program is linked.

#![no_std]
#![no_builtins]
#![cfg(target_arch = "x86_64")]

use core::arch::asm;

/// From this size on `rep movsb` is the fastest (Intel's optimization manual, "enhanced REP
/// MOVSB").
const LONG: usize = 256;

/// memcpy(3). The linker takes this one, because it searches the C library last.
///
/// # Safety
/// As in C: `length` bytes to read and to write, which do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise is the same.
    unsafe { upwards(to, from, length) };
    to
}

/// memmove(3).
///
/// # Safety
/// As in C: `length` bytes to read and to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise; what is read is read before it is written over.
    unsafe {
        match length {
            0..=32 => short(to, from, length),
            _ if (to as usize).wrapping_sub(from as usize) >= length => upwards(to, from, length),
            _ => backward(to, from, length),
        }
    }
    to
}

/// Any length, to where the beginning of `from` is not written over before it is read.
#[inline]
unsafe fn upwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller has so many bytes.
    unsafe {
        match length {
            0..=32 => short(to, from, length),
            33..LONG => forward(to, from, length),
            _ => {
                asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags))
            }
        }
    }
}

/// At most 32 bytes: two pieces that may meet, both read before either is written.
unsafe fn short(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: both pieces are inside of `length`.
    unsafe {
        match length {
            16.. => ends::<u128>(to, from, length),
            8.. => ends::<u64>(to, from, length),
            4.. => ends::<u32>(to, from, length),
            2.. => ends::<u16>(to, from, length),
            1 => to.write(from.read()),
            0 => {}
        }
    }
}

/// The first and the last piece of a type.
unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, length: usize) {
    let last = length - size_of::<T>();
    // SAFETY: the caller has so many bytes.
    unsafe {
        let (first, end) =
            (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(first);
        to.add(last).cast::<T>().write_unaligned(end);
    }
}

/// More than 32 bytes, 16 at a time; the last are read first, for they may overlap.
unsafe fn forward(to: *mut u8, from: *const u8, length: usize) {
    let last = length - 16;
    let mut at = 0;
    // SAFETY: `at` stays below `last`, from which 16 bytes are left.
    unsafe {
        let end = from.add(last).cast::<u128>().read_unaligned();
        while at < last {
            to.add(at).cast::<u128>().write_unaligned(from.add(at).cast::<u128>().read_unaligned());
            at += 16;
        }
        to.add(last).cast::<u128>().write_unaligned(end);
    }
}

/// The same from the end, where the beginning would be written over before it is read.
unsafe fn backward(to: *mut u8, from: *const u8, length: usize) {
    let mut at = length - 16;
    // SAFETY: `at` is between 0 and `length - 16`.
    unsafe {
        let first = from.cast::<u128>().read_unaligned();
        while at > 0 {
            to.add(at).cast::<u128>().write_unaligned(from.add(at).cast::<u128>().read_unaligned());
            at = at.saturating_sub(16);
        }
        to.cast::<u128>().write_unaligned(first);
    }
}
