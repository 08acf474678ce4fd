//! A bump allocator for a process that ends soon: memory is not freed.
//!
//! The allocator of musl makes a system call for every few pages and is several times slower than
//! that of glibc; a command of davit allocates some hundred kilobytes in all. Larger blocks, and
//! all blocks once the arena is full, come from the system allocator: a process that runs for long
//! does not grow further.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pages that are never touched cost nothing.
const SIZE: usize = 1 << 20;

/// The size of the largest block from the arena.
const LARGEST: usize = 1 << 16;

/// Sizes are rounded up to this unit: nearly all types have this alignment or less.
const UNIT: usize = 8;

/// The arena, in .bss: it needs no system call.
#[repr(C)]
pub struct Arena {
    /// Before the memory: it shares a page with the first blocks.
    used: AtomicUsize,
    memory: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: each byte of `memory` is given to one caller only, by the atomic `used`.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of which nothing is used.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self { used: AtomicUsize::new(0), memory: UnsafeCell::new([0; SIZE]) }
    }

    fn start(&self) -> usize {
        self.memory.get() as usize
    }

    fn owns(&self, pointer: *mut u8) -> bool {
        (pointer as usize).wrapping_sub(self.start()) < SIZE
    }
}

// SAFETY: blocks do not overlap (`used` grows by each block, and shrinks only by the last block,
// which its owner frees), they are inside `memory`, and aligned: `memory` is aligned to a unit, and
// a larger alignment gets padding. Blocks that `owns` denies came from `System`.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= LARGEST && layout.align() <= 4096 {
            let room = units(layout.size()) + layout.align().saturating_sub(UNIT);
            // Once it is full, `used` stays above `SIZE`.
            let end = self.used.fetch_add(room, Ordering::Relaxed) + room;
            if end <= SIZE {
                let address = aligned(self.start() + end - room, layout.align());
                // SAFETY: `address` is that of a byte of `memory`, and `size` bytes from there end
                // before `end`.
                return unsafe { self.memory.get().cast::<u8>().add(address - self.start()) };
            }
        }
        // SAFETY: the layout is the caller's, as `System` wants it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.owns(pointer) {
            self.give_back(pointer, layout.size());
        } else {
            // SAFETY: it is not from the arena, so `System` allocated it, with this layout.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.owns(pointer) {
            // SAFETY: it is not from the arena, so `System` allocated it, with this layout.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        if self.resize_last(pointer, layout.size(), size) {
            return pointer;
        }
        // SAFETY: `size` is not zero and fits with this alignment: `GlobalAlloc::realloc` demands
        // it.
        unsafe {
            let fresh = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !fresh.is_null() {
                std::ptr::copy_nonoverlapping(pointer, fresh, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            fresh
        }
    }
}

/// Rounds up to the next multiple of a power of two.
const fn aligned(number: usize, to: usize) -> usize {
    (number + to - 1) & !(to - 1)
}

const fn units(size: usize) -> usize {
    aligned(size, UNIT)
}

impl Arena {
    /// The last block can grow and shrink in place, such as a string that is being built.
    fn resize_last(&self, pointer: *mut u8, old: usize, new: usize) -> bool {
        let at = (pointer as usize).wrapping_sub(self.start());
        let (end, wanted) = (at + units(old), at + units(new));
        // A load is cheaper than an exchange, and most blocks are not the last.
        wanted <= SIZE
            && self.used.load(Ordering::Relaxed) == end
            && self.used.compare_exchange(end, wanted, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn give_back(&self, pointer: *mut u8, size: usize) {
        self.resize_last(pointer, size, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_apart_and_keep_their_bytes() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let blocks: Vec<_> = (0..200usize)
            .map(|n| {
                let layout = layout(n * 7 % 300 + 1, 1 << (n % 9));
                // SAFETY: no layout is of size zero, and what is given is at least that large.
                let at = unsafe {
                    let at = arena.alloc(layout);
                    at.write_bytes(n as u8, layout.size());
                    at
                };
                assert!(arena.owns(at));
                assert_eq!(at as usize % layout.align(), 0);
                (at, layout, n as u8)
            })
            .collect();
        for (at, layout, byte) in blocks {
            // SAFETY: the block was written above, all of it.
            let content = unsafe { std::slice::from_raw_parts(at, layout.size()) };
            assert!(content.iter().all(|found| *found == byte));
        }
    }

    #[test]
    fn the_last_block_grows_where_it_is_and_an_earlier_one_moves() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let small = layout(8, 8);
        // SAFETY: as the trait demands: blocks of this arena, with the layouts they were given by.
        unsafe {
            let first = arena.alloc(small);
            first.write_bytes(7, 8);
            assert_eq!(arena.realloc(first, small, 64), first);
            let second = arena.alloc(small);
            let moved = arena.realloc(first, layout(64, 8), 128);
            assert!(moved > second && *moved == 7 && *moved.add(7) == 7);
            arena.dealloc(moved, layout(128, 8));
            assert_eq!(arena.alloc(small), moved);
        }
    }

    #[test]
    fn what_is_large_or_too_much_is_the_systems() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let (large, part) = (layout(LARGEST + 1, 1), layout(LARGEST, 1));
        // SAFETY: as above.
        unsafe {
            let at = arena.alloc(large);
            assert!(!arena.owns(at));
            arena.dealloc(at, large);
            for _ in 0..SIZE / LARGEST {
                assert!(arena.owns(arena.alloc(part)));
            }
            let over = arena.alloc(part);
            assert!(!arena.owns(over));
            let over = arena.realloc(over, part, 2 * LARGEST);
            arena.dealloc(over, layout(2 * LARGEST, 1));
        }
    }
}
