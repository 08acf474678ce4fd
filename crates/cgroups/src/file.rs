//! Small files of a cgroup directory, always relative to the directory's descriptor.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use sys::During;

const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A handle of the directory at `path`.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, sys::Error> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty()).during("open")
}

/// A handle of the directory `name` in `parent`.
pub(crate) fn subdirectory(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, sys::Error> {
    openat(parent, name, DIRECTORY, Mode::empty()).during("openat")
}

/// A file of the directory, for reading, writing or both.
pub(crate) fn open(
    directory: BorrowedFd<'_>,
    name: &str,
    access: OFlag,
) -> Result<OwnedFd, sys::Error> {
    openat(directory, name, access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .during("openat")
}

/// Writes `value` with one write(2), as the kernel's files want it.
pub(crate) fn write(directory: BorrowedFd<'_>, name: &str, value: &str) -> Result<(), sys::Error> {
    let file = open(directory, name, OFlag::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).during("write").map(drop)
}

/// The whole content of a file by its whole path.
pub(crate) fn read_path(path: &Path) -> Result<String, sys::Error> {
    let file = openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    content(&file.during("open")?)
}

/// The whole content.
pub(crate) fn read(directory: BorrowedFd<'_>, name: &str) -> Result<String, sys::Error> {
    let file = open(directory, name, OFlag::O_RDONLY)?;
    content(&file)
}

/// No line of these files that the kernel does not hand out whole is as long: a read(2) that leaves so much
/// room has met the end of the file (seq_file: a page of whole lines, or what fits of one long text).
const LINE: usize = 64;

/// The whole content of an open file, from its beginning.
pub(crate) fn content(file: &OwnedFd) -> Result<String, sys::Error> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // A kernel file is text of a few lines: its length fits any offset.
        let offset = libc::off_t::try_from(bytes.len()).unwrap_or(libc::off_t::MAX);
        let count = nix::sys::uio::pread(file, &mut buffer, offset).during("pread")?;
        match buffer.get(..count) {
            Some(read) if count > 0 => bytes.extend_from_slice(read),
            _ => break,
        }
        if count + LINE < buffer.len() {
            break;
        }
    }
    String::from_utf8(bytes).map_err(|_| sys::Error::new("pread", Errno::EILSEQ))
}

/// The number behind `key` in a file of `key number` lines.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// Whether processes are in the directory or (cgroup v2) below it.
pub(crate) fn has_processes(directory: BorrowedFd<'_>) -> Result<bool, sys::Error> {
    match read(directory, "cgroup.events") {
        Ok(events) => Ok(value_of(&events, "populated") == Some(1)),
        Err(error) if error.errno == Errno::ENOENT => {
            Ok(!read(directory, "cgroup.procs")?.trim().is_empty())
        }
        Err(error) => Err(error),
    }
}

/// The names of the directories in a directory. Removed in the meantime, it has none.
pub(crate) fn children(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, sys::Error> {
    // Each child's `..` is a link to its parent; two links are the directory's own. (File systems
    // that do not count say 1.)
    if fstat(directory).during("fstat")?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut opened =
        match Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            result => result.during("openat")?,
        };
    let mut names = Vec::new();
    for entry in opened.iter() {
        let entry = entry.during("getdents64")?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}
