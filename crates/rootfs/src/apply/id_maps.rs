//! User namespaces that only define the id mapping of a mount.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, write};

use super::Context;
use crate::op::IdMaps;

impl Context {
    /// Maps the ids of a detached tree (mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux 5.12).
    pub(super) fn map_ids(&self, tree: u16, recursive: bool, maps: &IdMaps) -> Result<(), Error> {
        let tree = self.slots.get(tree)?;
        let map = |namespace: BorrowedFd<'_>| davit_sys::mount::map_ids(tree, recursive, namespace);
        match maps {
            IdMaps::Lines { uids, gids } => {
                let write = |pid| write_maps(pid, uids, gids);
                map(davit_sys::clone::in_new_user_namespace(write)?.as_fd())
            }
            IdMaps::Namespace(slot) => map(self.slots.get(*slot)?),
        }
    }
}

/// Writes the maps of the new user namespace of `pid`, and opens the namespace.
fn write_maps(pid: Pid, uids: &str, gids: &str) -> Result<OwnedFd, Error> {
    let procfs = davit_sys::procfs::private()?;
    for (name, text) in [("gid_map", gids), ("uid_map", uids)] {
        let path = CString::new(format!("{pid}/{name}"))
            .map_err(|_| Error::new("openat2", Errno::EINVAL))?;
        let file = davit_sys::procfs::open(&procfs, &path, libc::O_WRONLY)?;
        write(&file, text.as_bytes()).syscall(match name {
            "uid_map" => "write uid_map",
            _ => "write gid_map",
        })?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&procfs, format!("{pid}/ns/user").as_str(), flags, Mode::empty()).syscall("openat")
}
