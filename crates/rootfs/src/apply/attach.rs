//! Mounts: opened or created, attached from descriptor to descriptor, then changed.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use davit_sys::mount::Attr;
use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::fchdir;

use super::log::Log;
use super::resolve::{Destination, FileKind};
use super::{Context, WRONG_PHASE, copy, filesystem, overlay};
use crate::op::{Action, Change, ClassicMount, Filesystem, FsOption, Target};

impl Context {
    pub(super) fn attach(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Bind { source, recursive, target, procfs, changes } => {
                let tree = self.tree(source, *recursive)?;
                if *procfs {
                    require_procfs(tree.as_fd())?;
                }
                self.attach_tree(tree.as_fd(), target, changes)
            }
            Action::Mount { filesystem, target, changes } => {
                self.mount(filesystem, target, changes)
            }
            Action::Overlay { overlay, target, changes } => {
                let mount = overlay::create(overlay, &self.log)?;
                self.attach_tree(mount.as_fd(), target, changes)
            }
            Action::LegacyMount { fstype, source, flags, data, target, changes } => {
                self.legacy_mount((fstype, source, data), *flags, target)?;
                self.remount(target, None, changes)
            }
            Action::Remount { target, settings, changes } => {
                self.remount(target, settings.as_deref(), changes)
            }
            Action::Unmount(target) => self.unmount(target),
            _ => Err(WRONG_PHASE),
        }
    }

    /// umount2(2) takes a path, so this is a name in the working directory, without following
    /// links.
    fn unmount(&mut self, target: &Target) -> Result<(), Error> {
        self.last_directory.clear();
        let path = Path::new(OsStr::from_bytes(target.path.as_bytes()));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new("umount2", Errno::EBUSY));
        };
        let parent = CString::new(parent.as_os_str().as_bytes())
            .map_err(|_| Error::new("umount2", Errno::EINVAL))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let parent = open_in_root(self.root()?, &parent, flags, Links::Refuse)?;
        fchdir(&parent).syscall("fchdir")?;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(name, flags).syscall("umount2")
    }

    fn attach_tree(
        &mut self,
        tree: BorrowedFd<'_>,
        target: &Target,
        changes: &[Change],
    ) -> Result<(), Error> {
        let missing = || Ok(if is_directory(tree)? { FileKind::Directory } else { FileKind::File });
        let destination = self.destination(target, missing)?;
        put(tree, destination.fd.as_fd())?;
        change(tree, changes, &self.log)
    }

    fn mount(
        &mut self,
        wanted: &Filesystem,
        target: &Target,
        changes: &[Change],
    ) -> Result<(), Error> {
        let Destination { fd, created } = self.destination(target, || Ok(FileKind::Directory))?;
        let done = wanted.mount2.as_ref().is_some_and(|mount2| {
            self.mount_on(fd.as_fd(), wanted.source.as_deref(), &wanted.fstype, mount2).is_ok()
        });
        // After a failure it is repeated with fsopen(2), with which the kernel reports the reason.
        if !done {
            self.mount_with_fsopen(wanted, fd.as_fd(), created, changes)?;
        }
        Ok(())
    }

    fn mount_with_fsopen(
        &self,
        wanted: &Filesystem,
        fd: BorrowedFd<'_>,
        created: bool,
        changes: &[Change],
    ) -> Result<(), Error> {
        let covered = (wanted.inherit_mode && !created).then_some(fd);
        let mount = filesystem::create(wanted, covered, &self.log)?;
        if wanted.copy_up && !created {
            copy::tree(fd, mount.as_fd())?;
        }
        put(mount.as_fd(), fd)?;
        change(mount.as_fd(), changes, &self.log)
    }

    /// mount(2) takes a path, so the target is the working directory.
    fn mount_on(
        &mut self,
        target: BorrowedFd<'_>,
        source: Option<&CStr>,
        fstype: &CStr,
        ClassicMount { flags, data }: &ClassicMount,
    ) -> Result<(), Error> {
        fchdir(target).syscall("fchdir")?;
        let flags = MsFlags::from_bits_retain(*flags);
        mount(source, c".", Some(fstype), flags, Some(data.as_c_str())).syscall("mount")
    }

    fn legacy_mount(
        &mut self,
        (fstype, source, data): (&CStr, &CStr, &CStr),
        flags: u64,
        target: &Target,
    ) -> Result<(), Error> {
        let destination = self.destination(target, || Ok(FileKind::Directory))?;
        let mount2 = ClassicMount { flags, data: data.to_owned() };
        self.mount_on(destination.fd.as_fd(), Some(source), fstype, &mount2)
    }

    fn remount(
        &mut self,
        target: &Target,
        settings: Option<&[FsOption]>,
        changes: &[Change],
    ) -> Result<(), Error> {
        if settings.is_none() && changes.is_empty() {
            return Ok(());
        }
        let missing = || Err(Error::new("openat2", Errno::ENOENT));
        let destination = self.destination(target, missing)?;
        if let Some(settings) = settings {
            filesystem::reconfigure(destination.fd.as_fd(), settings, &self.log)?;
        }
        change(destination.fd.as_fd(), changes, &self.log)
    }
}

