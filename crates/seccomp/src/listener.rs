//! The seccomp agent, which decides about notified system calls.
//!
//! The kernel returns the listener of a filter to the thread that installs it, with the filter in
//! effect. Init must still send it to the agent. If the filter notified the system call for that,
//! init would wait forever, because the agent does not have the listener yet.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::answer::{Answer, answer, names, syscalls};

/// `sun_path` of unix(7), with the final NUL.
const MAX_PATH: usize = 107;

/// The agent of a profile that notifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The socket on which it listens.
    pub path: PathBuf,
    /// `listenerMetadata`, which is sent to it.
    pub metadata: Option<String>,
    /// The system call by which init sends the listener.
    pub(crate) send_via: SendVia,
}

/// The system calls that can send a descriptor (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendVia {
    /// sendmsg(2)
    SendMsg,
    /// sendmmsg(2)
    SendMmsg,
}

/// In order of preference: a profile that notifies sendmsg, to redirect connections, may allow
/// sendmmsg.
const SEND_CALLS: [(SendVia, &str); 2] =
    [(SendVia::SendMsg, "sendmsg"), (SendVia::SendMmsg, "sendmmsg")];

/// The agent of `profile`; `None` if nothing is notified: the path is ignored then
/// (config-linux.md, "Seccomp").
///
/// # Errors
/// NOTIFY for a system call that init needs, or without an agent.
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
    // Init reports a failure of execve(2) by write(2), perhaps before the agent answers.
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
    let send_via = SEND_CALLS.iter().find(|(_, name)| answer(profile, name) == Answer::Allows);
    let send_via = send_via.ok_or_else(|| Error::CannotSendListener { field: field(first) })?.0;
    let metadata = profile.listener_metadata().clone();
    Ok(Some(Listener { path: path.clone(), metadata, send_via }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(profile: Value) -> Result<Option<Listener>, String> {
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        listener(&profile).map_err(|error| error.to_string())
    }

    fn send_via(default: &str, entries: &[Value]) -> Result<SendVia, String> {
        let mut syscalls = vec![json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" })];
        syscalls.extend(entries.iter().cloned());
        of(json!({ "defaultAction": default, "listenerPath": "/s", "syscalls": syscalls }))
            .map(|listener| listener.unwrap().send_via)
    }

    fn entry(name: &str, action: &str) -> Value {
        json!({ "names": [name], "action": action })
    }

    #[test]
    fn the_carrier_is_a_call_that_the_filter_lets_pass() {
        let (allow, errno, notify) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY");
        assert_eq!(send_via(allow, &[]), Ok(SendVia::SendMsg));
        assert_eq!(send_via(allow, &[entry("sendmsg", notify)]), Ok(SendVia::SendMmsg));
        assert_eq!(send_via(errno, &[entry("sendmsg", allow)]), Ok(SendVia::SendMsg));
        assert_eq!(send_via(errno, &[entry("sendmmsg", "SCMP_ACT_LOG")]), Ok(SendVia::SendMmsg));
        let mut conditional = entry("sendmsg", errno);
        conditional["args"] = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
        assert_eq!(send_via(allow, &[conditional]), Ok(SendVia::SendMmsg));
        let none = send_via(errno, &[]).unwrap_err();
        assert!(none.starts_with("linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY"), "{none}");
        assert!(send_via(allow, &[entry("sendmsg", notify), entry("sendmmsg", errno)]).is_err());
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
