//! What a profile means, said a second time and without BPF: the sentences of the crate's head, one
//! by one.

use std::cmp::Ordering;
use std::collections::HashMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use crate::arch::X32_BIT;
use crate::{Arch, table};

const FOREIGN: u32 = 0;
const ENOSYS: u32 = 0x0005_0000 | 38;

#[derive(Clone)]
struct Rule {
    action: u32,
    args: Vec<LinuxSeccompArg>,
    operation: Option<(u64, u64)>,
}

/// A profile, ready to be asked.
pub(crate) struct Reference {
    default: u32,
    archs: Vec<Arch>,
    rules: HashMap<(Arch, u32), Vec<Rule>>,
    greatest: HashMap<Arch, u32>,
}

impl std::hash::Hash for Arch {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl Reference {
    pub(crate) fn new(profile: &LinuxSeccomp, host: Arch) -> Self {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut archs = vec![host];
        for listed in profile.architectures().iter().flatten() {
            archs.extend(Arch::from_oci(*listed, host).filter(|arch| arch.runs_on(host)));
        }
        let mut new = Self { default, archs, rules: HashMap::new(), greatest: HashMap::new() };
        for syscall in profile.syscalls().iter().flatten() {
            let action = syscall.action().as_u32(syscall.errno_ret());
            let args = syscall.args().clone().unwrap_or_default();
            for name in syscall.names() {
                new.name(name, action, &args);
            }
        }
        use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
        if matches!(profile.default_action(), ScmpActAllow | ScmpActLog | ScmpActTrace) {
            new.greatest.clear();
        }
        new
    }

    fn name(&mut self, name: &str, action: u32, args: &[LinuxSeccompArg]) {
        let Some(row) = table::rows().iter().find(|row| row.name == name) else { return };
        for arch in self.archs.clone() {
            let mut rules = rules(action, args);
            if action == self.default {
                rules.clear();
            }
            if let Some(number) = row.number(arch) {
                self.rules.entry((arch, number)).or_default().extend(rules.clone());
                if number < 0xf0000 {
                    let greatest = self.greatest.entry(arch).or_default();
                    *greatest = number.max(*greatest);
                }
            }
            if let Some(way) = table::multiplexed(name).filter(|_| arch.multiplexes()) {
                let through = table::rows().iter().find(|row| row.name == way.through).unwrap();
                for rule in &mut rules {
                    rule.args.retain(|arg| arg.index() != 0);
                    rule.operation = Some((way.mask, way.operation));
                }
                self.rules.entry((arch, through.number(arch).unwrap())).or_default().extend(rules);
            }
        }
    }

    /// Whether runc would answer ENOSYS before libseccomp is asked.
    pub(crate) fn is_newer(&self, arch: Arch, number: u32) -> bool {
        self.greatest.get(&arch).is_some_and(|&greatest| {
            number > greatest && (arch != Arch::Arm || number < 0xf0000)
                || number == 0 && arch == Arch::S390x
        })
    }

    /// Whether the call's arguments matter.
    pub(crate) fn is_conditional(&self, arch: Arch, number: u32) -> bool {
        self.rules
            .get(&(arch, number))
            .is_some_and(|rules| rules.iter().any(|r| !r.args.is_empty() || r.operation.is_some()))
    }

    /// Whether somewhere several rules of one call compare an argument by order. There libseccomp
    /// 2.5.4 loses conditions: with nothing but (arg 4 < 0xffffffff) and (arg 4 >= 0x200000001),
    /// 0xffffffff matches. Other calls may share the wrong instructions.
    pub(crate) fn is_beyond_libseccomp(&self) -> bool {
        use LinuxSeccompOperator::{ScmpCmpGe, ScmpCmpGt, ScmpCmpLe, ScmpCmpLt};
        let ordered = |arg: &LinuxSeccompArg| {
            matches!(arg.op(), ScmpCmpGe | ScmpCmpGt | ScmpCmpLe | ScmpCmpLt)
        };
        self.rules
            .values()
            .any(|rules| rules.len() > 1 && rules.iter().any(|rule| rule.args.iter().any(ordered)))
    }

    /// Whether a call of x32 is compared with values of more than 32 bits.
    pub(crate) fn has_high_words(&self, number: u32) -> bool {
        let high = |value: u64| value > u64::from(u32::MAX);
        self.rules.get(&(Arch::X32, number)).into_iter().flatten().any(|rule| {
            rule.args.iter().any(|arg| high(arg.value()) || arg.value_two().is_some_and(high))
        })
    }

