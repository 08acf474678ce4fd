//! The filter as a whole: which architecture, then which number, then which arguments.

use sys::seccomp::Instruction;

use crate::arch::{Arch, X32_BIT};
use crate::assemble::{self, Assembler, Label};
use crate::calls::{Calls, Chain, Verdict};
use crate::error::Error;
use crate::profile::Profile;
use crate::ranges::{FOREIGN, Range, Target, differences, ranges, without_x32};

/// Single numbers inside one range that a leaf of the tree tests one after the other. Each costs one
/// instruction here and two as ranges of their own; three still are no slower than the deeper tree.
const EXCEPTIONS: usize = 3;

/// Compiles the rules of all architectures. The first is the host's own and comes first in the program.
pub(crate) fn compile(profile: &Profile, calls: &mut [Calls]) -> Result<Vec<Instruction>, Error> {
    let mut program = Assembler::with_capacity(1024);
    let mut sections: Vec<(u32, Label)> = Vec::with_capacity(calls.len());
    let (x32, mut others): (Vec<_>, Vec<_>) =
        calls.iter_mut().partition(|calls| calls.arch == Arch::X32);
    let mut x32 = x32.into_iter().next();
    for calls in others.iter_mut().rev() {
        let sibling = x32.take_if(|_| calls.arch == Arch::X86_64);
        let label = section(&mut program, profile, calls, sibling)?;
        sections.push((calls.arch.audit(), label));
    }
    let mut next = program.ret(FOREIGN);
    for (audit, section) in sections {
        next = program.branch(assemble::EQUAL, audit, section, next);
    }
    program.load(assemble::ARCH, next);
    Ok(program.finish())
}

/// Writes the part of one architecture, or of x86_64 and x32 together.
fn section(
    program: &mut Assembler,
    profile: &Profile,
    calls: &mut Calls,
    x32: Option<&mut Calls>,
) -> Result<Label, Error> {
    let mut chains = Vec::new();
    let verdicts = calls.verdicts(&profile.rules, &mut chains)?;
    let mut own = ranges(profile, calls, &verdicts);
    let x32_ranges = match x32 {
        Some(x32) => {
            let verdicts = x32.verdicts(&profile.rules, &mut chains)?;
            Some(differences(&own, &ranges(profile, x32, &verdicts)))
        }
        None => None,
    };
    if x32_ranges.is_none() && calls.arch == Arch::X86_64 {
        without_x32(&mut own, profile.default);
    }
    let labels = vec![None; chains.len()];
    let mut tree = Tree { program, profile, arch: calls.arch, chains, labels, sibling: None };
    let mut root = tree.search(&leaves(&own));
    if let Some(x32_ranges) = x32_ranges {
        tree.sibling = Some(root);
        let x32_root = tree.search(&leaves(&x32_ranges));
        let x32_start = tree.program.and(!X32_BIT, x32_root);
        root = tree.program.branch(assemble::ANY_BIT, X32_BIT, x32_start, root);
    }
    Ok(program.load(assemble::NUMBER, root))
}

/// Consecutive numbers with one target, but for some.
#[derive(Debug)]
struct Leaf {
    start: u32,
    target: Target,
    exceptions: Vec<(u32, Target)>,
}

/// Ranges of one number between two ranges of equal target become exceptions of these.
fn leaves(ranges: &[Range]) -> Vec<Leaf> {
    let mut leaves = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let [first, ..] = rest {
        let mut leaf = Leaf { start: first.start, target: first.target, exceptions: Vec::new() };
        while let [_, single, again, ..] = rest {
            let is_single = again.start - single.start == 1 && again.target == leaf.target;
            if !is_single || leaf.exceptions.len() == EXCEPTIONS {
                break;
            }
            leaf.exceptions.push((single.start, single.target));
            rest = rest.split_at_checked(2).map_or(&[], |(_, rest)| rest);
        }
        leaves.push(leaf);
        rest = rest.split_first().map_or(&[], |(_, rest)| rest);
    }
    leaves
}

/// Writes the tree of one architecture, and the chains of conditions it leads to.
struct Tree<'a> {
    program: &'a mut Assembler,
    profile: &'a Profile<'a>,
    arch: Arch,
    chains: Vec<Chain>,
    /// Where each chain was written.
    labels: Vec<Option<Label>>,
    /// Where x32 goes on as x86_64.
    sibling: Option<Label>,
}

impl Tree<'_> {
    /// Writes a binary search over `leaves`.
    fn search(&mut self, leaves: &[Leaf]) -> Label {
        match leaves {
            [] => self.program.ret(self.profile.default),
            [leaf] => self.leaf(leaf),
            _ => {
                let (left, right) =
                    leaves.split_at_checked(leaves.len() / 2).unwrap_or((leaves, &[]));
                let start = right.first().map_or(0, |leaf| leaf.start);
                let right = self.search(right);
                let left = self.search(left);
                self.program.branch(assemble::GREATER_OR_EQUAL, start, right, left)
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> Label {
        let mut label = self.target(leaf.target);
        for &(number, target) in leaf.exceptions.iter().rev() {
            let exception = self.target(target);
            label = self.program.branch(assemble::EQUAL, number, exception, label);
        }
        label
    }

    fn target(&mut self, target: Target) -> Label {
        match target {
            Target::Verdict(Verdict::Return(action)) => self.program.ret(action),
            Target::Verdict(Verdict::Chain(chain)) => self.chain(chain),
            Target::Sibling => match self.sibling {
                Some(label) => label,
                None => self.program.ret(self.profile.default),
            },
        }
    }

    /// Where chain `index` is, written on first use.
    fn chain(&mut self, index: usize) -> Label {
        if let Some(&Some(label)) = self.labels.get(index) {
            return label;
        }
        let mut label = self.program.ret(self.profile.default);
        let chain = self.chains.get(index).map_or(&[] as &[u32], Vec::as_slice);
        for rule in chain.iter().rev().filter_map(|&at| self.profile.rules.get(at as usize)) {
            let mut pass = self.program.ret(rule.action);
            for condition in rule.conditions.iter().rev() {
                pass = self.program.condition(self.arch, condition, pass, label);
            }
            label = pass;
        }
        if let Some(known) = self.labels.get_mut(index) {
            *known = Some(label);
        }
        label
    }
}
