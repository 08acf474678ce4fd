//! The complete filter: it tests the architecture, then the number, then the arguments.

use davit_sys::seccomp::Instruction;

use crate::arch::{Arch, X32_BIT};
use crate::arch_rules::{ArchRules, Chain, Verdict};
use crate::assemble::{self, Assembler, Label};
use crate::error::Error;
use crate::profile::Profile;
use crate::ranges::{FOREIGN, Range, Target, differences, ranges, without_x32};

/// Maximum number of single numbers inside one range that a leaf of the tree tests in sequence.
/// Each takes one instruction here and two as a range of its own; three are not slower than a
/// deeper tree.
const MAX_EXCEPTIONS: usize = 3;

/// Compiles the rules of all architectures. The first one is the host's, and comes first in the
/// program.
pub(crate) fn compile(
    profile: &Profile,
    calls: &mut [ArchRules],
) -> Result<Vec<Instruction>, Error> {
    let mut program = Assembler::with_capacity(1024);
    let mut sections: Vec<(u32, Label)> = Vec::with_capacity(calls.len());
    let (x32, mut others): (Vec<_>, Vec<_>) =
        calls.iter_mut().partition(|calls| calls.arch == Arch::X32);
    let mut x32 = x32.into_iter().next();
    for calls in others.iter_mut().rev() {
        let x86_64_tree = x32.take_if(|_| calls.arch == Arch::X86_64);
        let label = section(&mut program, profile, calls, x86_64_tree)?;
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
    calls: &mut ArchRules,
    x32: Option<&mut ArchRules>,
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
    let mut tree = Tree { program, profile, arch: calls.arch, chains, labels, x86_64_tree: None };
    let mut root = tree.search(&leaves(&own));
    if let Some(x32_ranges) = x32_ranges {
        tree.x86_64_tree = Some(root);
        let x32_root = tree.search(&leaves(&x32_ranges));
        let x32_start = tree.program.and(!X32_BIT, x32_root);
        root = tree.program.branch(assemble::ANY_BIT, X32_BIT, x32_start, root);
    }
    Ok(program.load(assemble::NUMBER, root))
}

/// Consecutive numbers with one target, and exceptions.
#[derive(Debug)]
struct Leaf {
    start: u32,
    target: Target,
    exceptions: Vec<(u32, Target)>,
}

/// Turns single numbers between two ranges with equal targets into exceptions.
fn leaves(ranges: &[Range]) -> Vec<Leaf> {
    let mut leaves = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let [first, ..] = rest {
        let mut leaf = Leaf { start: first.start, target: first.target, exceptions: Vec::new() };
        while let [_, single, again, ..] = rest {
            let is_single = again.start - single.start == 1 && again.target == leaf.target;
            if !is_single || leaf.exceptions.len() == MAX_EXCEPTIONS {
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

/// Writes the tree of one architecture, and its chains.
struct Tree<'a> {
    program: &'a mut Assembler,
    profile: &'a Profile<'a>,
    arch: Arch,
    chains: Vec<Chain>,
    /// The labels of the chains that are written already.
    labels: Vec<Option<Label>>,
    /// The tree of x86_64, for x32.
    x86_64_tree: Option<Label>,
}

impl Tree<'_> {
    /// Writes a binary search over `leaves`.
    fn search(&mut self, leaves: &[Leaf]) -> Label {
        match leaves {
            [] => self.program.ret(self.profile.default),
            [leaf] => self.leaf(leaf),
            _ => {
                let (left, right) = leaves.split_at(leaves.len() / 2);
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
            Target::X86_64Tree => match self.x86_64_tree {
                Some(label) => label,
                None => self.program.ret(self.profile.default),
            },
        }
    }

    /// The label of chain `index`, which is written on first use.
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
