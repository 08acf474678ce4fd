//! Mounts: found or made, attached from descriptor to descriptor, then changed.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::fchdir;
use sys::mount::Attr;
use sys::path::{Links, open_in_root};
use sys::{During, Error};

use super::log::Log;
use super::resolve::{Found, Missing, destination};
use super::{Context, copy, filesystem, overlay};
use crate::op::{Action, AtOnce, Change, Filesystem, Propagation, Setting, Target};

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
                let made = overlay::make(overlay, &self.log)?;
                self.attach_tree(made.as_fd(), target, changes)
            }
            Action::OldMount { fstype, source, flags, data, target, changes } => {
                self.old_mount((fstype, source, data), *flags, target)?;
                self.remount(target, None, changes)
            }
            Action::Remount { target, settings, changes } => {
                self.remount(target, settings.as_deref(), changes)
            }
            Action::Unmount(target) => self.unmount(target),
            _ => Ok(()),
        }
    }

    /// umount2(2) takes a name alone: here it is one in the working directory, and no link.
    fn unmount(&mut self, target: &Target) -> Result<(), Error> {
        let path = Path::new(OsStr::from_bytes(target.path.as_bytes()));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new("umount2", Errno::EBUSY));
        };
        let parent = CString::new(parent.as_os_str().as_bytes())
            .map_err(|_| Error::new("umount2", Errno::EINVAL))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let parent = open_in_root(self.root()?, &parent, flags, Links::Refuse)?;
        fchdir(&parent).during("fchdir")?;
        self.astray = true;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(name, flags).during("umount2")
    }

    fn attach_tree(
        &self,
        tree: BorrowedFd<'_>,
        target: &Target,
        changes: &[Change],
    ) -> Result<(), Error> {
        let missing = || Ok(if is_directory(tree)? { Missing::Directory } else { Missing::File });
        let found = destination(self.root()?, target, missing)?;
        put(tree, found.fd.as_fd())?;
        self.pile.add(found.fd);
        change(tree, changes, &self.log)
    }

    fn mount(
        &mut self,
        wanted: &Filesystem,
        target: &Target,
        changes: &[Change],
    ) -> Result<(), Error> {
        let Found { fd, made } = destination(self.root()?, target, || Ok(Missing::Directory))?;
        let done = wanted.at_once.as_ref().is_some_and(|at_once| {
            self.mount_on(fd.as_fd(), wanted.source.as_deref(), &wanted.fstype, at_once).is_ok()
        });
        // What has failed is done again in the way in which the kernel says what is wrong.
        if !done {
            self.mount_by_parts(wanted, fd.as_fd(), made, changes)?;
        }
        self.pile.add(fd);
        Ok(())
    }

    fn mount_by_parts(
        &self,
        wanted: &Filesystem,
        fd: BorrowedFd<'_>,
        made: bool,
        changes: &[Change],
    ) -> Result<(), Error> {
        let covered = (wanted.inherit_mode && !made).then_some(fd);
        let mount = filesystem::make(wanted, covered, &self.log, &self.pile)?;
        if wanted.copy_up && !made {
            copy::tree(fd, mount.as_fd())?;
        }
        put(mount.as_fd(), fd)?;
        change(mount.as_fd(), changes, &self.log)?;
        self.pile.add(mount);
        Ok(())
    }

    /// mount(2) takes its target by name alone: the name here is `.`.
    fn mount_on(
        &mut self,
        target: BorrowedFd<'_>,
        source: Option<&CStr>,
        fstype: &CStr,
        AtOnce { flags, data }: &AtOnce,
    ) -> Result<(), Error> {
        fchdir(target).during("fchdir")?;
        self.astray = true;
        let flags = MsFlags::from_bits_retain(*flags);
        mount(source, c".", Some(fstype), flags, Some(data.as_c_str())).during("mount")
    }

    fn old_mount(
        &mut self,
        (fstype, source, data): (&CStr, &CStr, &CStr),
        flags: u64,
        target: &Target,
    ) -> Result<(), Error> {
        let found = destination(self.root()?, target, || Ok(Missing::Directory))?;
        let at_once = AtOnce { flags, data: data.to_owned() };
        self.mount_on(found.fd.as_fd(), Some(source), fstype, &at_once)
    }

    fn remount(
        &self,
        target: &Target,
        settings: Option<&[Setting]>,
        changes: &[Change],
    ) -> Result<(), Error> {
        if settings.is_none() && changes.is_empty() {
            return Ok(());
        }
        let gone = || Err(Error::new("openat2", Errno::ENOENT));
        let found = destination(self.root()?, target, gone)?;
        if let Some(settings) = settings {
            filesystem::reconfigure(found.fd.as_fd(), settings, &self.log)?;
        }
        change(found.fd.as_fd(), changes, &self.log)
    }
}

