//! Rules -> eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! The kernel asks with a set of accesses ("read and write"), and each of them has to be allowed by
//! the last rule about it. So the program goes through the rules from the last to the first with the
//! accesses that are still undecided: a rule that allows takes its own away, a rule that denies says
//! no if one of its own is left. At the end whatever is left is denied.

use serde::{Deserialize, Serialize};

use super::rule::{ALL, Kind, Rule};

/// One eBPF instruction; see [`sys::bpf::Instruction`].
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

// Registers: r0 result, r1 context, then the three words of `struct bpf_cgroup_dev_ctx`.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP: u8 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_NOT: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_IF_ANY: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const TYPE_BLOCK: i32 = 1; // BPF_DEVCG_DEV_BLOCK
const TYPE_CHAR: i32 = 2; // BPF_DEVCG_DEV_CHAR

impl Program {
    /// The program of these rules.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut program = Self(prologue());
        for rule in rules.iter().rev() {
            if rule.is_everything() {
                // Nothing before it can matter, and the verifier refuses what cannot be reached.
                if rule.allow {
                    program.0.extend([op(MOVE, RESULT, 0, 1), op(EXIT, 0, 0, 0)]);
                    return program;
                }
                break;
            }
            program.0.extend(block(rule));
        }
        program.0.extend([
            op(MOVE, RESULT, 0, 0),
            op(JUMP_IF_NOT, ACCESS, 1, 0),
            op(MOVE, RESULT, 0, 1),
            op(EXIT, 0, 0, 0),
        ]);
        program
    }

    /// How many instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: every program ends with an exit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the kernel takes it.
    pub(crate) fn instructions(&self) -> Vec<sys::bpf::Instruction> {
        let translate = |from: &Instruction| sys::bpf::Instruction {
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

/// `access_type` holds the type in its low half and the accesses in its high half.
fn prologue() -> Vec<Instruction> {
    vec![
        op2(LOAD_WORD, TYPE, CONTEXT, 0),
        op2(COPY, ACCESS, TYPE, 0),
        op(AND, TYPE, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 16),
        op2(LOAD_WORD, MAJOR, CONTEXT, 4),
        op2(LOAD_WORD, MINOR, CONTEXT, 8),
    ]
}

/// One rule: past its end where it does not match or does not decide everything.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut conditions = Vec::with_capacity(3);
    match rule.kind {
        Kind::Any => {}
        Kind::Block => conditions.push((TYPE, TYPE_BLOCK)),
        Kind::Char => conditions.push((TYPE, TYPE_CHAR)),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        // Device numbers have 20 bits at most.
        conditions
            .extend(number.and_then(|number| i32::try_from(number).ok()).map(|n| (register, n)));
    }
    let verdict = if rule.allow {
        vec![
            op(AND, ACCESS, 0, i32::from(ALL & !rule.access)),
            op(JUMP_IF_NOT, ACCESS, 2, 0),
            op(MOVE, RESULT, 0, 1),
            op(EXIT, 0, 0, 0),
        ]
    } else {
        vec![
            op(JUMP_IF_ANY, ACCESS, 1, i32::from(rule.access)),
            op(JUMP, 0, 2, 0),
            op(MOVE, RESULT, 0, 0),
            op(EXIT, 0, 0, 0),
        ]
    };
    let mut block = Vec::with_capacity(conditions.len() + verdict.len());
    let mut left = conditions.len() + verdict.len();
    for (register, value) in conditions {
        left -= 1;
        // At most three conditions and four more: the jump is short.
        block.push(op(JUMP_IF_NOT, register, left as i16, value));
    }
    block.extend(verdict);
    block
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
                SHIFT_RIGHT => registers[to] = Some(value(to) >> immediate),
                JUMP => jump = i64::from(offset),
                JUMP_IF_NOT => jump = jump_if(value(to) != sign_extended),
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
                JUMP_IF_NOT | JUMP_IF_ANY => todo.extend([at + 1, target]),
                _ => todo.push(at + 1),
            }
        }
        seen.into_iter().all(|seen| seen)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_program_says_what_the_rules_say(rules in rule::tests::rules()) {
            let program = Program::of(&rules);
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
        let program = Program::of(&DEFAULT);
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
        let program = Program::of(&[all, deny]);
        assert!(!run(&program, Kind::Block, 8, 0, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, READ));
        let read = Rule { access: READ, ..all };
        let write = Rule { access: WRITE, ..all };
        assert!(run(&Program::of(&[read, write]), Kind::Char, 1, 1, READ | WRITE));
    }
}
