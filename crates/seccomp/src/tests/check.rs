//! Asks a filter and the reference about every call.

use oci_spec::runtime::LinuxSeccomp;

use super::interpreter::{Call, run};
use super::reference::Reference;
use crate::arch::X32_BIT;
use crate::{Arch, Error, Host, Op, plan};

/// Numbers with every kind of neighbour.
pub(crate) fn numbers() -> impl Iterator<Item = u32> + Clone {
    (0..600)
        .chain(0xf_0000..0xf_0008)
        .chain([
            0x3fff_ffff,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            0xbfff_ffff,
            u32::MAX - 1,
            u32::MAX,
        ])
        .chain((0..600).map(|number| number | X32_BIT))
        .chain([0xc000_0000, 0xc000_0001])
}

/// Every number of every architecture, with so many arguments where they matter: the filter answers
/// as the reference.
pub(crate) fn check_all(
    host: Arch,
    profile: &LinuxSeccomp,
    seed: u64,
    repeats: usize,
) -> Result<(), String> {
    let ops = match plan(profile, &Host { arch: host }) {
        Ok(ops) => ops,
        Err(Error::Contradiction { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let Op::Install { program, .. } = &ops[0];
    let reference = Reference::new(profile, host);
    let values = interesting_values(profile);
    let mut dice = Dice(seed | 1);
    // ArchRules of x32 are calls of x86_64 with a bit set.
    for arch in Arch::ALL.into_iter().filter(|&arch| arch != Arch::X32) {
        for number in numbers() {
            let (plain, call_arch) = match arch {
                Arch::X86_64 if number & X32_BIT != 0 => (number & !X32_BIT, Arch::X32),
                _ => (number, arch),
            };
            let repeat = if reference.is_conditional(call_arch, plain) { repeats } else { 1 };
            for _ in 0..repeat {
                let args = dice.args(arch, &values);
                let expected = reference.evaluate(arch.audit(), number, &args);
                let actual = run(&program.0, &Call::new(arch, arch.audit(), number, args));
                if actual != expected {
                    return Err(format!(
                        "{arch} {number:#x} {args:x?}: {actual:#x} in place of {expected:#x}"
                    ));
                }
            }
        }
    }
    for audit in [0, 1, 0x4000_003e, 0xc000_003f, 0x8000_003e, u32::MAX] {
        for number in [0, 1, 59, 102, u32::MAX] {
            let actual = run(&program.0, &Call::new(host, audit, number, [0; 6]));
            if actual != 0 {
                return Err(format!("unknown architecture {audit:#x}: {actual:#x}"));
            }
        }
    }
    Ok(())
}

/// Values at and around those of the profile, and some more.
pub(crate) fn interesting_values(profile: &LinuxSeccomp) -> Vec<u64> {
    let mut values: Vec<u64> = (0..25).collect();
    values.extend([u64::from(u32::MAX), u64::MAX, 1 << 32, 0x10001]);
    for syscall in profile.syscalls().iter().flatten() {
        for arg in syscall.args().iter().flatten() {
            for value in [arg.value(), arg.value_two().unwrap_or(0)] {
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1)]);
                values.extend([value ^ (1 << 32), value & u64::from(u32::MAX)]);
            }
        }
    }
    values
}

/// A small generator of its own, so that many calls cost little.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from[self.0 as usize % from.len()]
    }

    /// Arguments as the kernel hands them over: no high words from 32-bit programs.
    pub(crate) fn args(&mut self, arch: Arch, values: &[u64]) -> [u64; 6] {
        let bits = if arch.wide() { u64::MAX } else { u64::from(u32::MAX) };
        std::array::from_fn(|_| self.pick(values) & bits)
    }
}
