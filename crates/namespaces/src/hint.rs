//! Advice for the user, by operation and errno.
//!
//! A hint may read files of the host: hints are only needed after a failure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use davit_sys::IdMapping;
use nix::errno::Errno;
use nix::unistd::{getgid, getuid};

use crate::Op;
use crate::id_maps::{Helper, HelperError, WriteError};

pub(crate) fn of(op: &Op, errno: Errno) -> Option<String> {
    match (op, errno) {
        (Op::Sysctl { path, .. }, Errno::ENOENT) => Some(format!(
            "this kernel has no /proc/sys/{}, or has it only in the host's namespace",
            Path::new(OsStr::from_bytes(path.to_bytes())).strip_prefix("sys").ok()?.display()
        )),
        (Op::Sysctl { .. }, Errno::EINVAL) => {
            Some("the kernel does not accept this value".to_owned())
        }
        _ => None,
    }
}

impl WriteError {
    /// The hint for this error, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            WriteError::Helper {
                helper, refusal: HelperError::NotExecuted(Errno::ENOENT), ..
            } => Some(format!(
                "{} is not installed: it is in the package uidmap (Debian, Ubuntu), shadow-utils \
                     (Fedora) or shadow (Arch, openSUSE)",
                helper.name()
            )),
            WriteError::Helper { helper, refusal: HelperError::Output(_), mappings } => {
                helper_failed(*helper, mappings)
            }
            WriteError::File { error, .. }
                if error.errno == Errno::EPERM && !getuid().is_root() =>
            {
                Some(format!(
                    "only the caller's own id can be mapped without helpers: hostID {} of \
                     linux.uidMappings, {} of linux.gidMappings",
                    getuid(),
                    getgid()
                ))
            }
            _ => None,
        }
    }
}

/// The checks of the helper: the caller's name, and the ids of that user.
fn helper_failed(helper: Helper, mappings: &[IdMapping]) -> Option<String> {
    let uid = getuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let Some(user) = name_of(&passwd, uid) else {
        return Some(format!("{} needs a line in /etc/passwd for uid {uid}", helper.name()));
    };
    let file = helper.file();
    let granted = std::fs::read_to_string(file).unwrap_or_default();
    let granted = ranges(&granted, &[user, &uid.to_string()]);
    let is_granted = |mapping: &IdMapping| {
        mapping.size == 1 && mapping.host == helper.own_id()
            || granted.iter().any(|(first, count)| {
                mapping.host >= *first
                    && u64::from(mapping.host) + u64::from(mapping.size)
                        <= u64::from(*first) + u64::from(*count)
            })
    };
    match mappings.iter().find(|mapping| !is_granted(mapping)) {
        Some(IdMapping { host, size, .. }) => Some(format!(
            "{file} does not assign the {size} ids from {host} to {user}: it needs a line such as \
             {user}:{host}:{size}"
        )),
        None => Some(format!("{} must be setuid root, or have its file capability", helper.name())),
    }
}

/// The name of a user in the text of /etc/passwd (passwd(5)).
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// First id and count of each range of these users in the text of a subuid(5) file.
fn ranges(text: &str, names: &[&str]) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        names.contains(&name).then_some(range)
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranges_are_read() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n";
        assert_eq!((name_of(passwd, 1000), name_of(passwd, 1)), (Some("bob"), None));
        let text = "bob:100000:65536\n# bob\nann:1:2\n1000:7:8\nbob:x:y\n";
        assert_eq!(ranges(text, &["bob", "1000"]), [(100_000, 65536), (7, 8)]);
    }
}
