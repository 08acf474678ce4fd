//! Rules -> eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! The kernel passes a set of accesses ("read and write"), each of which must be allowed by the
//! last rule that matches it. So the program checks the rules from the last to the first with the
//! accesses that are still undecided: a rule that allows removes its accesses from them, a rule
//! that denies ends the program if one of its accesses is among them. At the end undecided accesses
//! are denied.
//!
//! The cost of a filter is not its execution but its verification, which is quadratic in the number
//! of rules if the verifier tracks the device number from one rule through all the others.
//! Therefore block and character devices have a section each, a rule makes one comparison, and
//! after a match the numbers are loaded again. 200 rules take 2 ms this way, and 23 ms otherwise.

use serde::{Deserialize, Serialize};

use super::FIELD;
use super::rule::{ALL, Kind, Rule};
use crate::Error;

/// One eBPF instruction; see [`davit_sys::bpf::Instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A device filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program(Vec<Instruction>);

// Registers. The context is a `struct bpf_cgroup_dev_ctx` of three words.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers in one word, major above minor, as the kernel's own `dev_t`.
const DEVICE: u8 = 6;
const MINOR_BITS: u8 = 20;

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const OR: u8 = 0x4f; // BPF_ALU64 | BPF_OR | BPF_X
const SHIFT_LEFT: u8 = 0x67; // BPF_ALU64 | BPF_LSH | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP: u8 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_NOT: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_IF_NOT_32: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K (Linux 5.1)
const JUMP_IF_ANY: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const TYPE_BLOCK: i32 = 1; // BPF_DEVCG_DEV_BLOCK; 2 is character

impl Program {
    /// Compiles rules. Fails if there are more than a jump can skip.
    pub(crate) fn of(rules: &[Rule]) -> Result<Self, Error> {
        let (block, character) = (section(rules, Kind::Block), section(rules, Kind::Char));
        let too_long = |_| Error::value(FIELD, "more rules than a device filter can hold");
        let length = i16::try_from(block.len()).map_err(too_long)?;
        // `access_type` has the type in its low half and the accesses in its high half.
        let mut program = vec![
            op2(LOAD_WORD, TYPE, CONTEXT, 0),
            op2(COPY, ACCESS, TYPE, 0),
            op(AND, TYPE, 0, 0xffff),
            op(SHIFT_RIGHT, ACCESS, 0, 16),
            op(JUMP_IF_NOT, TYPE, length, TYPE_BLOCK),
        ];
        program.extend(block);
        program.extend(character);
        Ok(Self(program))
    }

    /// Number of instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always false: every program ends with an exit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each instruction as the number that it is in memory.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|from| {
            let [low, high] = from.offset.to_le_bytes();
            let [a, b, c, d] = from.immediate.to_le_bytes();
            u64::from_le_bytes([from.code, from.registers, low, high, a, b, c, d])
        })
    }

    /// The instructions for bpf(2).
    pub(crate) fn instructions(&self) -> Vec<davit_sys::bpf::Instruction> {
        let translate = |from: &Instruction| davit_sys::bpf::Instruction {
            code: from.code,
            registers: from.registers,
            offset: from.offset,
            immediate: from.immediate,
        };
        self.0.iter().map(translate).collect()
    }
}

const fn op(code: u8, register: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

const fn op2(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate: 0 }
}

/// The section for one type of device: its rules from the last to the first. No branch of it can be
/// decided beforehand, or the verifier would change it, and the cache not recognise it.
fn section(rules: &[Rule], kind: Kind) -> Vec<Instruction> {
    let mut section = load_numbers().to_vec();
    let mut open = Open { accesses: ALL, some: false };
    for rule in rules.iter().rev().filter(|rule| rule.kind == kind || rule.kind == Kind::Any) {
        let access = rule.access & open.accesses;
        if access == 0 {
            continue;
        }
        section.extend(block(rule, access, open));
        if rule.is_about_all_devices() {
            open.accesses &= !access;
            open.some |= rule.allow;
        }
        if open.accesses == 0 {
            // Earlier rules have no effect, and the verifier refuses unreachable instructions.
            return section;
        }
    }
    section.extend(deny_the_rest(open));
    section
}

