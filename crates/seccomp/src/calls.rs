//! Which rules each architecture has for which number.

use crate::arch::Arch;
use crate::error::Error;
use crate::profile::{Condition, Profile, Rule, Test};
use crate::table::{self, Multiplexed, Row};

/// The calls of one architecture that the profile names.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) arch: Arch,
    /// A number and one rule for it, in the order of the file.
    rules: Vec<(u32, u32)>,
    /// The greatest number that the profile names.
    pub(crate) greatest: Option<u32>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The filter returns this.
    Return(u32),
    /// This one of the chains decides.
    Chain(usize),
}

/// Conditional rules, by their index, in the order in which they are tried.
pub(crate) type Chain = Vec<u32>;

/// The names of the profile that no architecture knows, and how many others there are.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) known: usize,
    pub(crate) unknown: Vec<String>,
}

/// Finds the rules of `archs`. Adds to the profile those that `socketcall` and `ipc` need.
pub(crate) fn resolve(profile: &mut Profile, archs: &[Arch]) -> (Vec<Calls>, Names) {
    let mut calls: Vec<Calls> =
        archs.iter().map(|&arch| Calls { arch, rules: Vec::new(), greatest: None }).collect();
    let mut names = Names::default();
    let mut found = vec![false; table::rows().len()];
    let Profile { rules, entries, .. } = profile;
    for entry in entries.iter() {
        for name in entry.names {
            let Some((position, row)) = table::find(name) else {
                if !names.unknown.contains(name) {
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

impl Calls {
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
        let Some(way) = table::multiplexed(row.name) else { return };
        let Some(number) = table::find(way.through).and_then(|(_, row)| row.number(self.arch))
        else {
            return;
        };
        for rule in range {
            let Some(original) = rules.get(rule) else { continue };
            let through = through(original, way);
            self.rules.push((number, rules.len() as u32));
            rules.push(through);
        }
    }

    /// What becomes of each number, by number. New chains are added to `chains`.
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

/// The same rule for the other way to the call.
fn through(rule: &Rule, way: Multiplexed) -> Rule {
    let operation = Condition {
        index: 0,
        test: Test::Equal,
        negated: false,
        mask: way.mask,
        value: way.operation,
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
    for equals in chain.chunk_by(|a, b| a.0 == b.0) {
        check_contradiction(arch, group, equals.iter().map(|&(_, _, rule)| rule))?;
    }
    let chain: Chain = chain.into_iter().map(|(_, index, _)| index).collect();
    Ok(Verdict::Chain(chains.iter().position(|known| *known == chain).unwrap_or_else(|| {
        chains.push(chain);
        chains.len() - 1
    })))
}

/// Rules of one call that differ in nothing but the action. Those of `socketcall` and `ipc` are exempt: they
/// lost their condition on the first argument, so the profile may well be right; there the first one wins.
fn check_contradiction<'a>(
    arch: Arch,
    group: &[(u32, u32)],
    rules: impl Iterator<Item = &'a Rule> + Clone,
) -> Result<(), Error> {
    let mut later = rules.filter(|rule| !rule.multiplexed);
    while let Some(a) = later.next() {
        let other = |b: &&Rule| a.conditions == b.conditions && a.action != b.action;
        if let Some(b) = later.clone().find(other) {
            let number = group.first().map(|&(number, _)| number);
            let named = table::rows().iter().find(|row| row.number(arch) == number);
            let name = named.map_or("", |row| row.name).to_owned();
            return Err(Error::Contradiction { entry: b.entry, earlier: a.entry, name });
        }
    }
    Ok(())
}
