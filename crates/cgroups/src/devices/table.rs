//! Rules -> the list of a cgroup v1 `devices` controller.
//!
//! The list is a default (everything or nothing) and exceptions from it. The kernel applies writes
//! in order, but removes an exception only if the device numbers are the same: `deny c 1:3 r` after
//! `allow c 1:* r` silently has no effect. So the list is computed here, and rules that it cannot
//! express are refused.

use super::rule::{ALL, Kind, Rule};
use crate::Error;

/// The default, and the exceptions from it in the order of their rules.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    allow: bool,
    exceptions: Vec<Rule>,
}

impl Table {
    /// The list with the same effect as these rules of `field`.
    pub(crate) fn of(rules: &[Rule], field: &'static str) -> Result<Self, Error> {
        let mut table = Self { allow: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.is_everything() {
                table = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            for rule in split(*rule) {
                table.add(rule, field)?;
            }
        }
        Ok(table)
    }

    /// The two files to write, with their lines.
    pub(crate) fn files(&self) -> [(&'static str, Vec<String>); 2] {
        let (base, exception) = match self.allow {
            true => ("devices.allow", "devices.deny"),
            false => ("devices.deny", "devices.allow"),
        };
        let lines = self.exceptions.iter().map(Rule::to_string).collect();
        [(base, vec!["a".to_owned()]), (exception, lines)]
    }

    /// The two files to write to change this list to `other`. An exception that stays is never
    /// removed in between: a program may be using the device.
    pub(crate) fn change_to(&self, other: &Self) -> [(&'static str, Vec<String>); 2] {
        let [(base, _), (exception, _)] = other.files();
        if self.allow != other.allow {
            return other.files();
        }
        [(base, self.without(other)), (exception, other.without(self))]
    }

    /// The exceptions that are not in `other`.
    fn without(&self, other: &Self) -> Vec<String> {
        let left = |rule: &Rule| {
            let same = |other: &&Rule| Rule { access: rule.access, ..**other } == *rule;
            let common = other.exceptions.iter().find(same).map_or(0, |other| other.access);
            Rule { access: rule.access & !common, ..*rule }
        };
        let left = self.exceptions.iter().map(left).filter(|rule| rule.access != 0);
        left.map(|rule| rule.to_string()).collect()
    }

    /// Adds one rule about block or about character devices.
    fn add(&mut self, rule: Rule, field: &'static str) -> Result<(), Error> {
        if rule.allow != self.allow {
            let same = |other: &&mut Rule| Rule { access: rule.access, ..**other } == rule;
            match self.exceptions.iter_mut().find(same) {
                Some(other) => other.access |= rule.access,
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        // Back to the default: the rule is removed from the exceptions.
        for other in &mut self.exceptions {
            if !rule.overlaps(other) || rule.access & other.access == 0 {
                continue;
            }
            if !covers(rule, *other) {
                let reason = format!("cgroup v1 cannot take {rule} out of {other}");
                return Err(Error::value(field, reason));
            }
            other.access &= !rule.access;
        }
        self.exceptions.retain(|other| other.access & ALL != 0);
        Ok(())
    }
}

/// On v1 type `a` matches everything, so a rule for some devices of both types becomes two.
fn split(rule: Rule) -> Vec<Rule> {
    match rule.kind {
        Kind::Any => {
            vec![Rule { kind: Kind::Block, ..rule }, Rule { kind: Kind::Char, ..rule }]
        }
        Kind::Block | Kind::Char => vec![rule],
    }
}

/// Whether `one` matches all devices of `other`.
fn covers(one: Rule, other: Rule) -> bool {
    let wide = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
    one.kind == other.kind && wide(one.major, other.major) && wide(one.minor, other.minor)
}

#[cfg(test)]
mod tests {
    use super::super::rule::{self, DEFAULT, READ, permits};
    use super::*;
    use proptest::prelude::*;

    impl Table {
        /// As the kernel decides (security/device_cgroup.c): where everything is denied one
        /// exception has to allow all of the access, where everything is allowed none may deny any
        /// of it.
        fn permits(&self, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
            let mut about = self.exceptions.iter().filter(|rule| {
                rule.kind == kind
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
            });
            match self.allow {
                true => !about.any(|rule| rule.access & access != 0),
                false => about.any(|rule| access & !rule.access == 0),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_list_never_allows_more_than_the_rules(rules in rule::tests::rules()) {
            let Ok(table) = Table::of(&rules, "devices") else { return Ok(()) };
            for (kind, major, minor, access) in rule::tests::questions() {
                if access == 0 {
                    continue;
                }
                let (list, asked) = (
                    table.permits(kind, major, minor, access),
                    permits(&rules, kind, major, minor, access),
                );
                prop_assert!(asked || !list, "{:?} {}:{} {}", kind, major, minor, access);
                // One access at a time it says exactly the same. (Of several, v1 wants one single
                // exception to allow them all.)
                if access.count_ones() == 1 {
                    prop_assert_eq!(list, asked, "{:?} {}:{} {}", kind, major, minor, access);
                }
            }
        }
    }

    #[test]
    fn the_rules_of_an_engine_become_a_list() {
        let deny = Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: ALL };
        let mut rules = vec![deny];
        rules.extend(DEFAULT);
        let [(base, all), (exception, lines)] = Table::of(&rules, "devices").unwrap().files();
        assert_eq!((base, all), ("devices.deny", vec!["a".to_owned()]));
        assert_eq!(exception, "devices.allow");
        assert_eq!(lines.len(), DEFAULT.len());
        assert_eq!(lines[0], "c *:* m");
        assert_eq!(lines[2], "c 1:3 rwm");
        assert_eq!(lines[10], "c 136:* rwm");
    }

    #[test]
    fn a_change_writes_only_differences() {
        let rule = |allow, minor, access| Rule {
            allow,
            kind: Kind::Char,
            major: Some(10),
            minor: Some(minor),
            access,
        };
        let mut rules = DEFAULT.to_vec();
        rules.push(rule(true, 229, READ));
        let old = Table::of(&rules, "devices").unwrap();
        assert_eq!(old.change_to(&old), [("devices.deny", vec![]), ("devices.allow", vec![])]);
        rules.extend([rule(true, 229, ALL), rule(false, 200, READ), rule(true, 1, ALL)]);
        let new = Table::of(&rules, "devices").unwrap();
        let [(deny, less), (allow, more)] = old.change_to(&new);
        assert_eq!((deny, less), ("devices.deny", vec!["c 10:200 r".to_owned()]));
        let expected = ["c 10:229 wm".to_owned(), "c 10:1 rwm".to_owned()];
        assert_eq!((allow, more), ("devices.allow", expected.to_vec()));
        let all = Rule { allow: true, kind: Kind::Any, major: None, minor: None, access: ALL };
        let open = Table::of(&[all], "devices").unwrap();
        assert_eq!(
            open.change_to(&Table::of(&[all, rule(false, 1, READ)], "devices").unwrap()),
            [("devices.allow", vec![]), ("devices.deny", vec!["c 10:1 r".to_owned()])]
        );
        assert_eq!(new.change_to(&open)[0], ("devices.allow", vec!["a".to_owned()]));
    }

    #[test]
    fn a_hole_in_an_exception_is_refused() {
        let allow =
            Rule { allow: true, kind: Kind::Char, major: Some(1), minor: None, access: ALL };
        let hole = Rule { allow: false, minor: Some(3), access: READ, ..allow };
        assert_eq!(
            Table::of(&[allow, hole], "devices").unwrap_err().to_string(),
            "devices: cgroup v1 cannot take c 1:3 r out of c 1:* rwm"
        );
    }
}
