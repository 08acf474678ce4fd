//! Files of a cgroup directory, opened relative to the directory's descriptor.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use davit_sys::OsContext;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};

const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens the directory at `path`.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, davit_sys::Error> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty()).syscall("open")
}

/// Opens the directory `name` in `parent`.
pub(crate) fn subdirectory(
    parent: BorrowedFd<'_>,
    name: &Path,
) -> Result<OwnedFd, davit_sys::Error> {
    openat(parent, name, DIRECTORY, Mode::empty()).syscall("openat")
}

/// Opens a file of the directory.
pub(crate) fn open(
    directory: BorrowedFd<'_>,
    name: &str,
    access: OFlag,
) -> Result<OwnedFd, davit_sys::Error> {
    openat(directory, name, access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .syscall("openat")
}

/// Writes `value` with one write(2), as the kernel requires.
pub(crate) fn write(
    directory: BorrowedFd<'_>,
    name: &str,
    value: &str,
) -> Result<(), davit_sys::Error> {
    let file = open(directory, name, OFlag::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).syscall("write").map(drop)
}

/// The content of the file at an absolute path.
pub(crate) fn read_path(path: &Path) -> Result<String, davit_sys::Error> {
    let file = openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    content(&file.syscall("open")?)
}

/// The content of a file of the directory.
pub(crate) fn read(directory: BorrowedFd<'_>, name: &str) -> Result<String, davit_sys::Error> {
    let file = open(directory, name, OFlag::O_RDONLY)?;
    content(&file)
}

/// A read(2) that leaves this much of the buffer has reached the end of the file: seq_file returns
/// a page of whole lines, and no line is longer, except one that is returned in parts.
const LINE: usize = 64;

/// The content of an open file, from its beginning.
pub(crate) fn content(file: &OwnedFd) -> Result<String, davit_sys::Error> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // Files of the kernel are short: the length fits in an offset.
        let offset = libc::off_t::try_from(bytes.len()).unwrap_or(libc::off_t::MAX);
        let count = nix::sys::uio::pread(file, &mut buffer, offset).syscall("pread")?;
        match buffer.get(..count) {
            Some(read) if count > 0 => bytes.extend_from_slice(read),
            _ => break,
        }
        if count + LINE < buffer.len() {
            break;
        }
    }
    String::from_utf8(bytes).map_err(|_| davit_sys::Error::new("pread", Errno::EILSEQ))
}

/// The number behind `key` in a file of `key number` lines.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// Whether processes are in the directory or (cgroup v2) below it.
pub(crate) fn has_processes(directory: BorrowedFd<'_>) -> Result<bool, davit_sys::Error> {
    match read(directory, "cgroup.events") {
        Ok(events) => Ok(value_of(&events, "populated") == Some(1)),
        Err(error) if error.errno == Errno::ENOENT => {
            Ok(!read(directory, "cgroup.procs")?.trim().is_empty())
        }
        Err(error) => Err(error),
    }
}

/// Visits a directory and all below it, parents first. One descriptor is open at a time, however
/// deep and wide the tree is. Directories that are removed in the meantime are skipped.
pub(crate) fn walk(
    top: OwnedFd,
    mut visit: impl FnMut(BorrowedFd<'_>) -> Result<(), davit_sys::Error>,
) -> Result<(), davit_sys::Error> {
    visit(top.as_fd())?;
    let mut here = top;
    let mut names = children(here.as_fd())?;
    let mut above = Vec::new();
    loop {
        while let Some(name) = names.pop() {
            match subdirectory(here.as_fd(), Path::new(&name)) {
                Err(error) if is_gone(error.errno) => {}
                opened => {
                    here = opened?;
                    visit(here.as_fd())?;
                    above.push(std::mem::replace(&mut names, children(here.as_fd())?));
                }
            }
        }
        let Some(rest) = above.pop() else { return Ok(()) };
        here = match subdirectory(here.as_fd(), Path::new("..")) {
            // The directory is removed, with all that was left to visit.
            Err(error) if is_gone(error.errno) => return Ok(()),
            opened => opened?,
        };
        names = rest;
    }
}

/// The names of the directories in a directory; none if it is removed in the meantime.
pub(crate) fn children(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, davit_sys::Error> {
    // Each child's `..` is a link to its parent, so two links mean no children. (File systems that
    // do not count links return 1.)
    if fstat(directory).syscall("fstat")?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut opened =
        match Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(errno) if is_gone(errno) => return Ok(Vec::new()),
            result => result.syscall("openat")?,
        };
    let mut names = Vec::new();
    for entry in opened.iter() {
        let entry = match entry {
            Err(errno) if is_gone(errno) => break,
            entry => entry.syscall("getdents64")?,
        };
        let name = entry.file_name().to_bytes();
        if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

/// Whether the cgroup or process no longer exists: no such name, a file of a removed directory, no
/// such process.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::ESRCH)
}
