//! The state root: the directory that holds the directories of all containers of one user.

use std::cell::OnceCell;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use davit_sys::OsContext;
use davit_sys::trace::operation;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir::{ContainerDir, NOTIFY_DIRECTORY, RECORD, open_at};
use super::ownership::{self, Untrusted};
use super::start_fifo;
use crate::error::{Error, ErrorKind, Result, Within};
use crate::host::in_user_namespace;
use crate::id::Id;

/// The name of the state root in messages.
const ROOT: &str = "state root";

/// The engine of an unprivileged user calls davit as root of a user namespace, and has its own
/// directory.
fn usual_root(is_root: bool, owns_the_machine: bool, own: Option<PathBuf>) -> Result<PathBuf> {
    match own {
        Some(directory) if !owns_the_machine => Ok(directory.join("davit")),
        None if !is_root => Err(Error::new("no directory for the state of containers")
            .hint("set XDG_RUNTIME_DIR or give --root")),
        _ => Ok(PathBuf::from("/run/davit")),
    }
}

/// The directory that holds all containers of one user.
#[derive(Debug)]
pub struct StateRoot {
    path: PathBuf,
    /// The open directory, after it was checked.
    directory: OnceCell<OwnedFd>,
}

impl StateRoot {
    /// The state root at `path`, or the default: `/run/davit`, or `$XDG_RUNTIME_DIR/davit` for an
    /// unprivileged user, including root of a user namespace.
    ///
    /// # Errors
    /// A relative path; an unprivileged user without `XDG_RUNTIME_DIR`.
    pub fn new(path: Option<PathBuf>) -> Result<Self> {
        let path = match path {
            Some(path) => std::path::absolute(&path)
                .syscall("getcwd")
                .within(|| format!("--root {}", path.display()))?,
            None => {
                let is_root = ownership::our_uid() == 0;
                let owns_the_machine = is_root && !in_user_namespace()?;
                let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
                usual_root(is_root, owns_the_machine, own.map(PathBuf::from))?
            }
        };
        if path == Path::new("/") {
            return Err(Error::new("--root /: refused: every file there would be a container"));
        }
        // A slash at the end would make the kernel follow a symbolic link.
        Ok(Self { path: path.components().collect(), directory: OnceCell::new() })
    }

    /// Its slot.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a container's notify socket.
    pub(crate) fn notify_directory(&self, id: &Id) -> PathBuf {
        self.path.join(id.as_str()).join(NOTIFY_DIRECTORY)
    }

    /// The directory, after the check of its owner and mode; `None` where there is none.
    pub(super) fn open(&self) -> Result<Option<&OwnedFd>> {
        if let Some(directory) = self.directory.get() {
            return Ok(Some(directory));
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match openat(AT_FDCWD, &self.path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.syscall("open").within(|| self.name())?,
        };
        let stat = fstat(&opened).syscall("fstat").within(|| self.name())?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => ownership::check(&stat, ROOT, &self.path)?,
            libc::S_IFLNK => {
                return Err(Error::new("is a symbolic link")
                    .within(self.name())
                    .hint("give the directory itself as --root"));
            }
            _ => return Err(Error::new("is not a directory").within(self.name())),
        }
        Ok(Some(self.directory.get_or_init(|| opened)))
    }

