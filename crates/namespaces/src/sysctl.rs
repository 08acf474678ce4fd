//! `linux.sysctl`: which parameters belong to which namespace.

use std::ffi::CString;

use crate::{Error, Kind, Op};

/// Parameters of kernel.* that an ipc namespace holds (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The namespace that holds the parameter with this dotted name.
fn owner(name: &str) -> Option<Kind> {
    match name {
        "kernel.domainname" => Some(Kind::Uts),
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Kind::Ipc),
        name if name.starts_with("net.") => Some(Kind::Network),
        name if name.starts_with("user.") => Some(Kind::User),
        _ => None,
    }
}

/// The name with dots between its parts: sysctl(8) takes `net.ipv4.conf.eth0/1.forwarding` and
/// `net/ipv4/conf/eth0.1/forwarding` for the same parameter.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes().get(at)) {
        Some(Some(b'/')) => swap(name),
        _ => name.to_owned(),
    }
}

fn swap(name: &str) -> String {
    let swapped = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swapped).collect()
}

/// Whether this is the parameter of the field `domainname`, in any of its spellings.
pub(crate) fn is_domainname(name: &str) -> bool {
    dotted(name) == "kernel.domainname"
}

/// Plans one parameter; `has` tells whether the container has a namespace of its own of that kind.
pub(crate) fn plan(name: &str, value: &str, has: impl Fn(Kind) -> bool) -> Result<Op, Error> {
    let field = || format!("linux.sysctl[{name:?}]");
    let dotted = dotted(name);
    if dotted == "kernel.hostname" {
        return Err(Error::SysctlHostname);
    }
    let kind = owner(&dotted).ok_or_else(|| Error::Sysctl(name.to_owned()))?;
    if !has(kind) {
        return Err(Error::Needs { field: field(), kind });
    }
    let path = swap(&dotted);
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::Text { field: field(), reason: "is not the name of a parameter" });
    }
    let path = CString::new(format!("sys/{path}"))
        .map_err(|_| Error::Text { field: field(), reason: "contains a NUL byte" })?;
    Ok(Op::Sysctl { name: name.to_owned(), path, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Result<String, Error> {
        plan(name, "1", |_| true).map(|op| match op {
            Op::Sysctl { path, .. } => path.into_string().unwrap(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn dots_and_slashes_name_the_same_parameter() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/ip_forward").unwrap(), "sys/net/ipv4/ip_forward");
        let vlan = "sys/net/ipv4/conf/eth0.1/forwarding";
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding").unwrap(), vlan);
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), vlan);
    }

    #[test]
    fn what_would_change_the_host_is_refused() {
        for name in ["kernel.panic", "vm.swappiness", "kernel.msgmaxx", "net", "", "fs.mqueue"] {
            assert_eq!(path(name), Err(Error::Sysctl(name.to_owned())), "{name}");
        }
        assert_eq!(path("kernel.hostname"), Err(Error::SysctlHostname));
        assert!(matches!(path("net...x"), Err(Error::Text { .. })));
        assert!(matches!(path("net/../kernel/panic"), Err(Error::Text { .. })));
    }

    #[test]
    fn the_namespace_must_be_the_containers_own() {
        for (name, kind) in [
            ("net.core.somaxconn", Kind::Network),
            ("kernel.sem", Kind::Ipc),
            ("fs.mqueue.msg_max", Kind::Ipc),
            ("kernel.domainname", Kind::Uts),
            ("user.max_user_namespaces", Kind::User),
        ] {
            let error = plan(name, "1", |_| false).unwrap_err();
            assert_eq!(error, Error::Needs { field: format!("linux.sysctl[{name:?}]"), kind });
        }
    }
}
