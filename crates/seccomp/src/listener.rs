//! Who is told of system calls that only someone outside can answer for.
//!
//! The kernel gives the listener of a filter to the thread that installs it, under the filter
//! already. Init must still hand it over, and would wait for an answer that nobody can give if the
//! system call that it does this with were to be notified too.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::{Deserialize, Serialize};

use crate::Error;

/// `sun_path` of unix(7), with the final NUL.
const MAX_PATH: usize = 107;

/// The agent of a profile that notifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The socket on which it listens.
    pub path: PathBuf,
    /// What it is told besides.
    pub metadata: Option<String>,
    /// What init hands the listener over with.
    pub(crate) carrier: Carrier,
}

/// The system calls that can carry a descriptor to another process (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// sendmsg(2)
    SendMsg,
    /// sendmmsg(2)
    SendMmsg,
}

/// The one that notifies of sendmsg, to redirect connections, leaves sendmmsg alone.
const CARRIERS: [(Carrier, &str); 2] =
    [(Carrier::SendMsg, "sendmsg"), (Carrier::SendMmsg, "sendmmsg")];

/// The agent of `profile`; `None` where nothing is notified: then a path means nothing
/// (config-linux.md, "Seccomp").
///
/// # Errors
/// NOTIFY where it cannot be, an agent that is not named.
pub fn listener(profile: &LinuxSeccomp) -> Result<Option<Listener>, Error> {
    if profile.listener_metadata().is_some() && profile.listener_path().is_none() {
        return Err(Error::MetadataWithoutListener);
    }
    let notify = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == notify {
        return Err(Error::NotifyRefused { field: "linux.seccomp.defaultAction".to_owned() });
    }
    let mut notified = syscalls(profile).iter().enumerate().filter(|(_, s)| s.action() == notify);
    let Some((first, _)) = notified.clone().next() else { return Ok(None) };
    let field = |entry: usize| format!("linux.seccomp.syscalls[{entry}].action");
    // A failure to execute the program is told with write(2), while nobody may be there to answer.
    if let Some((entry, _)) = notified.find(|(_, syscall)| names(syscall, "write")) {
        return Err(Error::NotifyRefused { field: field(entry) });
    }
    let Some(path) = profile.listener_path() else {
        return Err(Error::NotifyWithoutListener { field: field(first) });
    };
    let wrong = |reason| Err(Error::ListenerPath { path: path.clone(), reason });
    match path.as_os_str().len() {
        _ if !path.is_absolute() => return wrong("is not an absolute path"),
        length if length > MAX_PATH => return wrong("is too long for the address of a socket"),
        _ => {}
    }
    let carrier = CARRIERS.iter().find(|(_, name)| surely_allowed(profile, name));
    let carrier = carrier.ok_or_else(|| Error::NoCarrier { field: field(first) })?.0;
    let metadata = profile.listener_metadata().clone();
    Ok(Some(Listener { path: path.clone(), metadata, carrier }))
}

/// Whether the filter lets this call pass whatever its arguments are.
fn surely_allowed(profile: &LinuxSeccomp, name: &str) -> bool {
    let default = profile.default_action();
    // Entries with the default action are skipped, and those without args win over the others.
    let mut entries = syscalls(profile).iter().filter(|s| names(s, name) && s.action() != default);
    let is_free = |syscall: &&LinuxSyscall| syscall.args().as_ref().is_none_or(Vec::is_empty);
    let action = match entries.clone().find(is_free) {
        Some(entry) => entry.action(),
        None if entries.next().is_some() => return false,
        None => default,
    };
    matches!(action, LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog)
}

fn syscalls(profile: &LinuxSeccomp) -> &[LinuxSyscall] {
    profile.syscalls().as_deref().unwrap_or_default()
}

fn names(syscall: &LinuxSyscall, name: &str) -> bool {
    syscall.names().iter().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(profile: Value) -> Result<Option<Listener>, String> {
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        listener(&profile).map_err(|error| error.to_string())
    }

    fn carrier(default: &str, entries: &[Value]) -> Result<Carrier, String> {
        let mut syscalls = vec![json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" })];
        syscalls.extend(entries.iter().cloned());
        of(json!({ "defaultAction": default, "listenerPath": "/s", "syscalls": syscalls }))
            .map(|listener| listener.unwrap().carrier)
    }

    fn entry(name: &str, action: &str) -> Value {
        json!({ "names": [name], "action": action })
    }

    #[test]
    fn the_carrier_is_a_call_that_the_filter_lets_pass() {
        let (allow, errno, notify) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY");
        assert_eq!(carrier(allow, &[]), Ok(Carrier::SendMsg));
        assert_eq!(carrier(allow, &[entry("sendmsg", notify)]), Ok(Carrier::SendMmsg));
        assert_eq!(carrier(errno, &[entry("sendmsg", allow)]), Ok(Carrier::SendMsg));
        assert_eq!(carrier(errno, &[entry("sendmmsg", "SCMP_ACT_LOG")]), Ok(Carrier::SendMmsg));
        let mut conditional = entry("sendmsg", errno);
        conditional["args"] = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
        assert_eq!(carrier(allow, &[conditional]), Ok(Carrier::SendMmsg));
        let none = carrier(errno, &[]).unwrap_err();
        assert!(none.starts_with("linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY"), "{none}");
        assert!(carrier(allow, &[entry("sendmsg", notify), entry("sendmmsg", errno)]).is_err());
    }

    #[test]
    fn a_path_without_notify_means_nothing() {
        let quiet = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "s" });
        assert_eq!(of(quiet), Ok(None));
    }

    #[test]
    fn bad_input_is_refused_by_its_field() {
        let notify = |names: &[&str], path: Value| {
            let rule = json!({ "names": names, "action": "SCMP_ACT_NOTIFY" });
            let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
            profile["listenerPath"] = path;
            profile
        };
        let waits =
            "SCMP_ACT_NOTIFY is not possible here: the runtime itself would wait for the answer";
        for (profile, message) in [
            (
                json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/s" }),
                format!("linux.seccomp.defaultAction: {waits}"),
            ),
            (
                notify(&["read", "write"], json!("/s")),
                format!("linux.seccomp.syscalls[0].action: {waits}"),
            ),
            (
                notify(&["mkdir"], Value::Null),
                "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath"
                    .to_owned(),
            ),
            (
                notify(&["mkdir"], json!("run/s")),
                "linux.seccomp.listenerPath: \"run/s\" is not an absolute path".to_owned(),
            ),
            (
                json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m" }),
                "linux.seccomp.listenerMetadata: must not be set without listenerPath".to_owned(),
            ),
        ] {
            assert_eq!(of(profile), Err(message));
        }
        let long = notify(&["mkdir"], json!(format!("/{}", "x".repeat(107))));
        assert!(of(long).unwrap_err().ends_with("is too long for the address of a socket"));
    }
}
