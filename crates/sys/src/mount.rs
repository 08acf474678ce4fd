//! The mount API with descriptors: a file system or a mount is configured detached, then attached.
//!
//! Linux 5.2 (fsopen(2), fsmount(2), open_tree(2), move_mount(2), fspick(2)) and 5.12
//! (mount_setattr(2)).

use std::ffi::CStr;
use std::fmt;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::check;

/// Attributes of one mount (`MOUNT_ATTR_*`, mount_setattr(2)), as opposed to those of a superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr(u64);

impl Attr {
    /// No attribute; with the access times of `relatime`, which is the kernel's default.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID, set-group-ID and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// The bits of the access time, which are cleared before one is set.
    pub const ATIME: Self = Self(libc::MOUNT_ATTR__ATIME);
    /// Access times are not updated.
    pub const NOATIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Access times are updated at every access.
    pub const STRICTATIME: Self = Self(libc::MOUNT_ATTR_STRICTATIME);
    /// Access times of directories are not updated.
    pub const NODIRATIME: Self = Self(libc::MOUNT_ATTR_NODIRATIME);
    /// Symbolic links are not followed (Linux 5.14).
    pub const NOSYMFOLLOW: Self = Self(libc::MOUNT_ATTR_NOSYMFOLLOW);

    /// The attributes whose bits are `bits`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for Attr {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Propagation of mount events (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u64)]
pub enum Propagation {
    /// `MS_SHARED`: events propagate in both directions.
    Shared = libc::MS_SHARED,
    /// `MS_SLAVE`: events are received.
    Slave = libc::MS_SLAVE,
    /// `MS_PRIVATE`: no events propagate.
    Private = libc::MS_PRIVATE,
    /// `MS_UNBINDABLE`: no events propagate, and it cannot be bind mounted.
    Unbindable = libc::MS_UNBINDABLE,
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Slave => "slave",
            Self::Private => "private",
            Self::Unbindable => "unbindable",
        })
    }
}

/// Arguments of mount_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Attributes to set.
    pub set: Attr,
    /// Attributes to clear before.
    pub clear: Attr,
    /// The new propagation.
    pub propagation: Option<Propagation>,
}

impl Change {
    /// A change of the propagation alone.
    #[must_use]
    pub const fn propagation(propagation: Propagation) -> Self {
        Self { set: Attr::NONE, clear: Attr::NONE, propagation: Some(propagation) }
    }

    fn attr(&self) -> libc::mount_attr {
        libc::mount_attr {
            attr_set: self.set.0,
            attr_clr: self.clear.0,
            propagation: self.propagation.map_or(0, |propagation| propagation as u64),
            userns_fd: 0,
        }
    }
}

fn fd(call: &'static str, result: libc::c_long) -> Result<OwnedFd, Error> {
    let raw = RawFd::try_from(check(call, result)?).map_err(|_| Error::new(call, Errno::EBADF))?;
    // SAFETY: the call succeeded, so this is a new descriptor that no one else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// fsopen(2): a context in which a file system of type `fstype` is configured.
///
/// # Errors
/// ENODEV (no such type), EPERM, ...
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd, Error> {
    // SAFETY: a NUL-terminated string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), libc::FSOPEN_CLOEXEC) };
    fd("fsopen", result)
}

/// fspick(2): a context in which the file system of `mount` is reconfigured.
///
/// # Errors
/// EINVAL (`mount` is not the root of a mount), EPERM, ...
pub fn fspick(mount: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: an open descriptor and an empty, NUL-terminated string.
    let result = unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) };
    fd("fspick", result)
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<(), Error> {
    let key = key.map_or(ptr::null(), CStr::as_ptr);
    let value = value.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are NULL or NUL-terminated strings that live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    check("fsconfig", result).map(drop)
}

/// fsconfig(2): sets an option without a value, such as `ro`.
///
/// # Errors
/// EINVAL (no such option), ...
pub fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> Result<(), Error> {
    fsconfig(context, libc::FSCONFIG_SET_FLAG, Some(key), None)
}

/// fsconfig(2): sets `key=value`. The kernel takes at most 255 bytes of value.
///
/// # Errors
/// EINVAL (no such option, bad or too long a value), ...
pub fn fsconfig_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<(), Error> {
    fsconfig(context, libc::FSCONFIG_SET_STRING, Some(key), Some(value))
}

/// fsconfig(2): creates the configured superblock.
///
/// # Errors
/// Those of mounting such a file system.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<(), Error> {
    fsconfig(context, libc::FSCONFIG_CMD_CREATE, None, None)
}

/// fsconfig(2): applies the configuration to the superblock of [`fspick`].
///
/// # Errors
/// Those of remounting such a file system.
pub fn fsconfig_reconfigure(context: BorrowedFd<'_>) -> Result<(), Error> {
    fsconfig(context, libc::FSCONFIG_CMD_RECONFIGURE, None, None)
}

