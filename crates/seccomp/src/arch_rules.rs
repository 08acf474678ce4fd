//! The rules of each architecture, by system call number.

use std::collections::{BTreeMap, BTreeSet};

use crate::arch::Arch;
use crate::error::Error;
use crate::profile::{Condition, Profile, Rule, Test};
use crate::table::{self, Multiplexed, Row};

/// The rules of one architecture.
#[derive(Debug)]
pub(crate) struct ArchRules {
    pub(crate) arch: Arch,
    /// A number and the index of one rule for it, in the order of the profile.
    rules: Vec<(u32, u32)>,
    /// The greatest number in the profile.
    pub(crate) greatest: Option<u32>,
}

/// The verdict on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The filter returns this value.
    Return(u32),
    /// The chain with this index decides.
    Chain(usize),
}

/// Conditional rules, by index, in the order in which they are tried.
pub(crate) type Chain = Vec<u32>;

/// The names in the profile that no architecture has, and the number of other names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) known: usize,
    pub(crate) unknown: Vec<String>,
}

/// Finds the rules of `archs`, and adds those for `socketcall` and `ipc` to the profile.
pub(crate) fn resolve(profile: &mut Profile, archs: &[Arch]) -> (Vec<ArchRules>, Names) {
    let mut calls: Vec<ArchRules> =
        archs.iter().map(|&arch| ArchRules { arch, rules: Vec::new(), greatest: None }).collect();
    let mut names = Names::default();
    let mut unknown = BTreeSet::new();
    let mut found = vec![false; table::rows().len()];
    let Profile { rules, entries, .. } = profile;
    for entry in entries.iter() {
        for name in entry.names {
            let Some((position, row)) = table::find(name) else {
                if unknown.insert(name) {
                    names.unknown.push(name.clone());
                }
                continue;
            };
            if let Some(seen @ false) = found.get_mut(position) {
                *seen = true;
                names.known += 1;
            }
            for calls in &mut calls {
                calls.add(row, entry.first..entry.last, rules);
            }
        }
    }
    (calls, names)
}

impl ArchRules {
    /// Adds one name of an entry, whose rules are `rules[range]`.
    fn add(&mut self, row: &Row, range: std::ops::Range<usize>, rules: &mut Vec<Rule>) {
        if let Some(number) = row.number(self.arch) {
            let counts = self.arch != Arch::Arm || number < table::ARM_PRIVATE;
            if counts && self.greatest.is_none_or(|greatest| greatest < number) {
                self.greatest = Some(number);
            }
            self.rules.extend(range.clone().map(|rule| (number, rule as u32)));
        }
        if !self.arch.multiplexes() {
            return;
        }
        let Some(call) = table::multiplexed(row.name) else { return };
        let Some(number) = table::find(call.through).and_then(|(_, row)| row.number(self.arch))
        else {
            return;
        };
        for rule in range {
            let Some(original) = rules.get(rule) else { continue };
            let multiplexed = multiplexed_rule(original, call);
            self.rules.push((number, rules.len() as u32));
            rules.push(multiplexed);
        }
    }

    /// The verdicts, sorted by number. New chains are added to `chains`.
    pub(crate) fn verdicts(
        &mut self,
        rules: &[Rule],
        chains: &mut Vec<Chain>,
    ) -> Result<Vec<(u32, Verdict)>, Error> {
        self.rules.sort_by_key(|&(number, _)| number);
        let mut verdicts = Vec::with_capacity(self.rules.len());
        for group in self.rules.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(number, _)) = group.first() else { continue };
            verdicts.push((number, verdict(self.arch, group, rules, chains)?));
        }
        Ok(verdicts)
    }
}

/// The rule for making the call by `socketcall` or `ipc`.
fn multiplexed_rule(rule: &Rule, call: Multiplexed) -> Rule {
    let operation = Condition {
        index: 0,
        test: Test::Equal,
        negated: false,
        mask: call.mask,
        value: call.operation,
    };
    let others = rule.conditions.iter().filter(|condition| condition.index != 0);
    Rule {
        conditions: std::iter::once(&operation).chain(others).copied().collect(),
        multiplexed: true,
        ..*rule
    }
}

fn verdict(
    arch: Arch,
    group: &[(u32, u32)],
    rules: &[Rule],
    chains: &mut Vec<Chain>,
) -> Result<Verdict, Error> {
    let rule = |&(_, index): &(u32, u32)| Some((index, rules.get(index as usize)?));
    if let Some((_, rule)) = group.iter().filter_map(rule).find(|(_, r)| r.conditions.is_empty()) {
        return Ok(Verdict::Return(rule.action));
    }
    let mut chain: Vec<_> = group
        .iter()
        .filter_map(rule)
        .map(|(index, rule)| (rule.precedence(arch.wide()), index, rule))
        .collect();
    chain.sort_by(|a, b| a.0.cmp(&b.0));
    check_contradiction(arch, group, chain.iter().map(|&(_, _, rule)| rule))?;
    // A rule with the conditions of an earlier one has no effect.
    let mut seen = BTreeSet::new();
    chain.retain(|&(_, _, rule)| seen.insert(&rule.conditions));
    let chain: Chain = chain.into_iter().map(|(_, index, _)| index).collect();
    Ok(Verdict::Chain(chains.iter().position(|known| *known == chain).unwrap_or_else(|| {
        chains.push(chain);
        chains.len() - 1
    })))
}

/// Refuses rules of one call that differ only in the action. Those for `socketcall` and `ipc` are
/// exempt: they lost their condition on the first argument, so the profile may be valid; the first
/// one decides.
fn check_contradiction<'a>(
    arch: Arch,
    group: &[(u32, u32)],
    rules: impl Iterator<Item = &'a Rule>,
) -> Result<(), Error> {
    let mut first: BTreeMap<&[Condition], &Rule> = BTreeMap::new();
    for rule in rules.filter(|rule| !rule.multiplexed) {
        let earlier = *first.entry(&rule.conditions).or_insert(rule);
        if earlier.action != rule.action {
            let number = group.first().map(|&(number, _)| number);
            let named = table::rows().iter().find(|row| row.number(arch) == number);
            let name = named.map_or("", |row| row.name).to_owned();
            return Err(Error::Contradiction { entry: rule.entry, earlier: earlier.entry, name });
        }
    }
    Ok(())
}