/// The accesses that no rule for all devices has decided yet.
#[derive(Clone, Copy)]
struct Open {
    accesses: u8,
    /// Whether one of them is known to be in question.
    some: bool,
}

fn load_numbers() -> [Instruction; 5] {
    [
        op2(LOAD_WORD, MAJOR, CONTEXT, 4),
        op2(LOAD_WORD, MINOR, CONTEXT, 8),
        op2(COPY, DEVICE, MAJOR, 0),
        op(SHIFT_LEFT, DEVICE, 0, i32::from(MINOR_BITS)),
        op2(OR, DEVICE, MINOR, 0),
    ]
}

/// Allows if no access is undecided.
fn deny_the_rest(open: Open) -> Vec<Instruction> {
    let mut verdict = vec![op(MOVE, RESULT, 0, 0)];
    if !open.some {
        verdict.extend([op(JUMP_IF_NOT, ACCESS, 1, 0), op(MOVE, RESULT, 0, 1)]);
    }
    verdict.push(op(EXIT, 0, 0, 0));
    verdict
}

/// One rule, for these of the open accesses. If it does not match, or leaves accesses undecided,
/// execution continues after it.
fn block(rule: &Rule, access: u8, open: Open) -> Vec<Instruction> {
    let mut verdict = verdict(rule.allow, access, open);
    let (code, register, value) = match (rule.major, rule.minor) {
        (None, None) => return verdict,
        (Some(major), Some(minor)) => (JUMP_IF_NOT_32, DEVICE, major << MINOR_BITS | minor),
        (Some(major), None) => (JUMP_IF_NOT, MAJOR, major),
        (None, Some(minor)) => (JUMP_IF_NOT, MINOR, minor),
    };
    if access != open.accesses {
        verdict.extend(load_numbers());
    }
    // A verdict has at most nine instructions, so its length fits.
    let mut block = vec![op(code, register, verdict.len() as i16, value.cast_signed())];
    block.extend(verdict);
    block
}

