//! Labels of security modules, for the program that is executed.

use std::ffi::CString;
use std::fmt;

use davit_sys::{OsContext, procfs};
use nix::errno::Errno;
use nix::unistd::write;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::{Error, Op};

/// The enabled security modules of this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

impl SecurityModules {
    /// Whether the process has a label or profile.
    #[must_use]
    pub fn are_used_by(process: &Process) -> bool {
        profile(process).is_some() || label(process).is_some()
    }
}

/// An attribute of a process for its next execve(2), or for new keys (proc(5), /proc/PID/attr).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attribute {
    /// The AppArmor profile after the next execve(2).
    AppArmor,
    /// The SELinux context after the next execve(2).
    Selinux,
    /// The SELinux context of new keyrings; empty for that of the process.
    SelinuxKeys,
}

/// The profile of AppArmor without confinement.
const UNCONFINED: &str = "unconfined";

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn profile(process: &Process) -> Option<&str> {
    non_empty(process.apparmor_profile())
}

fn label(process: &Process) -> Option<&str> {
    non_empty(process.selinux_label())
}

/// Plans the labels of the next execve(2).
pub(crate) fn plan(process: &Process, modules: SecurityModules) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    match profile(process) {
        None => {}
        // Without the module nothing is confined anyway.
        Some(UNCONFINED) if !modules.apparmor => {}
        Some(_) if !modules.apparmor => {
            return Err(Error::NoModule { field: "process.apparmorProfile", module: "AppArmor" });
        }
        Some(profile) => ops.push(op("process.apparmorProfile", Attribute::AppArmor, profile)?),
    }
    if let Some(label) = selinux(process, modules)? {
        ops.push(op("process.selinuxLabel", Attribute::Selinux, label)?);
    }
    Ok(ops)
}

/// The operations around the creation of a session keyring, which gets the label of the program, so
/// that the program may use it.
pub(crate) fn around_keyring(
    process: &Process,
    modules: SecurityModules,
    keyring: Op,
) -> Result<Vec<Op>, Error> {
    let Some(label) = selinux(process, modules)? else { return Ok(vec![keyring]) };
    let keys = |label| op("process.selinuxLabel", Attribute::SelinuxKeys, label);
    Ok(vec![keys(label)?, keyring, keys("")?])
}

fn selinux(process: &Process, modules: SecurityModules) -> Result<Option<&str>, Error> {
    match label(process) {
        Some(_) if !modules.selinux => {
            Err(Error::NoModule { field: "process.selinuxLabel", module: "SELinux" })
        }
        label => Ok(label),
    }
}

fn op(field: &'static str, attribute: Attribute, label: &str) -> Result<Op, Error> {
    let label = CString::new(label).map_err(|_| Error::Nul(field))?;
    Ok(Op::Label { attribute, label })
}

pub(crate) fn show(
    f: &mut fmt::Formatter<'_>,
    attribute: Attribute,
    label: &CString,
) -> fmt::Result {
    // Engines recognise an error of a label by the file in backquotes.
    match attribute {
        Attribute::AppArmor => write!(f, "process.apparmorProfile {label:?}"),
        Attribute::Selinux => {
            write!(f, "process.selinuxLabel {label:?}: write `/proc/self/attr/exec`")
        }
        Attribute::SelinuxKeys if label.is_empty() => f.write_str("keyrings get the default label"),
        Attribute::SelinuxKeys => {
            write!(f, "process.selinuxLabel {label:?} of the session keyring")
        }
    }
}

