//! Ranges that cover all system call numbers, with one verdict each.

use crate::arch::{Arch, X32_BIT};
use crate::arch_rules::{ArchRules, Verdict};
use crate::profile::Profile;
use crate::table::ARM_PRIVATE;

/// Returned for calls newer than the profile.
const ENOSYS: Verdict = Verdict::Return(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
/// The action for other architectures, as in libseccomp.
pub(crate) const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// The target of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A verdict.
    Verdict(Verdict),
    /// The tree of x86_64, where x32 has the same verdicts.
    X86_64Tree,
}

/// The numbers from `start` until the start of the next range have `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u32,
    pub(crate) target: Target,
}

/// Appends a range; adjacent ranges with equal targets are merged.
fn push(ranges: &mut Vec<Range>, start: u32, target: Target) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.target != target) {
        ranges.push(Range { start, target });
    }
}

/// The ranges of one architecture, from 0 up; `verdicts` are sorted by number.
pub(crate) fn ranges(
    profile: &Profile,
    calls: &ArchRules,
    verdicts: &[(u32, Verdict)],
) -> Vec<Range> {
    let default = Verdict::Return(profile.default);
    let newer_than = calls.greatest.filter(|_| profile.refuses);
    let mut ranges = Vec::with_capacity(2 * verdicts.len() + 4);
    push(&mut ranges, 0, Target::Verdict(default));
    if newer_than.is_some() && calls.arch == Arch::S390x {
        // Numbers above 255 are made by call 0, and unknown ones stay call 0
        // (arch/s390/kernel/syscall.c).
        push(&mut ranges, 0, Target::Verdict(ENOSYS));
        push(&mut ranges, 1, Target::Verdict(default));
    }
    let named = verdicts.partition_point(|&(number, _)| newer_than.is_none_or(|n| number <= n));
    let (named, above) = verdicts.split_at(named);
    push_calls(&mut ranges, named, default);
    if let Some(greatest) = newer_than {
        push(&mut ranges, greatest + 1, Target::Verdict(ENOSYS));
    }
    if calls.arch == Arch::Arm {
        push(&mut ranges, ARM_PRIVATE, Target::Verdict(default));
    }
    push_calls(&mut ranges, above, default);
    ranges
}

fn push_calls(ranges: &mut Vec<Range>, verdicts: &[(u32, Verdict)], otherwise: Verdict) {
    for &(number, verdict) in verdicts {
        push(ranges, number, Target::Verdict(verdict));
        push(ranges, number + 1, Target::Verdict(otherwise));
    }
}

/// Treats the numbers of x32 like another architecture.
///
/// Except -1, with which a tracer skips a system call, as in libseccomp.
pub(crate) fn without_x32(ranges: &mut Vec<Range>, default: u32) {
    push(ranges, X32_BIT, Target::Verdict(Verdict::Return(FOREIGN)));
    push(ranges, u32::MAX, Target::Verdict(Verdict::Return(default)));
}

/// The ranges of x32 (its numbers without bit 30), as differences from those of x86_64.
pub(crate) fn differences(x86_64: &[Range], x32: &[Range]) -> Vec<Range> {
    let (mut ours, mut theirs) = (x32.iter().peekable(), x86_64.iter().peekable());
    let (mut our, mut their) = (None, None);
    let mut ranges = Vec::with_capacity(x32.len());
    loop {
        let Some(start) = ours.peek().into_iter().chain(theirs.peek()).map(|r| r.start).min()
        else {
            return ranges;
        };
        our = ours.next_if(|range| range.start == start).map(|range| range.target).or(our);
        their = theirs.next_if(|range| range.start == start).map(|range| range.target).or(their);
        match our {
            Some(target) if our != their => push(&mut ranges, start, target),
            _ => push(&mut ranges, start, Target::X86_64Tree),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, action: u32) -> Range {
        Range { start, target: Target::Verdict(Verdict::Return(action)) }
    }

    #[test]
    fn equal_neighbours_become_one() {
        let mut ranges = Vec::new();
        for (start, action) in [(0, 1), (3, 2), (4, 1), (4, 2), (5, 2), (6, 1)] {
            push(&mut ranges, start, range(start, action).target);
        }
        assert_eq!(ranges, [range(0, 1), range(3, 2), range(6, 1)]);
    }

    #[test]
    fn differences_name_only_what_differs() {
        let x86_64 = [range(0, 1), range(5, 2), range(9, 1)];
        let x32 = [range(0, 1), range(5, 3), range(6, 2), range(12, 4)];
        let x86_64_tree = |start| Range { start, target: Target::X86_64Tree };
        let expected = [x86_64_tree(0), range(5, 3), x86_64_tree(6), range(9, 2), range(12, 4)];
        assert_eq!(differences(&x86_64, &x32), expected);
    }
}
