//! The symbols `memcpy` and `memmove` of a program that depends on this crate.
#![cfg(target_arch = "x86_64")]

use libc::{memcpy, memmove};

#[test]
fn the_program_is_linked_with_them() {
    assert_eq!(memcpy as *const () as usize, davit_memory::memcpy as *const () as usize);
    assert_eq!(memmove as *const () as usize, davit_memory::memmove as *const () as usize);
}

#[test]
fn pieces_of_all_lengths_are_copied_and_nothing_else() {
    let source: Vec<u8> = (0..700_u32).map(|n| (n % 251) as u8).collect();
    for length in 0..640 {
        let mut copy = vec![0xff; 660];
        // SAFETY: both have more than `length` bytes from there on.
        let to =
            unsafe { memcpy(copy[7..].as_mut_ptr().cast(), source[3..].as_ptr().cast(), length) };
        assert_eq!(to.cast(), copy[7..].as_mut_ptr());
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
            unsafe { memmove(start.add(to).cast(), start.add(60).cast(), length) };
            assert_eq!(moved, expected, "{length} bytes to {to}");
        }
    }
}