/// The verdict of a rule on a device that it matches.
fn verdict(allowed: bool, access: u8, open: Open) -> Vec<Instruction> {
    let allow = [op(MOVE, RESULT, 0, 1), op(EXIT, 0, 0, 0)];
    let deny = [op(MOVE, RESULT, 0, 0), op(EXIT, 0, 0, 0)];
    let is_whole = access == open.accesses;
    let (access, accesses) = (i32::from(access), i32::from(open.accesses));
    let mut verdict = Vec::with_capacity(9);
    match (allowed, is_whole) {
        (true, true) => verdict.extend(allow),
        (false, true) => verdict.extend(deny_the_rest(open)),
        (true, false) => {
            verdict.push(op(AND, ACCESS, 0, accesses & !access));
            verdict.push(op(JUMP_IF_NOT, ACCESS, 2, 0));
            verdict.extend(allow);
        }
        (false, false) => {
            verdict.push(op(JUMP_IF_ANY, ACCESS, 1, access));
            verdict.push(op(JUMP, 0, 2, 0));
            verdict.extend(deny);
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::rule::{self, DEFAULT, MKNOD, READ, WRITE, permits};
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel would. Panics on anything the verifier refuses.
    fn run(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers: [Option<u64>; 11] = [None; 11];
        let mut at = 0_usize;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program.0[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = |register: usize| registers[register].expect("an uninitialised register");
            let sign_extended = i64::from(immediate) as u64;
            let jump_if = |condition: bool| if condition { i64::from(offset) } else { 0 };
            let mut jump = 0;
            match code {
                LOAD_WORD => {
                    assert!(from == 1 && offset % 4 == 0);
                    registers[to] = Some(context[offset as usize / 4].into());
                }
                MOVE => registers[to] = Some(sign_extended),
                COPY => registers[to] = Some(value(from)),
                AND => registers[to] = Some(value(to) & sign_extended),
                OR => registers[to] = Some(value(to) | value(from)),
                SHIFT_LEFT => registers[to] = Some(value(to) << immediate),
                SHIFT_RIGHT => registers[to] = Some(value(to) >> immediate),
                JUMP => jump = i64::from(offset),
                JUMP_IF_NOT => jump = jump_if(value(to) != sign_extended),
                JUMP_IF_NOT_32 => jump = jump_if(value(to) as u32 != immediate as u32),
                JUMP_IF_ANY => jump = jump_if(value(to) & sign_extended != 0),
                EXIT => return value(0) == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            assert!(jump >= 0, "a loop");
            at += 1 + jump as usize;
        }
    }

    /// Every instruction can be reached (the verifier insists) and no jump leaves the program.
    fn reachable(program: &Program) -> bool {
        let mut seen = vec![false; program.len()];
        let mut todo = vec![0_usize];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let instruction = program.0[at];
            let target = (at as i64 + 1 + i64::from(instruction.offset)) as usize;
            match instruction.code {
                EXIT => {}
                JUMP => todo.push(target),
                JUMP_IF_NOT | JUMP_IF_NOT_32 | JUMP_IF_ANY => todo.extend([at + 1, target]),
                _ => todo.push(at + 1),
            }
        }
        seen.into_iter().all(|seen| seen)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_program_says_what_the_rules_say(rules in rule::tests::rules()) {
            let program = Program::of(&rules).unwrap();
            prop_assert!(reachable(&program));
            for (kind, major, minor, access) in rule::tests::questions() {
                prop_assert_eq!(
                    run(&program, kind, major, minor, access),
                    permits(&rules, kind, major, minor, access),
                    "{:?} {}:{} {}", kind, major, minor, access
                );
            }
        }
    }

    #[test]
    fn the_default_filter() {
        let program = Program::of(&DEFAULT).unwrap();
        for (kind, major, minor, access, expected) in [
            (Kind::Char, 1, 3, READ | WRITE, true),
            (Kind::Char, 1, 4, READ, false),
            (Kind::Char, 1, 1, MKNOD, true),
            (Kind::Char, 136, 77, READ | WRITE, true),
            (Kind::Char, 5, 1, READ, false),
            (Kind::Block, 8, 0, READ, false),
            (Kind::Block, 8, 0, MKNOD, true),
            (Kind::Block, 1, 3, READ, false),
            (Kind::Char, 10, 200, READ | WRITE, true),
        ] {
            assert_eq!(
                run(&program, kind, major, minor, access),
                expected,
                "{kind:?} {major}:{minor}"
            );
        }
    }

    #[test]
    fn a_denied_write_is_not_hidden_in_an_allowed_read() {
        let all = Rule { allow: true, kind: Kind::Any, major: None, minor: None, access: ALL };
        let deny = Rule { allow: false, kind: Kind::Block, access: WRITE, ..all };
        let program = Program::of(&[all, deny]).unwrap();
        assert!(!run(&program, Kind::Block, 8, 0, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, READ));
        let read = Rule { access: READ, ..all };
        let write = Rule { access: WRITE, ..all };
        assert!(run(&Program::of(&[read, write]).unwrap(), Kind::Char, 1, 1, READ | WRITE));
    }

    #[test]
    fn the_greatest_numbers_and_too_many_rules() {
        let last = Rule {
            allow: true,
            kind: Kind::Char,
            major: Some(4095),
            minor: Some(0xf_ffff),
            access: ALL,
        };
        let program = Program::of(&[last]).unwrap();
        assert!(run(&program, Kind::Char, 4095, 0xf_ffff, READ));
        assert!(!run(&program, Kind::Char, 4095, 0xf_fffe, READ));
        let many = vec![Rule { kind: Kind::Any, ..last }; 20_000];
        assert_eq!(
            Program::of(&many).unwrap_err().to_string(),
            "linux.resources.devices: more rules than a device filter can hold"
        );
    }
}