    /// What becomes of a call with the arguments `args`.
    pub(crate) fn evaluate(&self, audit: u32, number: u32, args: &[u64; 6]) -> u32 {
        let Some(&arch) = self.archs.iter().find(|arch| arch.audit() == audit) else {
            return FOREIGN;
        };
        let (arch, number) = match arch {
            Arch::X86_64 | Arch::X32 if self.archs.contains(&Arch::X32) => match number & X32_BIT {
                0 => (Arch::X86_64, number),
                _ => (Arch::X32, number & !X32_BIT),
            },
            Arch::X86_64 if number == u32::MAX => return self.default,
            Arch::X86_64 if number >= X32_BIT => return FOREIGN,
            _ => (arch, number),
        };
        if self.is_newer(arch, number) {
            return ENOSYS;
        }
        let empty = Vec::new();
        let rules = self.rules.get(&(arch, number)).unwrap_or(&empty);
        if let Some(rule) = rules.iter().find(|r| r.args.is_empty() && r.operation.is_none()) {
            return rule.action;
        }
        let mut matching: Vec<&Rule> =
            rules.iter().filter(|rule| rule.matches(arch, args)).collect();
        matching.sort_by(|a, b| a.before(b, word(arch)));
        matching.first().map_or(self.default, |rule| rule.action)
    }
}

/// The bits that an argument has.
fn word(arch: Arch) -> u64 {
    if matches!(arch, Arch::X86 | Arch::Arm) { u64::from(u32::MAX) } else { u64::MAX }
}

/// One rule for each condition when an argument is tested twice.
fn rules(action: u32, args: &[LinuxSeccompArg]) -> Vec<Rule> {
    let mut args = args.to_vec();
    args.sort_by_key(LinuxSeccompArg::index);
    let vacuous = |arg: &LinuxSeccompArg| {
        arg.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && arg.value() == 0
    };
    let rule = |args: &[LinuxSeccompArg]| Rule {
        action,
        args: args.iter().copied().filter(|arg| !vacuous(arg)).collect(),
        operation: None,
    };
    match args.windows(2).any(|pair| pair[0].index() == pair[1].index()) {
        true => args.chunks(1).map(rule).collect(),
        false => vec![rule(&args)],
    }
}

impl Rule {
    fn matches(&self, arch: Arch, args: &[u64; 6]) -> bool {
        let word =
            if matches!(arch, Arch::X86 | Arch::Arm) { u64::from(u32::MAX) } else { u64::MAX };
        let operation = self.operation.is_none_or(|(mask, value)| args[0] & mask == value);
        operation
            && self.args.iter().all(|arg| {
                let (value, actual) = (arg.value() & word, args[arg.index()] & word);
                match arg.op() {
                    LinuxSeccompOperator::ScmpCmpNe => actual != value,
                    LinuxSeccompOperator::ScmpCmpLt => actual < value,
                    LinuxSeccompOperator::ScmpCmpLe => actual <= value,
                    LinuxSeccompOperator::ScmpCmpEq => actual == value,
                    LinuxSeccompOperator::ScmpCmpGe => actual >= value,
                    LinuxSeccompOperator::ScmpCmpGt => actual > value,
                    LinuxSeccompOperator::ScmpCmpMaskedEq => {
                        actual & value == arg.value_two().unwrap_or(0) & value
                    }
                }
            })
    }

    /// Each condition as (argument, class, value), the first one the most important.
    fn keys(&self) -> Vec<(u8, u8, u64)> {
        let operation = self.operation.map(|(_, value)| (0, 0, value));
        let keys = self.args.iter().map(|arg| {
            let (class, value) = match arg.op() {
                LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpNe => {
                    (0, arg.value())
                }
                LinuxSeccompOperator::ScmpCmpMaskedEq => {
                    (0, arg.value_two().unwrap_or(0) & arg.value())
                }
                LinuxSeccompOperator::ScmpCmpLt | LinuxSeccompOperator::ScmpCmpLe => {
                    (1, arg.value())
                }
                LinuxSeccompOperator::ScmpCmpGe | LinuxSeccompOperator::ScmpCmpGt => {
                    (2, arg.value())
                }
            };
            (arg.index() as u8, class, value)
        });
        operation.into_iter().chain(keys).collect()
    }

    fn before(&self, other: &Self, word: u64) -> Ordering {
        for (a, b) in self.keys().into_iter().zip(other.keys()) {
            let (a_value, b_value) = (a.2 & word, b.2 & word);
            let values = if a.1 == 1 { a_value.cmp(&b_value) } else { b_value.cmp(&a_value) };
            let order = b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(values);
            if order.is_ne() {
                return order;
            }
        }
        self.keys().len().cmp(&other.keys().len())
    }
}
