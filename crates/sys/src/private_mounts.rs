//! A mount namespace for a while, which children inherit.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir};

use crate::{Error, OsContext};

/// The mount namespace, the root and the working directory of this process.
struct Before {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Before {
    fn note() -> Result<Self, Error> {
        let open = |path: &CStr, flags| {
            open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).syscall("open")
        };
        Ok(Self {
            namespace: open(c"/proc/self/ns/mnt", OFlag::O_RDONLY)?,
            root: open(c"/", OFlag::O_PATH | OFlag::O_DIRECTORY)?,
            directory: open(c".", OFlag::O_PATH | OFlag::O_DIRECTORY)?,
        })
    }

    /// setns(2) moves root and working directory to the root of the namespace.
    fn return_to(&self) -> Result<(), Error> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNS).syscall("setns")?;
        fchdir(&self.root).syscall("fchdir")?;
        chroot(c".").syscall("chroot")?;
        fchdir(&self.directory).syscall("fchdir")
    }
}

/// Runs `body` in a new mount namespace, in which the directory `root`, with the mounts below it,
/// is a mount point. Mounts of the host still arrive there, and none leaves. Processes that `body`
/// starts stay there, and this one returns; with the last of them the mounts end.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN and CAP_SYS_CHROOT; those of mount(2) and of `body`.
pub fn with_private_mounts<T, E: From<Error>>(
    root: &CStr,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let before = Before::note()?;
    unshare(CloneFlags::CLONE_NEWNS).syscall("unshare")?;
    let result = enter(root).map_err(E::from).and_then(|()| body());
    before.return_to()?;
    result
}

fn enter(root: &CStr) -> Result<(), Error> {
    let none = None::<&CStr>;
    mount(none, c"/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).syscall("mount")?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, none, bind, none).syscall("mount")
}