/// Writes the attribute through a private procfs, on which nothing can be mounted (CVE-2019-16884),
/// and by pid: only the process itself may write, and `self` is a symbolic link.
pub(crate) fn apply(attribute: Attribute, label: &CString) -> Result<(), davit_sys::Error> {
    let procfs = procfs::private()?;
    let open = |name: &str| {
        let path = CString::new(format!("{}/attr/{name}", std::process::id()));
        let path = path.map_err(|_| davit_sys::Error::new("openat2", Errno::EINVAL))?;
        procfs::open(&procfs, &path, libc::O_WRONLY)
    };
    let mut command = Vec::new();
    let file = match attribute {
        Attribute::AppArmor => {
            command.extend(b"exec ");
            match open("apparmor/exec") {
                // Before Linux 5.8 all modules share one file.
                Err(davit_sys::Error { errno: Errno::ENOENT, .. }) => open("exec")?,
                opened => opened?,
            }
        }
        Attribute::Selinux => open("exec")?,
        Attribute::SelinuxKeys => open("keycreate")?,
    };
    command.extend(label.as_bytes());
    if command.is_empty() {
        // A newline resets the attribute; an empty write may not reach the module.
        command.push(b'\n');
    }
    write(&file, &command).map(drop).syscall("write")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BOTH: SecurityModules = SecurityModules { apparmor: true, selinux: true };
    const NONE: SecurityModules = SecurityModules { apparmor: false, selinux: false };

    fn process(extra: Value) -> Process {
        let mut process = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["x"] });
        process.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(process).unwrap()
    }

    fn listing(extra: Value, modules: SecurityModules) -> Result<Vec<String>, String> {
        let ops = plan(&process(extra), modules).map_err(|error| error.to_string())?;
        Ok(ops.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_are_those_of_config_json() {
        let both = json!({ "apparmorProfile": "web", "selinuxLabel": "u:r:t:s0" });
        assert_eq!(
            listing(both, BOTH).unwrap(),
            [
                "process.apparmorProfile \"web\"",
                "process.selinuxLabel \"u:r:t:s0\": write `/proc/self/attr/exec`"
            ]
        );
        let unconfined = || json!({ "apparmorProfile": "unconfined" });
        assert_eq!(
            listing(unconfined(), BOTH).unwrap(),
            ["process.apparmorProfile \"unconfined\""]
        );
        assert_eq!(listing(unconfined(), NONE).unwrap().len(), 0);
        let empty = json!({ "apparmorProfile": "", "selinuxLabel": "" });
        assert!(!SecurityModules::are_used_by(&process(empty.clone())));
        assert_eq!(listing(empty, NONE).unwrap().len(), 0);
        assert!(SecurityModules::are_used_by(&process(json!({ "selinuxLabel": "x" }))));
    }

    #[test]
    fn without_the_module_they_are_refused_by_name() {
        let refused = |extra| listing(extra, NONE).unwrap_err();
        assert_eq!(
            refused(json!({ "apparmorProfile": "web" })),
            "process.apparmorProfile: this kernel has no AppArmor"
        );
        assert_eq!(
            refused(json!({ "selinuxLabel": "x" })),
            "process.selinuxLabel: this kernel has no SELinux"
        );
        let nul = listing(json!({ "apparmorProfile": "a\0b" }), BOTH).unwrap_err();
        assert_eq!(nul, "process.apparmorProfile: contains a NUL byte");
    }

    /// A thread other than the first may not write for the process: the road there is open all the
    /// same, with whatever module the kernel has.
    #[test]
    fn the_files_are_found() {
        for attribute in [Attribute::AppArmor, Attribute::Selinux, Attribute::SelinuxKeys] {
            let error = apply(attribute, &c"x".to_owned()).unwrap_err();
            assert_eq!(error.call, "write", "{attribute:?}: {error}");
        }
    }

    #[test]
    fn a_keyring_gets_the_label_and_nothing_after_it() {
        let ring = || Op::JoinSessionKeyring(c"_ses.x".to_owned());
        let listing = |extra| -> Vec<String> {
            let ops = around_keyring(&process(extra), BOTH, ring()).unwrap();
            ops.iter().map(ToString::to_string).collect()
        };
        assert_eq!(listing(json!({})), ["session keyring _ses.x"]);
        assert_eq!(
            listing(json!({ "selinuxLabel": "t" })),
            [
                "process.selinuxLabel \"t\" of the session keyring",
                "session keyring _ses.x",
                "keyrings get the default label"
            ]
        );
    }
}