/// Attaches a mount. The kernel says EINVAL for a directory on a file; ENOTDIR is what mount(2)
/// says, and what people and engines understand.
pub(super) fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Error> {
    let result = sys::mount::move_mount(mount, target);
    if result.is_err_and(|error| error.errno == Errno::EINVAL)
        && is_directory(mount)? != is_directory(target)?
    {
        return Err(Error::new("move_mount", Errno::ENOTDIR));
    }
    result
}

pub(super) fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Error> {
    let mode = fstat(fd).during("fstat")?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

fn require_procfs(tree: BorrowedFd<'_>) -> Result<(), Error> {
    if fstatfs(tree).during("fstatfs")?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Error::new("the source is no procfs: open_tree", Errno::EINVAL));
    }
    Ok(())
}

/// Changes attributes and propagation of a mount.
pub(super) fn change(mount: BorrowedFd<'_>, changes: &[Change], log: &Log) -> Result<(), Error> {
    changes.iter().try_for_each(|change| {
        let wanted = kernel_change(change);
        let set = |wanted| sys::mount::mount_setattr(mount, c"", change.recursive, wanted);
        match set(&wanted) {
            Err(error) if error.errno == Errno::EPERM => {
                let kept = keep_locked(mount, &wanted)?;
                if kept == wanted { Err(error) } else { set(&kept) }
            }
            result => result,
        }
        .inspect_err(|_| log.locked(&protections_taken(mount, wanted.clear)))
    })
}

/// The protections that a mount has and that are to be taken from it.
fn protections_taken(mount: BorrowedFd<'_>, clear: Attr) -> Vec<&'static str> {
    let held = fstatvfs(mount).map_or(FsFlags::empty(), |vfs| vfs.flags());
    let taken = |(flag, attr, _): &&(FsFlags, Attr, _)| {
        held.contains(*flag) && clear.bits() & attr.bits() != 0
    };
    PROTECTIONS.iter().filter(taken).map(|(.., name)| *name).collect()
}

/// What a mount protects the host from, and an engine does not ask to be without by habit.
const PROTECTIONS: [(FsFlags, Attr, &str); 3] = [
    (FsFlags::ST_NOSUID, Attr::NOSUID, "nosuid"),
    (FsFlags::ST_NODEV, Attr::NODEV, "nodev"),
    (FsFlags::ST_NOEXEC, Attr::NOEXEC, "noexec"),
];

fn kernel_change(change: &Change) -> sys::mount::Change {
    sys::mount::Change {
        set: Attr::from_bits(change.set),
        clear: Attr::from_bits(change.clear),
        propagation: change.propagation.map(kernel_propagation),
    }
}

pub(super) fn kernel_propagation(propagation: Propagation) -> sys::mount::Propagation {
    match propagation {
        Propagation::Shared => sys::mount::Propagation::Shared,
        Propagation::Slave => sys::mount::Propagation::Slave,
        Propagation::Private => sys::mount::Propagation::Private,
        Propagation::Unbindable => sys::mount::Propagation::Unbindable,
    }
}

/// The change without what engines ask for by habit and a mount namespace of less privilege may
/// not do: make writable what came read-only, or touch access times (mount_namespaces(7),
/// "Restrictions").
fn keep_locked(
    mount: BorrowedFd<'_>,
    wanted: &sys::mount::Change,
) -> Result<sys::mount::Change, Error> {
    let flags = fstatvfs(mount).during("fstatvfs")?.flags();
    let pairs = [(FsFlags::ST_RDONLY, Attr::RDONLY), (FsFlags::ST_NODIRATIME, Attr::NODIRATIME)];
    let held = pairs.iter().filter(|(flag, _)| flags.contains(*flag));
    let held = held.fold(Attr::ATIME, |all, (_, attr)| all | *attr);
    let set = Attr::from_bits(wanted.set.bits() & !Attr::ATIME.bits());
    let clear = Attr::from_bits(wanted.clear.bits() & !held.bits());
    Ok(sys::mount::Change { set, clear, ..*wanted })
}
