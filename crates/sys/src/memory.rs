//! memcpy(3) and memmove(3) for small pieces.
//!
//! musl's for x86-64 begin with `rep movsq`, which takes some thirty cycles before it moves anything, and go byte by
//! byte to a multiple of eight and from it. davit copies thousands of short strings and structs: a quarter of what
//! `run` spends in its own code was this. Other C libraries do for such sizes what is done here.

use std::arch::asm;

/// From here on the processor's own way is the fastest (Intel's optimization manual, "enhanced REP MOVSB").
const LONG: usize = 256;

/// memcpy(3). The linker takes this one, for it looks into the C library last; LLVM makes no call of memcpy(3) out of a
/// loop in a function of this name.
///
/// # Safety
/// As in C: `length` bytes to read and to write, which do not overlap.
#[cfg_attr(all(target_env = "musl", not(test)), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise is the same.
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
    to
}

/// memmove(3).
///
/// # Safety
/// As in C: `length` bytes to read and to write.
#[cfg_attr(all(target_env = "musl", not(test)), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise; what is read is read before it is written over.
    unsafe {
        match length {
            0..=32 => short(to, from, length),
            _ if (to as usize).wrapping_sub(from as usize) >= length => {
                return memcpy(to, from, length);
            }
            _ => backward(to, from, length),
        }
    }
    to
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_lengths_are_copied_and_nothing_else() {
        let source: Vec<u8> = (0..700_u32).map(|n| (n % 251) as u8).collect();
        for length in 0..640 {
            let mut copy = vec![0xff; 660];
            // SAFETY: both have more than `length` bytes from there on.
            let to = unsafe { memcpy(copy.as_mut_ptr().add(7), source.as_ptr().add(3), length) };
            assert_eq!(to, copy[7..].as_mut_ptr());
            assert_eq!(copy[7..7 + length], source[3..3 + length]);
            let around = copy[..7].iter().chain(&copy[7 + length..]);
            assert!(around.copied().all(|byte| byte == 0xff), "{length}");
        }
    }

    #[test]
    fn pieces_may_overlap_in_both_directions() {
        let source: Vec<u8> = (0..700_u32).map(|n| (n % 251) as u8).collect();
        for length in (0..100).chain([255, 256, 300, 520]) {
            for to in 20..100 {
                let (mut moved, mut expected) = (source.clone(), source.clone());
                expected.copy_within(60..60 + length, to);
                let start = moved.as_mut_ptr();
                // SAFETY: 700 bytes are there, of which the last used is before the 620th.
                unsafe { memmove(start.add(to), start.add(60), length) };
                assert_eq!(moved, expected, "{length} bytes to {to}");
            }
        }
    }
}
