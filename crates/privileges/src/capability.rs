//! Names and numbers of capabilities(7).

use std::fmt;

use oci_spec::runtime::Capabilities;

/// The kernel's capabilities in the order of their numbers (linux/capability.h), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// `CAP_SYS_ADMIN`, which is needed for seccomp filters without no_new_privs.
pub const SYS_ADMIN: u32 = 21;

/// All known capabilities, as a mask.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The number of a capability, with or without `CAP_`, in upper or lower case; `None` for an
/// unknown one.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == bare).and_then(|at| u32::try_from(at).ok())
}

/// All names, as in config.json.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// The numbers in a mask.
pub fn numbers(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| mask & (1 << bit) != 0)
}

/// A set in config.json as a mask.
pub(crate) fn mask(set: Option<&Capabilities>) -> u64 {
    let bit = |name: &str| number(name).map_or(0, |number| 1u64 << number);
    set.into_iter().flatten().fold(0, |mask, capability| mask | bit(&capability.to_string()))
}

/// Prints a mask as names.
#[derive(Clone, Copy, Debug)]
pub struct Names(pub u64);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => return f.write_str("none"),
            all if all & ALL == ALL => return f.write_str("all"),
            _ => {}
        }
        for (at, bit) in numbers(self.0).enumerate() {
            let separator = if at == 0 { "" } else { " " };
            let name = usize::try_from(bit).ok().and_then(|bit| NAMES.get(bit)).unwrap_or(&"?");
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn every_name_of_the_spec_has_the_kernels_number() {
        for (name, expected) in
            [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("cap_net_raw", 13), ("BPF", 39)]
        {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("CAP_NONSENSE"), None);
        assert_eq!(number("CAP_CAP_CHOWN"), None);
    }

    #[test]
    fn the_libraries_names_are_all_known() {
        for name in names() {
            let quoted = format!("{name:?}");
            let capability: Capability = serde_json::from_str(&quoted).unwrap();
            assert_eq!(number(&capability.to_string()), number(&name), "{name}");
        }
    }

    #[test]
    fn masks_print_as_names() {
        assert_eq!(Names(0).to_string(), "none");
        assert_eq!(Names(ALL).to_string(), "all");
        assert_eq!(Names(1 | 1 << 13).to_string(), "CHOWN NET_RAW");
    }
}
