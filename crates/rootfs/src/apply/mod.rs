//! The operations, done: system calls, and no choices but "it is not there", "not known yet" and "failed:
//! once more, by the way on which the kernel says why".

mod attach;
mod console;
mod copy;
mod devices;
mod enter;
mod filesystem;
mod id_maps;
mod log;
mod overlay;
mod resolve;
mod root;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::chdir;
use sys::{During, Error, Failure, Pile, Slots};

use self::log::Log;
pub(crate) use self::root::directory;
use crate::op::{Action, Op, Phase, Source};

/// What operations leave for later ones.
#[derive(Debug, Default)]
pub struct Context {
    /// Descriptors that cross between operations, and between processes.
    pub slots: Slots,
    root: Option<OwnedFd>,
    /// The directory that was last used for a node or a link, until a mount may have covered it.
    directory: Option<(CString, OwnedFd)>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    log: Log,
    pile: Pile,
    /// Whether the working directory is one of the container's.
    astray: bool,
}

impl Context {
    /// A context with these descriptors in its slots.
    #[must_use]
    pub fn new(slots: Slots) -> Self {
        Self { slots, ..Self::default() }
    }

    /// The container's root.
    ///
    /// # Errors
    /// EBADF while there is none.
    pub fn root(&self) -> Result<BorrowedFd<'_>, Error> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Error::new("container's root", Errno::EBADF))
    }

    /// What a file system said about the failure that ended [`apply`]; often nothing.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    fn tree(&mut self, source: &Source, recursive: bool) -> Result<OwnedFd, Error> {
        match source {
            Source::Path(path) => clone_path(path, recursive),
            // mountinfo lists mounts by their ids, in the order they were made (Linux 6.8). A
            // second copy makes that the order of the configuration, where the kernel copies what
            // is not attached (Linux 6.15).
            Source::Slot(slot) => {
                let tree = self.slots.take(*slot)?;
                Ok(sys::mount::clone_tree(tree.as_fd(), c"", recursive).unwrap_or(tree))
            }
        }
    }
}

/// A detached copy of the mount at a path of the host.
fn clone_path(path: &CStr, recursive: bool) -> Result<OwnedFd, Error> {
    sys::mount::clone_tree(nix::fcntl::AT_FDCWD, path, recursive)
}

/// Does the operations in their order. Between two calls the context keeps what the next needs.
///
/// # Errors
/// The index in `ops` of the first that failed, and the system call.
pub fn apply(ops: &[Op], context: &mut Context) -> Result<(), Failure> {
    // Every mode below is written out; a mask would only take bits away from device nodes.
    let makes_files = ops.iter().any(|op| op.phase() == Phase::Build);
    let mask = makes_files.then(|| umask(Mode::empty()));
    let result = ops.iter().enumerate().try_for_each(|(index, op)| {
        context.do_one(&op.action).map_err(|error| Failure::new(index, error))
    });
    if let Some(mask) = mask {
        umask(mask);
    }
    result?;
    context.tidy().map_err(|error| Failure::new(ops.len().saturating_sub(1), error))
}

impl Context {
    /// Leaves nothing of the container's to whatever comes next: no directory and no descriptor.
    fn tidy(&mut self) -> Result<(), Error> {
        self.pile.close();
        if std::mem::take(&mut self.astray) { chdir(c"/").during("chdir") } else { Ok(()) }
    }

    fn do_one(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::MapIds { tree, recursive, uids, gids } => {
                id_maps::map(self.slots.get(*tree)?, *recursive, uids, gids)
            }
            Action::CloneSource { path, recursive, slot } => {
                let tree = clone_path(path, *recursive)?;
                self.slots.put(*slot, tree);
                Ok(())
            }
            Action::Contain(propagation) => root::contain(*propagation),
            Action::Root { source, recursive, at, changes } => {
                let tree = self.tree(source, *recursive)?;
                attach::change(tree.as_fd(), changes, &self.log)?;
                root::place(tree.as_fd(), at)?;
                self.root = Some(tree);
                Ok(())
            }
            Action::RootOverlay { layers, ephemeral, userxattr, at } => {
                self.root = Some(root::overlay(layers, *ephemeral, *userxattr, at, &self.log)?);
                Ok(())
            }
            Action::RootDirectory(path) => {
                self.root = Some(root::directory(path)?);
                Ok(())
            }
            Action::Bind { .. }
            | Action::Mount { .. }
            | Action::Overlay { .. }
            | Action::OldMount { .. }
            | Action::Remount { .. }
            | Action::Unmount(_) => {
                self.directory = None;
                self.attach(action)
            }
            Action::Symlink { .. } | Action::Node { .. } | Action::BindNode { .. } => {
                self.make(action)
            }
            Action::Console { size, master, terminal } => self.console(*size, *master, *terminal),
            Action::Terminal { size, master, terminal } => self.terminal(*size, *master, *terminal),
            Action::Hide(_)
            | Action::Pivot
            | Action::Chroot { .. }
            | Action::ReadOnlyMount(_)
            | Action::Mask(_)
            | Action::ReadOnlyPath(_)
            | Action::ReadOnlyRoot
            | Action::Propagate { .. } => self.enter(action),
        }
    }
}
