//! The action of a profile for a system call, without regard to its arguments.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

/// The effect of a filter on one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is allowed, with all arguments.
    Allows,
    /// It is never allowed.
    Refuses,
    /// It depends on the arguments, on an agent or on a tracer.
    Depends,
}

/// The effect of `profile` on the call with this name.
#[must_use]
pub fn answer(profile: &LinuxSeccomp, name: &str) -> Answer {
    let default = profile.default_action();
    // Entries with the default action are skipped; those without args take precedence.
    let mut entries = syscalls(profile).iter().filter(|s| names(s, name) && s.action() != default);
    let is_free = |syscall: &&LinuxSyscall| syscall.args().as_ref().is_none_or(Vec::is_empty);
    let action = match entries.clone().find(is_free) {
        Some(entry) => entry.action(),
        None if entries.next().is_some() => return Answer::Depends,
        None => default,
    };
    match action {
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog => Answer::Allows,
        LinuxSeccompAction::ScmpActNotify | LinuxSeccompAction::ScmpActTrace => Answer::Depends,
        _ => Answer::Refuses,
    }
}

pub(crate) fn syscalls(profile: &LinuxSeccomp) -> &[LinuxSyscall] {
    profile.syscalls().as_deref().unwrap_or_default()
}

pub(crate) fn names(syscall: &LinuxSyscall, name: &str) -> bool {
    syscall.names().iter().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(default: &str, entries: Value) -> Answer {
        let profile = json!({ "defaultAction": default, "syscalls": entries });
        answer(&serde_json::from_value(profile).unwrap(), "read")
    }

    #[test]
    fn the_default_answers_what_no_entry_names() {
        let other = json!([{ "names": ["write"], "action": "SCMP_ACT_ALLOW" }]);
        assert_eq!(of("SCMP_ACT_ERRNO", other.clone()), Answer::Refuses);
        assert_eq!(of("SCMP_ACT_KILL_PROCESS", other.clone()), Answer::Refuses);
        assert_eq!(of("SCMP_ACT_LOG", other.clone()), Answer::Allows);
        assert_eq!(of("SCMP_ACT_TRACE", other), Answer::Depends);
    }

    #[test]
    fn arguments_and_agents_make_it_depend() {
        let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
        let conditional = json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args });
        assert_eq!(of("SCMP_ACT_ERRNO", json!([conditional])), Answer::Depends);
        let free = json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW" });
        assert_eq!(of("SCMP_ACT_ERRNO", json!([conditional, free])), Answer::Allows);
        let notified = json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" });
        assert_eq!(of("SCMP_ACT_ALLOW", json!([notified])), Answer::Depends);
    }
}