    /// The directory, made if it is missing: for its owner only, like missing directories above it.
    fn make(&self) -> Result<&OwnedFd> {
        if self.open()?.is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
            made.syscall("mkdir").within(|| self.name())?;
        }
        self.open()?.ok_or_else(|| Error::new("was removed").within(self.name()))
    }

    fn name(&self) -> String {
        format!("{ROOT} {}", self.path.display())
    }

    /// Makes the directory of a new container and locks it.
    ///
    /// # Errors
    /// A container of that id exists; the directory cannot be made.
    pub fn create(&self, id: &Id) -> Result<ContainerDir> {
        let root = self.make()?;
        let made = mkdirat(root, id.as_str(), Mode::S_IRWXU);
        match made {
            Err(Errno::EEXIST) => {
                Err(Error::new("a container with this id exists already")
                    .of_kind(ErrorKind::Exists))
            }
            made => made.syscall("mkdir").within(|| self.name()),
        }?;
        ContainerDir::open(root, id).map_err(|error| {
            // Empty, and not yet known to any other command.
            let _ = unlinkat(root, id.as_str(), UnlinkatFlags::RemoveDir);
            Error::from(error).within(self.name())
        })
    }

    /// The directory of an existing container; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened, or belongs to another user.
    pub fn find(&self, id: &Id) -> Result<Option<ContainerDir>> {
        let Some(root) = self.open()? else { return Ok(None) };
        let path = self.path.join(id.as_str());
        match ContainerDir::open(root, id) {
            Err(davit_sys::Error { errno: Errno::ENOENT, .. }) => Ok(None),
            opened => {
                let dir = opened.within(|| path.display().to_string())?;
                let stat = fstat(&*dir.directory).syscall("fstat");
                let stat = stat.within(|| path.display().to_string())?;
                ownership::check(&stat, "state directory", &path)?;
                Ok(Some(dir))
            }
        }
    }

    /// The directory of an existing container.
    ///
    /// # Errors
    /// It does not exist: "container does not exist", a text that engines match.
    pub fn get(&self, id: &Id) -> Result<ContainerDir> {
        self.find(id)?.ok_or_else(Error::not_found)
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read, or belongs to another user.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let Some(root) = self.open()? else { return Ok(Vec::new()) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(root, ".", flags, Mode::empty())
            .syscall("opendir")
            .within(|| self.name())?;
        let names = listing.iter().filter_map(|dir| {
            let dir = dir.ok()?;
            // On a file system that does not report the type, it may be a directory.
            let may_be = matches!(dir.file_type(), Some(Type::Directory) | None);
            may_be.then(|| dir.file_name().to_str().map(str::to_owned).ok())?
        });
        let mut ids: Vec<Id> = names.filter_map(|name| Id::try_from(name).ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Removes the directory of a container and everything in it; `waited`: its init may have
    /// waited for `start`.
    ///
    /// # Errors
    /// Those of unlink(2) and rmdir(2), such as EROFS; EBUSY if something is mounted in it.
    pub fn remove(&self, dir: &ContainerDir, waited: bool) -> Result<()> {
        let remove = || self.remove_directory(dir, waited);
        operation("record", &"remove the state directory", remove)
    }

    fn remove_directory(&self, dir: &ContainerDir, waited: bool) -> Result<()> {
        let name = dir.id().as_str();
        let path = || self.path.join(name).display().to_string();
        let Some(parent) = self.open()? else { return Ok(()) };
        let remove = || match remove_directory(parent, name) {
            Err(davit_sys::Error { errno: Errno::ENOTEMPTY, .. }) => {
                dir.empty()?;
                remove_directory(parent, name)
            }
            removed => removed,
        };
        dir.unlink_common_files(waited).and_then(|()| remove()).within(path)
    }

    /// Whether a container whose record says "created" has been started since.
    pub(crate) fn is_started(&self, id: &Id) -> bool {
        let root = self.open().ok().flatten();
        root.is_some_and(|root| start_fifo::is_removed(root, id.as_str()))
    }

    /// Reads the record of a container into `buffer`, the short way; `None` where it does not fit
    /// or cannot be trusted: [`StateRoot::find`] then tells why.
    pub(crate) fn read_record<'a>(&self, id: &Id, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let root = self.open().ok()??;
        let file = open_at(root, &format!("{id}/{RECORD}")).ok()?;
        if Untrusted::of(&fstat(&file).ok()?).is_some() {
            return None;
        }
        let length = nix::unistd::read(file, buffer).ok()?;
        buffer.get(..length)
    }
}

fn remove_directory(parent: &OwnedFd, name: &str) -> std::result::Result<(), davit_sys::Error> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.syscall("rmdir"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_root_is_the_users_own_where_the_machine_is_not() {
        let own = || Some(PathBuf::from("/own"));
        let usual = |is_root, owns, own| usual_root(is_root, owns, own).ok();
        assert_eq!(usual(true, true, own()), Some("/run/davit".into()));
        assert_eq!(usual(true, true, None), Some("/run/davit".into()));
        assert_eq!(usual(true, false, own()), Some("/own/davit".into()));
        assert_eq!(usual(true, false, None), Some("/run/davit".into()));
        assert_eq!(usual(false, false, own()), Some("/own/davit".into()));
        assert_eq!(usual(false, false, None), None);
    }
}
