//! A user namespace that exists only to say how a mount's ids are mapped.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, close, read, write};
use sys::{During, Error};

/// Maps the ids of a detached tree (mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux 5.12).
pub(super) fn map(
    tree: BorrowedFd<'_>,
    recursive: bool,
    uids: &str,
    gids: &str,
) -> Result<(), Error> {
    let namespace = user_namespace(uids, gids)?;
    sys::mount::map_ids(tree, recursive, &namespace)
}

/// A new user namespace with these maps. It is made by a child that waits for our end of a socket
/// to close, and so ends with us in any case.
fn user_namespace(uids: &str, gids: &str) -> Result<OwnedFd, Error> {
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let (ours, theirs) =
        socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).during("socketpair")?;
    let child = sys::clone::spawn(libc::CLONE_NEWUSER as u64, None, || {
        // The child's copy of our end would keep it waiting for itself.
        let _ = close(ours.as_raw_fd());
        let _ = read(&theirs, &mut [0]);
        0
    })?;
    let namespace = write_maps(child.pid, uids, gids);
    drop(ours);
    waitpid(child.pid, None).during("waitpid")?;
    namespace
}

fn write_maps(pid: Pid, uids: &str, gids: &str) -> Result<OwnedFd, Error> {
    let procfs = sys::procfs::private()?;
    for (name, text) in [("gid_map", gids), ("uid_map", uids)] {
        let path = CString::new(format!("{pid}/{name}"))
            .map_err(|_| Error::new("openat2", Errno::EINVAL))?;
        let file = sys::procfs::open(&procfs, &path, libc::O_WRONLY)?;
        write(&file, text.as_bytes()).during(match name {
            "uid_map" => "write uid_map",
            _ => "write gid_map",
        })?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&procfs, format!("{pid}/ns/user").as_str(), flags, Mode::empty()).during("openat")
}
