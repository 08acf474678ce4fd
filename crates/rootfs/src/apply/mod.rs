//! Performing the operations: system calls, with no choices except "does not exist", "not supported
//! by this kernel", and "failed: repeat with the calls that report why".

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

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, Failure, Slots};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};

use self::log::Log;
pub use self::resolve::make_mountpoint;
use self::resolve::{Destination, FileKind, LastDirectory};
pub(crate) use self::root::directory;
use crate::op::{Action, Op, Phase, Source, Target};

/// The state that operations leave for later ones.
#[derive(Debug, Default)]
pub struct Context {
    /// Descriptors that are passed between operations, and between processes.
    pub slots: Slots,
    root: Option<OwnedFd>,
    last_directory: LastDirectory,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    log: Log,
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
    /// EBADF before there is one.
    pub fn root(&self) -> Result<BorrowedFd<'_>, Error> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(NO_ROOT)
    }

    /// The messages of the file system about the failure of [`apply`]; often empty.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Opens or creates the destination of a mount.
    fn destination(
        &mut self,
        target: &Target,
        missing: impl FnOnce() -> Result<FileKind, Error>,
    ) -> Result<Destination, Error> {
        let root = self.root.as_ref().ok_or(NO_ROOT)?;
        resolve::destination(root.as_fd(), target, &mut self.last_directory, missing)
    }

    fn tree(&mut self, source: &Source, recursive: bool) -> Result<OwnedFd, Error> {
        match source {
            Source::Inside(path) => {
                let source = open_in_root(self.root()?, path, OFlag::O_PATH, Links::Follow)?;
                davit_sys::mount::clone_tree(source.as_fd(), c"", recursive)
            }
            Source::Path(path) => clone_path(path, recursive),
            // mountinfo lists mounts by id, in the order of their creation (Linux 6.8). A second
            // copy makes that the order of config.json, if the kernel can copy detached mounts
            // (Linux 6.15).
            Source::Slot(slot) => {
                let tree = self.slots.take(*slot)?;
                Ok(davit_sys::mount::clone_tree(tree.as_fd(), c"", recursive).unwrap_or(tree))
            }
        }
    }
}

/// A detached copy of the mount at a path of the host.
fn clone_path(path: &CStr, recursive: bool) -> Result<OwnedFd, Error> {
    davit_sys::mount::clone_tree(nix::fcntl::AT_FDCWD, path, recursive)
}

/// Performs the operations in order. The context keeps state from one call to the next. The working
/// directory may be any in the container afterwards.
///
/// # Errors
/// The index in `ops` of the operation that failed, and the system call.
pub fn apply(ops: &[Op], context: &mut Context) -> Result<(), Failure> {
    // All modes are explicit; a umask would only remove bits of device nodes.
    let makes_files = ops
        .iter()
        .any(|op| op.phase() == Phase::Build || matches!(op.action, Action::MakeNodes { .. }));
    let mask = makes_files.then(|| umask(Mode::empty()));
    let result = ops.iter().enumerate().try_for_each(|(index, op)| {
        davit_sys::trace::operation("rootfs", op, || context.perform(&op.action))
            .map_err(|error| Failure::new(index, error))
    });
    if let Some(mask) = mask {
        umask(mask);
    }
    result
}

/// An operation before the one that makes the container's root, which planning does not produce.
const NO_ROOT: Error = Error::new("container's root", Errno::EBADF);

/// An operation in the wrong phase, which planning does not produce.
const WRONG_PHASE: Error = Error::new("operation in the wrong phase", Errno::ENOSYS);

impl Context {
    fn perform(&mut self, action: &Action) -> Result<(), Error> {
        match action.phase() {
            Phase::Outside => self.open_source(action),
            Phase::Build => self.build(action),
            Phase::Enter => self.enter(action),
        }
    }

    fn open_source(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::MapIds { tree, recursive, maps } => self.map_ids(*tree, *recursive, maps),
            Action::MakeNodes { slot, nodes } => {
                let tmpfs = devices::make_nodes(nodes)?;
                self.slots.put(*slot, tmpfs);
                Ok(())
            }
            Action::CloneSource { path, recursive, slot } => {
                let tree = clone_path(path, *recursive)?;
                self.slots.put(*slot, tree);
                Ok(())
            }
            _ => Err(WRONG_PHASE),
        }
    }

    fn build(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::SetPropagation(propagation) => root::set_propagation(*propagation),
            Action::Root { source, recursive, at, changes } => {
                let tree = self.tree(source, *recursive)?;
                attach::change(tree.as_fd(), changes, &self.log)?;
                root::attach(tree.as_fd(), at)?;
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
            | Action::LegacyMount { .. }
            | Action::Remount { .. }
            | Action::Unmount(_) => self.attach(action),
            Action::Console { size, master, terminal, policy } => {
                self.console(*size, *master, *terminal, *policy)
            }
            Action::Terminal { size, master, terminal } => self.terminal(*size, *master, *terminal),
            _ => self.make_node(action),
        }
    }
}
