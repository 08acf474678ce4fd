//! The checked profile: entries as rules.

use std::cmp::Reverse;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use crate::Error;

/// Maximum errno: the kernel truncates greater ones (seccomp(2), MAX_ERRNO of linux/err.h).
const MAX_ERRNO: u32 = 4095;
/// Maximum of the data in a return value (linux/seccomp.h, `SECCOMP_RET_DATA`).
const MAX_DATA: u32 = 0xffff;
/// Default of ERRNO and TRACE, as in runc.
const DEFAULT_DATA: u32 = libc::EPERM as u32;

/// A checked profile.
#[derive(Debug)]
pub(crate) struct Profile<'a> {
    /// The return value if no rule matches.
    pub(crate) default: u32,
    /// Whether the default refuses calls, so that calls newer than the profile get ENOSYS.
    pub(crate) refuses: bool,
    /// All rules, in the order of the profile.
    pub(crate) rules: Vec<Rule>,
    /// The names, and their rules.
    pub(crate) entries: Vec<Entry<'a>>,
}

/// An element of `syscalls`, with the rules `rules[first..last]`: none if its action is the
/// default.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) names: &'a [String],
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// An action, and the conditions that must all hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The return value.
    pub(crate) action: u32,
    /// Sorted by argument, at most one for each.
    pub(crate) conditions: Vec<Condition>,
    /// The index in `syscalls`.
    pub(crate) entry: usize,
    /// Whether it is for `socketcall` or `ipc` instead of the named call.
    pub(crate) multiplexed: bool,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    pub(crate) test: Test,
    /// Whether the test must fail: NE, LT and LE are negations of EQ, GE and GT.
    pub(crate) negated: bool,
    /// Bits of the argument that are compared.
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

/// The comparisons that BPF has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

impl Rule {
    fn new(action: u32, mut conditions: Vec<Condition>, entry: usize) -> Self {
        // Without any bit to compare the condition always holds.
        conditions.retain(|condition| condition.mask != 0);
        Self { action, conditions, entry, multiplexed: false }
    }

    /// The order in which libseccomp 2.4 and later tries the rules of one call: a rule before those
    /// of which it is a prefix, so one without conditions before all; then those that test a later
    /// argument first; equalities before upper bounds before lower bounds; the narrower bound, or
    /// the greater value, first; else the order of the profile. Arguments have 64 bits if `wide`.
    pub(crate) fn precedence(&self, wide: bool) -> impl Ord + use<> {
        let word = if wide { u64::MAX } else { u64::from(u32::MAX) };
        let key = |condition: &Condition| {
            let value = condition.value & word;
            let (class, value) = match (condition.test, condition.negated) {
                (Test::Equal, _) => (0, !value),
                (_, true) => (1, value),
                (_, false) => (2, !value),
            };
            (Reverse(condition.index), class, value)
        };
        self.conditions.iter().map(key).collect::<Vec<_>>()
    }
}

impl Condition {
    fn new(arg: &LinuxSeccompArg) -> Option<Self> {
        let (test, negated) = match arg.op() {
            LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpMaskedEq => {
                (Test::Equal, false)
            }
            LinuxSeccompOperator::ScmpCmpNe => (Test::Equal, true),
            LinuxSeccompOperator::ScmpCmpGt => (Test::Greater, false),
            LinuxSeccompOperator::ScmpCmpLe => (Test::Greater, true),
            LinuxSeccompOperator::ScmpCmpGe => (Test::GreaterOrEqual, false),
            LinuxSeccompOperator::ScmpCmpLt => (Test::GreaterOrEqual, true),
        };
        let (mask, value) = match arg.op() {
            // As in libseccomp: bits of the value outside the mask are ignored.
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                (arg.value(), arg.value_two().unwrap_or(0) & arg.value())
            }
            _ => (u64::MAX, arg.value()),
        };
        let index = u8::try_from(arg.index()).ok().filter(|&index| index <= 5)?;
        Some(Self { index, test, negated, mask, value })
    }
}

impl<'a> Profile<'a> {
    /// Checks `profile`.
    pub(crate) fn new(profile: &'a LinuxSeccomp) -> Result<Self, Error> {
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let default = return_value(profile.default_action(), profile.default_errno_ret(), || {
            "linux.seccomp.defaultErrnoRet".to_owned()
        })?;
        let mut rules = Vec::with_capacity(syscalls.len());
        let mut entries = Vec::with_capacity(syscalls.len());
        for (index, syscall) in syscalls.iter().enumerate() {
            let first = rules.len();
            let action = check_entry(index, syscall)?;
            let conditions = conditions(index, syscall)?;
            if action != default {
                add_rules(&mut rules, index, action, conditions);
            }
            entries.push(Entry { names: syscall.names(), first, last: rules.len() });
        }
        let refuses = !matches!(
            profile.default_action(),
            LinuxSeccompAction::ScmpActAllow
                | LinuxSeccompAction::ScmpActLog
                | LinuxSeccompAction::ScmpActTrace
        );
        Ok(Self { default, refuses, rules, entries })
    }
}

