//! Owner and mode of the files that davit trusts: its own user's, not writable by group or others.
//!
//! The state of a container names processes to kill, cgroups to remove and hooks to run: a user who
//! can write it has the caller's rights. Each file is checked through the descriptor that is then
//! used.

use std::path::Path;
use std::sync::OnceLock;

use nix::sys::stat::FileStat;
use nix::unistd::geteuid;

use crate::error::{Error, Result};

/// Write permission of the group and of others. An ACL cannot hide: its mask is what the group bits
/// show (acl(5)).
const SHARED_WRITE: u32 = 0o022;

/// Why a file or directory is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untrusted {
    /// It belongs to the user with this uid.
    Owner(u32),
    /// Its mode lets the group or others write.
    Mode(u32),
}

impl Untrusted {
    /// Checks the owner, and the mode unless it is a symbolic link, which has no mode of its own.
    /// In a user namespace an owner that is mapped to our uid is us, and one that is not mapped is
    /// another user.
    pub(crate) fn of(stat: &FileStat) -> Option<Self> {
        let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
        if stat.st_uid != our_uid() {
            Some(Self::Owner(stat.st_uid))
        } else if !is_link && stat.st_mode & SHARED_WRITE != 0 {
            Some(Self::Mode(stat.st_mode & 0o7777))
        } else {
            None
        }
    }

    /// The refusal of `name`, which is at `path`.
    pub(crate) fn refuse(self, name: &str, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Owner(uid) => {
                let us = our_uid();
                let hint = "its owner could run programs with your rights through it: \
                            call davit as that user, or give another --root";
                Error::new(format!("{name} {path}: belongs to user {uid}, not to user {us}"))
                    .hint(hint)
            }
            Self::Mode(mode) => {
                let hint = format!(
                    "its writers could run programs with your rights: if you trust the content, chmod go-w {path}"
                );
                Error::new(format!("{name} {path}: others may write it (mode {mode:04o})"))
                    .hint(hint)
            }
        }
    }
}

/// The effective uid, which no command changes.
pub(crate) fn our_uid() -> u32 {
    static OURS: OnceLock<u32> = OnceLock::new();
    *OURS.get_or_init(|| geteuid().as_raw())
}

/// Refuses what another user owns or may write.
///
/// # Errors
/// [`Untrusted`], with the name, the path and a hint.
pub(crate) fn check(stat: &FileStat, name: &str, path: &Path) -> Result<()> {
    Untrusted::of(stat).map_or(Ok(()), |untrusted| Err(untrusted.refuse(name, path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::lstat;

    use super::*;

    #[test]
    fn only_our_own_files_are_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (mode, untrusted) in [
            (0o600, None),
            (0o755, None),
            (0o711, None),
            (0o664, Some(Untrusted::Mode(0o664))),
            (0o1777, Some(Untrusted::Mode(0o1777))),
            (0o602, Some(Untrusted::Mode(0o602))),
        ] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Untrusted::of(&lstat(&file).unwrap()), untrusted, "{mode:o}");
        }
        let link = directory.path().join("link");
        symlink("x", &link).unwrap();
        assert_eq!(Untrusted::of(&lstat(&link).unwrap()), None);
        let mut stat = lstat(&link).unwrap();
        stat.st_uid += 1;
        assert_eq!(Untrusted::of(&stat), Some(Untrusted::Owner(stat.st_uid)));
    }

    #[test]
    fn the_error_names_the_path_and_what_to_do() {
        let error = Untrusted::Mode(0o777).refuse("state root", Path::new("/x"));
        assert_eq!(error.message(), "state root /x: others may write it (mode 0777)");
        assert!(error.advice().unwrap().contains("chmod go-w /x"));
    }
}
