//! Supported parts of `mounts`, for `features`: names as in config.json.

/// Whether `uidMappings`, `gidMappings`, `idmap` and `ridmap` of a mount are applied.
pub const ID_MAPPED_MOUNTS: bool = true;

/// Options of a mount that davit interprets. All others are for the file system.
pub const MOUNT_OPTIONS: [&str; 62] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn every_option_is_known_and_none_is_the_file_systems() {
        for name in MOUNT_OPTIONS {
            let parsed = Options::parse(&[name.to_owned()]);
            assert!(parsed.data.is_empty(), "{name}");
            let nothing = matches!(name, "defaults" | "async" | "loud" | "nomand" | "nolazytime")
                || name == "noiversion";
            assert!(nothing || parsed != Options::default(), "{name} does nothing");
        }
        assert!(MOUNT_OPTIONS.is_sorted());
    }
}
