//! One device rule.

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::Error;

/// Access bits, with the kernel's values (`BPF_DEVCG_ACC_*`).
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
pub(crate) const ALL: u8 = MKNOD | READ | WRITE;

/// The type of device that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    Block,
    Char,
}

/// Allows or denies accesses to devices. `None` matches every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: u8,
}

/// The rules of every container: it may create any device node (without opening it), and use the
/// usual devices of /dev, terminals and tun.
pub(crate) const DEFAULT: [Rule; 11] = [
    allow(Kind::Char, None, None, MKNOD),
    allow(Kind::Block, None, None, MKNOD),
    allow(Kind::Char, Some(1), Some(3), ALL),    // null
    allow(Kind::Char, Some(1), Some(5), ALL),    // zero
    allow(Kind::Char, Some(1), Some(7), ALL),    // full
    allow(Kind::Char, Some(1), Some(8), ALL),    // random
    allow(Kind::Char, Some(1), Some(9), ALL),    // urandom
    allow(Kind::Char, Some(5), Some(0), ALL),    // tty
    allow(Kind::Char, Some(5), Some(2), ALL),    // ptmx
    allow(Kind::Char, Some(10), Some(200), ALL), // net/tun
    allow(Kind::Char, Some(136), None, ALL),     // pts/*, console among them
];

const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind, major, minor, access }
}

/// Inserts the [`DEFAULT`] rules into those of config.json: at the end, as in other runtimes,
/// unless config.json denies a default device by number or all devices. Then they are inserted
/// before that rule, after the last rule that matches everything, because engines begin with one
/// that denies everything. (docker denies /dev/fuse to all containers. cgroup v1 cannot except
/// creating that node from creating all nodes, so such a rule does not count.)
pub(crate) fn with_default(mut rules: Vec<Rule>) -> Vec<Rule> {
    let last = rules.iter().rposition(Rule::is_everything);
    let single = last.map_or(0, |index| index.saturating_add(1));
    let position = match rules.iter().skip(single).any(Rule::denies_default) {
        true => single,
        false => rules.len(),
    };
    rules.splice(position..position, DEFAULT);
    rules
}

impl Rule {
    /// Parses the entry `field` of config.json.
    pub(crate) fn parse(entry: &LinuxDeviceCgroup, field: &str) -> Result<Self, Error> {
        let kind = match entry.typ() {
            None | Some(LinuxDeviceType::A) => Kind::Any,
            Some(LinuxDeviceType::B) => Kind::Block,
            Some(LinuxDeviceType::C) => Kind::Char,
            Some(other) => {
                let reason = format!("{:?} is not a, b or c", other.as_str());
                return Err(Error::value(format!("{field}.type"), reason));
            }
        };
        Ok(Self {
            allow: entry.allow(),
            kind,
            major: number(entry.major(), 12, field, "major")?,
            minor: number(entry.minor(), 20, field, "minor")?,
            access: access(entry.access().as_deref().unwrap_or_default(), field)?,
        })
    }

    /// Whether the rule matches every number of its type.
    pub(crate) fn is_about_all_devices(&self) -> bool {
        self.major.is_none() && self.minor.is_none()
    }

    /// Whether there are devices that both rules match.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        let kinds = self.kind == other.kind || [self.kind, other.kind].contains(&Kind::Any);
        kinds && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    fn denies_default(&self) -> bool {
        let numbered = |default: &&Self| default.major.is_some();
        let mut defaults = DEFAULT.iter().filter(numbered);
        !self.allow
            && (self.is_about_all_devices() || defaults.any(|default| self.overlaps(default)))
    }

    /// Whether the rule matches every device and every access.
    pub(crate) fn is_everything(&self) -> bool {
        self.kind == Kind::Any && self.is_about_all_devices() && self.access == ALL
    }
}

/// Whether the rules allow everything, so that no filter is needed.
pub(crate) fn allow_everything(rules: &[Rule]) -> bool {
    rules.iter().rev().take_while(|rule| rule.allow).any(Rule::is_everything)
}

/// A device number, at most as wide as the kernel's; engines write -1 for "all".
fn number(value: Option<i64>, bits: u32, field: &str, name: &str) -> Result<Option<u32>, Error> {
    match value {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) if number >> bits == 0 => Ok(Some(number)),
            _ => {
                let reason = format!("{number} is not a device number");
                Err(Error::value(format!("{field}.{name}"), reason))
            }
        },
    }
}

fn access(text: &str, field: &str) -> Result<u8, Error> {
    let mut access = 0;
    for letter in text.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                let reason = format!("{text:?} is not a composition of r, w and m");
                return Err(Error::value(format!("{field}.access"), reason));
            }
        };
    }
    match access {
        0 => Err(Error::value(format!("{field}.access"), "must name an access: r, w or m")),
        access => Ok(access),
    }
}

