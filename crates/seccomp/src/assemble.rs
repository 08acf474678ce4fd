//! An assembler for classic BPF that writes a program from its end to its beginning.
//!
//! All jumps of classic BPF go forward. Written backwards, the position of each target is known
//! when the jump to it is written, so that a jump that is too long for 8 bits can get a trampoline.

use davit_sys::seccomp::Instruction;

use crate::arch::Arch;
use crate::profile::{Condition, Test};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Whether the loaded word equals the operand.
pub(crate) const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Whether the loaded word is greater.
pub(crate) const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// Whether the loaded word is greater or equal.
pub(crate) const GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Whether the loaded word has a bit in common with the operand.
pub(crate) const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// Offset of the number in `struct seccomp_data` (linux/seccomp.h).
pub(crate) const NUMBER: u32 = 0;
/// Offset of the architecture.
pub(crate) const ARCH: u32 = 4;

/// Maximum distance of a jump without a trampoline: 255, less the two trampolines that the targets
/// of one branch may insert.
const MAX_DISTANCE: usize = 253;

/// The position of an instruction, counted from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program that is written from its end.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    reversed: Vec<Instruction>,
    returns: Vec<(u32, Label)>,
    trampolines: Vec<(Label, Label)>,
}

impl Assembler {
    pub(crate) fn with_capacity(instructions: usize) -> Self {
        Self { reversed: Vec::with_capacity(instructions), ..Self::default() }
    }

    /// Returns the program.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// The number of instructions that a jump at the present position would skip.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    /// A return of `action`: an existing one that is reachable, or a new one.
    pub(crate) fn ret(&mut self, action: u32) -> Label {
        let position = self.returns.iter().position(|&(known, _)| known == action);
        let known = position.and_then(|at| self.returns.get(at)).map(|&(_, label)| label);
        if let Some(label) = known.filter(|&label| self.distance(label) <= MAX_DISTANCE) {
            return label;
        }
        let label = self.push(RETURN, 0, 0, action);
        match position.and_then(|at| self.returns.get_mut(at)) {
            Some(known) => known.1 = label,
            None => self.returns.push((action, label)),
        }
        label
    }

    /// `label`, or a trampoline to it that is reachable.
    fn reachable(&mut self, label: Label) -> Label {
        if self.distance(label) <= MAX_DISTANCE {
            return label;
        }
        if let Some(&Instruction { code: RETURN, k, .. }) = self.reversed.get(label.0) {
            return self.ret(k);
        }
        let position = self.trampolines.iter().position(|&(target, _)| target == label);
        let known =
            position.and_then(|at| self.trampolines.get(at)).map(|&(_, trampoline)| trampoline);
        if let Some(trampoline) =
            known.filter(|&trampoline| self.distance(trampoline) <= MAX_DISTANCE)
        {
            return trampoline;
        }
        let trampoline = self.jump(label);
        match position.and_then(|at| self.trampolines.get_mut(at)) {
            Some(known) => known.1 = trampoline,
            None => self.trampolines.push((label, trampoline)),
        }
        trampoline
    }

    fn jump(&mut self, label: Label) -> Label {
        // The offset of `ja` has 32 bits.
        let distance = self.distance(label) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    /// Compares the loaded word with `k`, and continues at `yes` or `no`.
    pub(crate) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.reachable(yes);
        let no = self.reachable(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// Loads the word at `offset` and continues at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.then(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Applies `mask` to the loaded word and continues at `next`.
    pub(crate) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.then(next);
        self.push(AND, 0, 0, mask)
    }

    /// Makes `next` the successor of the instruction that is written next.
    fn then(&mut self, next: Label) {
        if self.distance(next) != 0 {
            match self.reversed.get(next.0) {
                Some(&Instruction { code: RETURN, k, .. }) => self.push(RETURN, 0, 0, k),
                _ => self.jump(next),
            };
        }
    }

    /// Tests an argument, and continues at `pass` or `fail`.
    pub(crate) fn condition(
        &mut self,
        arch: Arch,
        condition: &Condition,
        pass: Label,
        fail: Label,
    ) -> Label {
        let (pass, fail) = if condition.negated { (fail, pass) } else { (pass, fail) };
        let low = |word: u64| (word & u64::from(u32::MAX)) as u32;
        let high = |word: u64| (word >> 32) as u32;
        let (mask, value) = (condition.mask, condition.value);
        let code = match condition.test {
            Test::Equal => EQUAL,
            Test::Greater => GREATER,
            Test::GreaterOrEqual => GREATER_OR_EQUAL,
        };
        let low_word = arch.low_word(condition.index);
        let start = self.word(low_word, low(mask), code, low(value), pass, fail);
        if !arch.wide() {
            return start;
        }
        let high_word = arch.high_word(condition.index);
        if condition.test == Test::Equal {
            return self.word(high_word, high(mask), EQUAL, high(value), start, fail);
        }
        let equal = self.branch(EQUAL, high(value), start, fail);
        let decided = self.branch(GREATER, high(value), pass, equal);
        self.load(high_word, decided)
    }

    /// Tests one word of an argument.
    fn word(
        &mut self,
        offset: u32,
        mask: u32,
        code: u16,
        value: u32,
        yes: Label,
        no: Label,
    ) -> Label {
        if mask == 0 {
            return yes;
        }
        let test = self.branch(code, value, yes, no);
        let masked = if mask == u32::MAX { test } else { self.and(mask, test) };
        self.load(offset, masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::interpreter::{Call, run};

    #[test]
    fn far_targets_are_reached_over_stepping_stones() {
        let mut program = Assembler::default();
        let seven = program.ret(7);
        let far = program.load(NUMBER, seven);
        let mut next = program.ret(1);
        for number in 0..2000 {
            let ret = program.ret(number % 3);
            let yes = if number == 1999 { far } else { ret };
            next = program.branch(EQUAL, number, yes, next);
        }
        program.load(NUMBER, next);
        let program = program.finish();
        for number in 0..2001 {
            let expected = match number {
                1999 => 7,
                2000 => 1,
                _ => number % 3,
            };
            assert_eq!(run(&program, &Call::new(Arch::X86_64, 0, number, [0; 6])), expected);
        }
    }
}
