//! Files that davit writes outside its own directories, which other users may be able to change:
//! `--pid-file`, `--log`, the config.json of `spec`.
//!
//! [`replace`] writes a whole file, [`create`] one that must not exist yet, [`open_log`] opens one
//! to append to. The first two never write through a symbolic link, and none waits for the reader
//! of a FIFO.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Readable by all users, writable by its owner: a pid is not secret.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR).union(Mode::S_IRGRP).union(Mode::S_IROTH);

/// The same, less what the caller's umask takes away.
fn masked_mode() -> Mode {
    let umask = davit_sys::entry::caller_umask().map_or(Mode::empty(), Mode::from_bits_truncate);
    MODE.difference(umask)
}

/// A new file, never an existing one.
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Replaces `path` by a file of mode 0644 with this content: a file, a symbolic link (which is not
/// followed, as by runc), or nothing. The file is complete when it appears.
///
/// # Errors
/// Those of openat(2), write(2) and renameat(2); EEXIST if the path is a directory or a device.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let name = Path::new(path.file_name().ok_or(Error::new("open", Errno::EISDIR))?);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(AT_FDCWD, directory, flags, Mode::empty()).syscall("open")?;
    refuse_other_kinds(&directory, name)?;
    // A name that no other user can have occupied.
    let fresh = format!(".davit-{:016x}", davit_sys::random::number()?);
    let file = File::from(
        openat(&directory, fresh.as_str(), NEW, Mode::S_IRUSR | Mode::S_IWUSR).syscall("open")?,
    );
    let finish = || -> Result<(), Error> {
        (&file).write_all(content).syscall("write")?;
        // After the content, and not subject to the umask.
        fchmod(&file, MODE).syscall("fchmod")?;
        renameat(&directory, fresh.as_str(), &directory, name).syscall("rename")
    };
    finish().inspect_err(|_| {
        let _ = unlinkat(&directory, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
    })
}

/// rename(2) would replace /dev/null by a file.
fn refuse_other_kinds(directory: &OwnedFd, name: &Path) -> Result<(), Error> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFLNK => Ok(()),
            libc::S_IFDIR => Err(Error::new("open", Errno::EISDIR)),
            _ => Err(Error::new("open", Errno::EEXIST)),
        },
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::new("fstatat", errno)),
    }
}

/// Makes a file of mode 0644, less the caller's umask. An existing file stays, and so does a
/// dangling link.
///
/// # Errors
/// EEXIST; those of openat(2) and write(2): nothing is left then.
pub fn create(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = File::from(openat(AT_FDCWD, path, NEW, masked_mode()).syscall("open")?);
    file.write_all(content).syscall("write").inspect_err(|_| {
        let _ = unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir);
    })
}

/// Opens a file to append to, and makes it where there is none. The path is the caller's, and a
/// symbolic link in it is followed, as runc and crun do (`/dev/stderr` is one). Neither the open
/// nor a later write waits for a reader.
///
/// # Errors
/// Those of open(2): ENXIO for a FIFO without a reader.
pub fn open_log(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, masked_mode()).syscall("open")
}