/// Attaches a mount. A directory on a file is EINVAL here, and is reported as ENOTDIR, as by
/// mount(2): users and engines know that.
pub(super) fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Error> {
    let result = davit_sys::mount::move_mount(mount, target);
    if result.is_err_and(|error| error.errno == Errno::EINVAL)
        && is_directory(mount)? != is_directory(target)?
    {
        return Err(Error::new("move_mount", Errno::ENOTDIR));
    }
    result
}

pub(super) fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    let mode = fstat(fd).syscall("fstat")?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

fn require_procfs(tree: BorrowedFd<'_>) -> Result<(), Error> {
    if fstatfs(tree).syscall("fstatfs")?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::new("the source is not a procfs: open_tree", Errno::EINVAL));
    }
    Ok(())
}

/// Changes attributes and propagation of a mount.
pub(super) fn change(mount: BorrowedFd<'_>, changes: &[Change], log: &Log) -> Result<(), Error> {
    changes.iter().try_for_each(|change| {
        let wanted = change.attr();
        let set = |wanted| davit_sys::mount::mount_setattr(mount, c"", change.recursive, wanted);
        match set(&wanted) {
            Err(error) if error.errno == Errno::EPERM => {
                let unlocked = without_locked(mount, &wanted)?;
                if unlocked == wanted { Err(error) } else { set(&unlocked) }
            }
            result => result,
        }
        .inspect_err(|_| log.locked(&cleared_protections(mount, wanted.clear)))
    })
}

/// The protections that a mount has and that the change would clear.
fn cleared_protections(mount: BorrowedFd<'_>, clear: Attr) -> Vec<&'static str> {
    let held = fstatvfs(mount).map_or(FsFlags::empty(), |vfs| vfs.flags());
    let taken = |(flag, attr, _): &&(FsFlags, Attr, _)| {
        held.contains(*flag) && clear.bits() & attr.bits() != 0
    };
    PROTECTIONS.iter().filter(taken).map(|(.., name)| *name).collect()
}

/// Flags that protect the host, and that engines do not clear without a reason.
const PROTECTIONS: [(FsFlags, Attr, &str); 3] = [
    (FsFlags::ST_NOSUID, Attr::NOSUID, "nosuid"),
    (FsFlags::ST_NODEV, Attr::NODEV, "nodev"),
    (FsFlags::ST_NOEXEC, Attr::NOEXEC, "noexec"),
];

/// The change without parts that engines always request and that a less privileged mount namespace
/// may not do: clearing read-only, or changing access times (mount_namespaces(7), "Restrictions").
fn without_locked(
    mount: BorrowedFd<'_>,
    wanted: &davit_sys::mount::Change,
) -> Result<davit_sys::mount::Change, Error> {
    let flags = fstatvfs(mount).syscall("fstatvfs")?.flags();
    let pairs = [(FsFlags::ST_RDONLY, Attr::RDONLY), (FsFlags::ST_NODIRATIME, Attr::NODIRATIME)];
    let held = pairs.iter().filter(|(flag, _)| flags.contains(*flag));
    let held = held.fold(Attr::ATIME, |all, (_, attr)| all | *attr);
    let set = Attr::from_bits(wanted.set.bits() & !Attr::ATIME.bits());
    let clear = Attr::from_bits(wanted.clear.bits() & !held.bits());
    Ok(davit_sys::mount::Change { set, clear, ..*wanted })
}
