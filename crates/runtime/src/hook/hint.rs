//! Hints for hooks that could not be executed. They may look at the host, and change nothing there.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::stat;

use super::HookPoint;

/// The hint for a hook that could not be executed, by the namespaces in which its path is looked
/// up.
pub(crate) fn of(point: HookPoint, errno: Errno, path: &CStr) -> Option<String> {
    match point {
        HookPoint::StartContainer => in_container(errno, path),
        HookPoint::CreateContainer => match errno {
            Errno::ENOENT => Some(
                "createContainer hooks are programs of the host: the path is looked up in the host's root, \
                 with the container's mounts below root.path"
                    .to_owned(),
            ),
            errno => of_hook_on_host(errno, path),
        },
        _ => of_hook_on_host(errno, path),
    }
}

fn in_container(errno: Errno, path: &CStr) -> Option<String> {
    let on_host = Path::new(OsStr::from_bytes(path.to_bytes()));
    match errno {
        Errno::ENOENT if stat(on_host).is_ok() => Some(
            "startContainer hooks are programs of the container: it is on the host, and not in the \
             container's root"
                .to_owned(),
        ),
        Errno::ENOENT => Some(
            "startContainer hooks are programs of the container: the path is looked up in its root"
                .to_owned(),
        ),
        Errno::EACCES => Some(
            "it has no execute permission in the container, or is on a mount with noexec".to_owned(),
        ),
        _ => None,
    }
}

/// The hint for a hook that runs in the runtime's namespaces.
pub(crate) fn of_hook_on_host(errno: Errno, path: &CStr) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    match errno {
        Errno::ENOENT if stat(path).is_ok() => {
            Some("the hook is there: the interpreter that it names is not".to_owned())
        }
        Errno::ENOENT => Some("the path is looked up on the host".to_owned()),
        Errno::EACCES => Some(
            "it has no execute permission on the host, or is on a mount with noexec".to_owned(),
        ),
        _ => None,
    }
}