/// fsmount(2): a detached mount of the superblock of `context`. It can be used as a directory.
///
/// # Errors
/// EPERM (in a user namespace, a mount that would reveal masked files), ...
pub fn fsmount(context: BorrowedFd<'_>, attributes: Attr) -> Result<OwnedFd, Error> {
    // SAFETY: an open descriptor and two integers. Attributes of a mount fit in 32 bits here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            attributes.0 as libc::c_uint,
        )
    };
    fd("fsmount", result)
}

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of the mount at `path`, relative to `dir`,
/// if `recursive` with the mounts below it. An empty path means `dir` itself.
///
/// The mount must belong to the caller's own mount namespace.
///
/// # Errors
/// ENOENT and others of path lookup, EINVAL (not in this namespace, unbindable, or a copy without
/// its locked mounts), EPERM, ...
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, Error> {
    let flags = clone_flags(recursive);
    // SAFETY: an open descriptor (or AT_FDCWD) and a NUL-terminated string.
    let result =
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    fd("open_tree", result)
}

fn clone_flags(recursive: bool) -> libc::c_uint {
    let recursive = if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint
        | recursive
}

/// A copy as of [`clone_tree`] that is changed at once: open_tree_attr(2), Linux 6.15. If that
/// fails, by two calls, whose errors are more specific.
///
/// # Errors
/// Those of [`clone_tree`] and [`mount_setattr`].
pub fn clone_changed_tree(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    change: &Change,
) -> Result<OwnedFd, Error> {
    open_tree_attr(dir, path, recursive, change).or_else(|_| {
        let tree = clone_tree(dir, path, recursive)?;
        mount_setattr(tree.as_fd(), c"", recursive, change)?;
        Ok(tree)
    })
}

/// Not in [`libc`] yet; the same number on all architectures except alpha and mips.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

fn open_tree_attr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    change: &Change,
) -> Result<OwnedFd, Error> {
    let attr = change.attr();
    // SAFETY: an open descriptor (or AT_FDCWD), a NUL-terminated string, and a struct whose size
    // is given.
    let result = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            dir.as_raw_fd(),
            path.as_ptr(),
            clone_flags(recursive),
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    fd("open_tree_attr", result)
}

/// move_mount(2): attaches the mount `mount` onto the file or directory `target`, from descriptor
/// to descriptor.
///
/// # Errors
/// EINVAL (a directory onto a file or the reverse, a target outside this namespace), EPERM, ...
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Error> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: open descriptors and empty, NUL-terminated strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    check("move_mount", result).map(drop)
}

/// move_mount(2) onto a path of the host. Links are followed, except a link as the last component.
///
/// # Errors
/// Those of [`move_mount`] and of path lookup.
pub fn move_mount_onto(mount: BorrowedFd<'_>, path: &CStr) -> Result<(), Error> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: an open descriptor and NUL-terminated strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
        )
    };
    check("move_mount", result).map(drop)
}

/// mount_setattr(2) on `path`, relative to `dir`; an empty path means `dir` itself.
///
/// # Errors
/// EPERM (an attribute that a less privileged mount namespace may not change), EINVAL (not a
/// mount, or not of this namespace), ...
pub fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    change: &Change,
) -> Result<(), Error> {
    setattr("mount_setattr", dir, path, recursive, &change.attr())
}

fn setattr(
    call: &'static str,
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attr: &libc::mount_attr,
) -> Result<(), Error> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an open descriptor (or AT_FDCWD), a NUL-terminated string, and a struct whose size
    // is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const *attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(call, result).map(drop)
}

/// mount_setattr(2), `MOUNT_ATTR_IDMAP`: maps the ids of files in a detached tree by the maps of
/// a user namespace.
///
/// # Errors
/// EINVAL (not supported by the file system, or an attached tree), EPERM, ...
pub fn map_ids(
    tree: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> Result<(), Error> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    setattr("mount_setattr MOUNT_ATTR_IDMAP", tree, c"", recursive, &attr)
}

/// mount_setattr(2) on the mount at the caller's `/`.
///
/// # Errors
/// See [`mount_setattr`].
pub fn change_root(recursive: bool, change: &Change) -> Result<(), Error> {
    mount_setattr(AT_FDCWD, c"/", recursive, change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn errors_carry_the_name_of_the_call() {
        let file = File::open("/").unwrap();
        let call = |result: Result<(), Error>| result.unwrap_err().call;
        let fd = file.as_fd();
        assert_eq!(call(fsopen(c"no-such-file-system").map(drop)), "fsopen");
        assert_eq!(call(fsconfig_flag(fd, c"ro")), "fsconfig");
        assert_eq!(call(fsmount(fd, Attr::NONE).map(drop)), "fsmount");
        assert_eq!(call(clone_tree(fd, c"no/such/path", false).map(drop)), "open_tree");
        assert_eq!(call(move_mount_onto(fd, c"no/such/path")), "move_mount");
        let change = Change { set: Attr::RDONLY, ..Change::default() };
        assert_eq!(call(clone_changed_tree(fd, c"no/such", true, &change).map(drop)), "open_tree");
        assert_eq!(call(mount_setattr(fd, c"no/such", true, &change)), "mount_setattr");
    }
}
