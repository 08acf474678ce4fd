//! A filter in the state of a container, for later processes: the kernel's own instructions, and
//! the rest as data with names.

use davit_sys::seccomp::Instruction;
use serde::{Deserialize, Serialize};

use crate::listener::SendVia;
use crate::op::{FilterSummary, Op, Program};

/// The number of bytes of `struct sock_filter`.
const INSTRUCTION: usize = 8;

/// A stored filter; its instructions are stored apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFilter {
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u32,
    /// The number of its instructions.
    pub instructions: usize,
    /// The system call by which its listener is sent, if it notifies.
    #[serde(default)]
    pub send_via: Option<SendVia>,
}

impl StoredFilter {
    /// Takes filters apart: what is stored with names, and all instructions, in their order.
    #[must_use]
    pub fn of(ops: &[Op]) -> (Vec<Self>, Vec<u8>) {
        let stored = ops.iter().map(|Op::Install { flags, program, send_via, .. }| Self {
            flags: *flags,
            instructions: program.0.len(),
            send_via: *send_via,
        });
        let bytes = ops.iter().flat_map(|Op::Install { program, .. }| program.to_bytes());
        (stored.collect(), bytes.collect())
    }

    /// Puts filters together again; `None` unless there is exactly one instruction for each that is
    /// counted.
    #[must_use]
    pub fn restore(stored: &[Self], mut instructions: &[u8]) -> Option<Vec<Op>> {
        let mut ops = Vec::with_capacity(stored.len());
        for filter in stored {
            let length = filter.instructions.checked_mul(INSTRUCTION)?;
            let (own, rest) = instructions.split_at_checked(length)?;
            instructions = rest;
            ops.push(Op::Install {
                flags: filter.flags,
                program: Program::from_bytes(own).filter(|program| !program.0.is_empty())?,
                send_via: filter.send_via,
                summary: FilterSummary::default(),
            });
        }
        instructions.is_empty().then_some(ops)
    }
}

impl Program {
    /// `struct sock_filter[]` of linux/filter.h.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INSTRUCTION * self.0.len());
        for instruction in &self.0 {
            let [code_0, code_1] = instruction.code.to_ne_bytes();
            bytes.extend_from_slice(&[code_0, code_1, instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let instruction = |chunk: &[u8]| match *chunk {
            [code_0, code_1, jt, jf, k_0, k_1, k_2, k_3] => Some(Instruction {
                code: u16::from_ne_bytes([code_0, code_1]),
                jt,
                jf,
                k: u32::from_ne_bytes([k_0, k_1, k_2, k_3]),
            }),
            _ => None,
        };
        bytes.chunks(INSTRUCTION).map(instruction).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(codes: &[u16]) -> Op {
        let instruction = |code: &u16| Instruction { code: *code, jt: 1, jf: 2, k: 0x0102_0304 };
        let program = Program(codes.iter().map(instruction).collect());
        Op::Install { flags: 4, program, send_via: None, summary: FilterSummary::default() }
    }

    #[test]
    fn filters_are_stored_and_restored() {
        let ops = [op(&[6]), op(&[0x20, 6])];
        let (stored, bytes) = StoredFilter::of(&ops);
        assert_eq!(bytes.len(), 24);
        assert_eq!(StoredFilter::restore(&stored, &bytes), Some(ops.to_vec()));
        assert_eq!(StoredFilter::restore(&[], &[]), Some(Vec::new()));
    }

    #[test]
    fn a_filter_that_lacks_or_has_more_instructions_is_refused() {
        let (mut stored, bytes) = StoredFilter::of(&[op(&[0x20, 6])]);
        for wrong in [&bytes[..8], &bytes[..15], &[], &[bytes.as_slice(), &bytes].concat()] {
            assert_eq!(StoredFilter::restore(&stored, wrong), None, "{wrong:?}");
        }
        for count in [0, 1, usize::MAX] {
            stored[0].instructions = count;
            assert_eq!(StoredFilter::restore(&stored, &bytes), None, "{count}");
        }
    }
}