/// With two conditions on one argument each condition becomes a rule, as in runc.
fn add_rules(rules: &mut Vec<Rule>, entry: usize, action: u32, mut conditions: Vec<Condition>) {
    conditions.sort_by_key(|condition| condition.index);
    let twice = conditions.windows(2).any(|pair| match pair {
        [a, b] => a.index == b.index,
        _ => false,
    });
    if twice {
        rules.extend(conditions.into_iter().map(|c| Rule::new(action, vec![c], entry)));
    } else {
        rules.push(Rule::new(action, conditions, entry));
    }
}

fn check_entry(entry: usize, syscall: &LinuxSyscall) -> Result<u32, Error> {
    if syscall.names().is_empty() {
        return Err(Error::NoNames { entry });
    }
    if let Some(name) = syscall.names().iter().position(String::is_empty) {
        return Err(Error::EmptyName { entry, name });
    }
    return_value(syscall.action(), syscall.errno_ret(), || {
        format!("linux.seccomp.syscalls[{entry}].errnoRet")
    })
}

fn conditions(entry: usize, syscall: &LinuxSyscall) -> Result<Vec<Condition>, Error> {
    let args = syscall.args().as_deref().unwrap_or_default();
    let condition = |(arg, condition): (usize, &LinuxSeccompArg)| {
        let refused = || Error::ArgumentIndex { entry, arg, index: condition.index() };
        Condition::new(condition).ok_or_else(refused)
    };
    args.iter().enumerate().map(condition).collect()
}

/// The return value for `action`; `errno` is the value of `field`.
fn return_value(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    field: impl FnOnce() -> String,
) -> Result<u32, Error> {
    let (code, max) = match action {
        LinuxSeccompAction::ScmpActErrno => (libc::SECCOMP_RET_ERRNO, MAX_ERRNO),
        LinuxSeccompAction::ScmpActTrace => (libc::SECCOMP_RET_TRACE, MAX_DATA),
        _ if errno.is_some() => return Err(Error::ErrnoUnused { field: field(), action }),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            return Ok(libc::SECCOMP_RET_KILL_THREAD);
        }
        LinuxSeccompAction::ScmpActKillProcess => return Ok(libc::SECCOMP_RET_KILL_PROCESS),
        LinuxSeccompAction::ScmpActTrap => return Ok(libc::SECCOMP_RET_TRAP),
        LinuxSeccompAction::ScmpActLog => return Ok(libc::SECCOMP_RET_LOG),
        LinuxSeccompAction::ScmpActAllow => return Ok(libc::SECCOMP_RET_ALLOW),
        LinuxSeccompAction::ScmpActNotify => return Ok(libc::SECCOMP_RET_USER_NOTIF),
    };
    match errno.unwrap_or(DEFAULT_DATA) {
        value if value > max => Err(Error::ErrnoTooBig { field: field(), value, max }),
        value => Ok(code | value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        let profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
        Profile::new(&profile).map(|_| ()).unwrap_err().to_string()
    }

    fn entry_error(entry: &str) -> String {
        error(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {{"names":["read"],"action":"SCMP_ACT_ALLOW"}},{entry}]}}"#
        ))
    }

    #[test]
    fn bad_input_is_refused_by_its_field() {
        let cases = [
            (
                r#"{"names":[],"action":"SCMP_ACT_ALLOW"}"#,
                "names: empty, at least one name is needed",
            ),
            (r#"{"names":["a",""],"action":"SCMP_ACT_ALLOW"}"#, "names[1]: empty"),
            (
                r#"{"names":["a"],"action":"SCMP_ACT_KILL","errnoRet":1}"#,
                "errnoRet: SCMP_ACT_KILL returns no errno",
            ),
            (
                r#"{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#,
                "errnoRet: 4096 is greater than 4095",
            ),
            (
                r#"{"names":["a"],"action":"SCMP_ACT_TRACE","errnoRet":65536}"#,
                "errnoRet: 65536 is greater than 65535",
            ),
            (
                r#"{"names":["a"],"action":"SCMP_ACT_ALLOW",
                    "args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"},{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
                "args[1].index: 6 is greater than 5, the last argument",
            ),
        ];
        for (entry, message) in cases {
            assert_eq!(entry_error(entry), format!("linux.seccomp.syscalls[1].{message}"));
        }
    }

    #[test]
    fn the_default_is_checked_too() {
        let cases = [
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
                "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW returns no errno",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#,
                "linux.seccomp.defaultErrnoRet: 5000 is greater than 4095",
            ),
        ];
        for (json, message) in cases {
            assert_eq!(error(json), message);
        }
    }

    #[test]
    fn one_argument_tested_twice_makes_two_rules() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":1,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"},
                {"index":1,"value":3,"op":"SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        let profile = Profile::new(&profile).unwrap();
        assert_eq!(profile.rules.len(), 3);
        assert!(profile.rules.iter().all(|rule| rule.conditions.len() == 1));
    }

    #[test]
    fn an_entry_with_the_default_action_has_no_rules() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
        )
        .unwrap();
        let profile = Profile::new(&profile).unwrap();
        assert!(profile.rules.is_empty());
        assert_eq!(profile.entries.len(), 1);
    }
}
