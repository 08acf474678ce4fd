//! The kernel's side: runs a filter on a call, strictly.

use davit_sys::seccomp::Instruction;

use crate::Arch;

/// `struct seccomp_data`, as 32-bit words in the byte order of its architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    words: [u32; 16],
}

impl Call {
    /// A call with the layout of `arch` and any audit value.
    pub(crate) fn new(arch: Arch, audit: u32, number: u32, args: [u64; 6]) -> Self {
        let mut words = [0; 16];
        words[0] = number;
        words[1] = audit;
        for (index, arg) in args.into_iter().enumerate() {
            let (first, second) = match arch {
                Arch::S390x => (arg >> 32, arg),
                _ => (arg, arg >> 32),
            };
            words[4 + 2 * index] = first as u32;
            words[5 + 2 * index] = second as u32;
        }
        Self { words }
    }
}

/// Runs `program`; anything the kernel's checker would refuse is a panic.
pub(crate) fn run(program: &[Instruction], call: &Call) -> u32 {
    steps(program, call).0
}

/// What `program` returns, and how many instructions it took.
pub(crate) fn steps(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut word, mut count) = (0, 0u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        count += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => {
                assert_eq!(k % 4, 0);
                word = call.words[k as usize / 4];
            }
            0x54 => word &= k,
            0x05 => at += k as usize,
            0x15 => branch(word == k),
            0x25 => branch(word > k),
            0x35 => branch(word >= k),
            0x45 => branch(word & k != 0),
            0x06 => return (k, count),
            _ => panic!("instruction {code:#x}"),
        }
    }
}