/// The format of cgroup v1: `c 1:3 rwm`. (`a` matches everything there, whatever follows.)
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Any => "a",
            Kind::Block => "b",
            Kind::Char => "c",
        })?;
        for (number, before) in [(self.major, ' '), (self.minor, ':')] {
            match number {
                Some(number) => write!(f, "{before}{number}")?,
                None => write!(f, "{before}*")?,
            }
        }
        f.write_str(" ")?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// The verdict of rules, for tests: the last rule that matches an access bit decides.
#[cfg(test)]
pub(crate) fn permits(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        rules
            .iter()
            .rev()
            .find(|rule| {
                (rule.kind == Kind::Any || rule.kind == kind)
                    && rule.major.is_none_or(|number| number == major)
                    && rule.minor.is_none_or(|number| number == minor)
                    && rule.access & bit != 0
            })
            .is_some_and(|rule| rule.allow)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<Rule, String> {
        let entry: LinuxDeviceCgroup = serde_json::from_str(json).unwrap();
        Rule::parse(&entry, "devices[0]").map_err(|error| error.to_string())
    }

    /// Few numbers, so that rules meet each other.
    pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let kind = prop_oneof![Just(Kind::Any), Just(Kind::Block), Just(Kind::Char)];
        let number = || prop::option::of(0..3_u32);
        let rule = (any::<bool>(), kind, number(), number(), 1..=ALL).prop_map(
            |(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access },
        );
        prop::collection::vec(rule, 0..8)
    }

    /// Every question about the numbers of [`rules`] and one that is in none of them.
    pub(crate) fn questions() -> impl Iterator<Item = (Kind, u32, u32, u8)> {
        [Kind::Block, Kind::Char].into_iter().flat_map(|kind| {
            (0..4).flat_map(move |major| {
                (0..4).flat_map(move |minor| {
                    (0..=ALL).map(move |access| (kind, major, minor, access))
                })
            })
        })
    }

    #[test]
    fn entries_are_parsed_as_specified() {
        assert_eq!(parse(r#"{"allow":false,"access":"rwm"}"#).unwrap().to_string(), "a *:* rwm");
        let rule = parse(r#"{"allow":true,"type":"c","major":10,"minor":229,"access":"wr"}"#);
        assert_eq!(rule.unwrap().to_string(), "c 10:229 rw");
        let rule = parse(r#"{"allow":true,"type":"b","major":-1,"minor":0,"access":"m"}"#).unwrap();
        assert_eq!(rule.to_string(), "b *:0 m");
    }

    #[test]
    fn rules_of_config_json_on_single_devices_take_precedence() {
        let rules = |texts: &[&str]| {
            let rules: Result<Vec<_>, _> = texts.iter().map(|text| parse(text)).collect();
            with_default(rules.unwrap())
        };
        let none = r#"{"allow":false,"access":"rwm"}"#;
        let no_null = r#"{"allow":false,"type":"c","major":1,"minor":3,"access":"w"}"#;
        let null = |rules: &[Rule], access| permits(rules, Kind::Char, 1, 3, access);
        for before in [&[][..], &[none]] {
            let rules = rules(&[before, &[no_null]].concat());
            assert!(null(&rules, READ) && !null(&rules, WRITE), "{rules:?}");
        }
        let no_fuse = r#"{"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}"#;
        let fuse = rules(&[none, no_fuse]);
        assert!(
            permits(&fuse, Kind::Char, 10, 229, MKNOD)
                && !permits(&fuse, Kind::Char, 10, 229, READ)
        );
        let no_nodes = r#"{"allow":false,"type":"c","access":"m"}"#;
        assert!(!permits(&rules(&[none, no_nodes]), Kind::Char, 10, 229, MKNOD));
        // As if the first were not there.
        assert!(null(&rules(&[no_null, none]), ALL));
    }

    #[test]
    fn bad_entries_name_the_field() {
        for (json, error) in [
            (r#"{"allow":true}"#, "devices[0].access: must name an access: r, w or m"),
            (
                r#"{"allow":true,"access":"rx"}"#,
                "devices[0].access: \"rx\" is not a composition of r, w and m",
            ),
            (
                r#"{"allow":true,"type":"p","access":"r"}"#,
                "devices[0].type: \"p\" is not a, b or c",
            ),
            (
                r#"{"allow":true,"major":4096,"access":"r"}"#,
                "devices[0].major: 4096 is not a device number",
            ),
            (
                r#"{"allow":true,"minor":-2,"access":"r"}"#,
                "devices[0].minor: -2 is not a device number",
            ),
        ] {
            assert_eq!(parse(json).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn no_filter_only_where_everything_is_allowed(rules in rules()) {
            let mut rules = rules;
            rules.extend(DEFAULT);
            if allow_everything(&rules) {
                for (kind, major, minor, access) in questions() {
                    prop_assert!(permits(&rules, kind, major, minor, access));
                }
            }
        }
    }
}
