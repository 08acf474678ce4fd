//! Reading small files with few system calls; locks; removing directories.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::{Error, OsContext};

/// Reads a file of /proc that is one record: the kernel returns it as a whole, so that a read(2)
/// which does not fill its buffer is the last one.
///
/// # Errors
/// open(2) or read(2) failed.
pub fn read_record<P: ?Sized + NixPath>(path: &P) -> Result<Vec<u8>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, path, flags, Mode::empty()).syscall("open")?;
    // On the stack, where most pages have been touched already.
    let mut first = [0; 4096];
    let mut filled = nix::unistd::read(&file, &mut first).syscall("read")?;
    let mut bytes = first.get(..filled).unwrap_or_default().to_vec();
    if filled < first.len() {
        return Ok(bytes);
    }
    bytes.resize(2 * filled, 0);
    loop {
        let count = nix::unistd::read(&file, bytes.get_mut(filled..).unwrap_or_default());
        filled += count.syscall("read")?;
        if filled < bytes.len() {
            bytes.truncate(filled);
            return Ok(bytes);
        }
        bytes.resize(2 * filled, 0);
    }
}

/// Reads the rest of an open file, whose expected length saves the last read(2).
///
/// # Errors
/// read(2) failed; EFBIG for more than `max` bytes.
pub fn read_rest(file: impl AsFd, expected: usize, max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut filled = 0;
    loop {
        let room = if filled < expected { expected - filled } else { 4096 };
        bytes.resize(filled + room, 0);
        let count = match nix::unistd::read(&file, bytes.get_mut(filled..).unwrap_or_default()) {
            Err(Errno::EINTR) => continue,
            read => read.syscall("read")?,
        };
        filled += count;
        if filled > max {
            return Err(Error::new("read", Errno::EFBIG));
        }
        if count == 0 || filled == expected {
            bytes.truncate(filled);
            return Ok(bytes);
        }
    }
}

/// flock(2), `LOCK_EX | LOCK_NB`: whether this process holds the lock now. The lock belongs to the
/// open file description, which all duplicates of the descriptor share.
///
/// # Errors
/// ENOLCK, EBADF.
pub fn try_lock(file: BorrowedFd<'_>) -> Result<bool, Error> {
    loop {
        // SAFETY: the call takes two integers.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match Errno::result(locked) {
            Err(Errno::EINTR) => {}
            Err(Errno::EWOULDBLOCK) => return Ok(false),
            locked => return locked.map(|_| true).syscall("flock"),
        }
    }
}

/// flock(2), `LOCK_UN`.
///
/// # Errors
/// EBADF.
pub fn unlock(file: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: the call takes two integers.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) })
        .map(drop)
        .syscall("flock")
}

/// Removes the content of a directory, by descriptor, without following symbolic links or entering
/// mounts. Nested directories are first moved up into `top`, so that their depth needs neither
/// memory nor descriptors.
///
/// # Errors
/// unlinkat(2), openat2(2) or renameat(2) failed: EBUSY or EXDEV on a mount point.
pub fn remove_below(top: BorrowedFd<'_>) -> Result<(), Error> {
    let mut names = names(top)?;
    let mut moved = 0u64;
    while let Some(name) = names.pop() {
        let Some(directory) = unlink_or_open(top, &name)? else { continue };
        for child in self::names(directory.as_fd())? {
            if unlink_or_open(directory.as_fd(), &child)?.is_some() {
                names.push(move_up(directory.as_fd(), &child, top, &mut moved)?);
            }
        }
        unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir).syscall("rmdir")?;
    }
    Ok(())
}

/// Unlinks a file; a directory is opened instead.
fn unlink_or_open(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Error> {
    let errno = match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(None),
        // The errno of POSIX for a directory; also for a file that may not be removed.
        Err(errno @ (Errno::EISDIR | Errno::EPERM)) => errno,
        Err(errno) => return Err(Error::new("unlink", errno)),
    };
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat2(parent, name, OpenHow::new().flags(flags).resolve(resolve)) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ENOTDIR) => Err(Error::new("unlink", errno)),
        Err(errno) => Err(Error::new("openat2", errno)),
    }
}

/// Moves a directory to a free name in `top`.
fn move_up(
    parent: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<CString, Error> {
    loop {
        let free = CString::new(format!("removed-{moved}")).unwrap_or_default();
        *moved += 1;
        match renameat(parent, name, top, free.as_c_str()) {
            Ok(()) => return Ok(free),
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            Err(errno) => return Err(Error::new("rename", errno)),
        }
    }
}

/// The names in a directory.
fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty()).syscall("opendir")?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry.syscall("readdir")?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_of_a_file_is_read_whatever_is_expected() {
        let path = std::env::temp_dir().join(format!("sys-file-{}", std::process::id()));
        let content: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        std::fs::File::create(&path).unwrap().write_all(&content).unwrap();
        for expected in [0, 10_000, 20_000] {
            let file = std::fs::File::open(&path).unwrap();
            assert_eq!(read_rest(&file, expected, 1 << 20).unwrap(), content);
        }
        let file = std::fs::File::open(&path).unwrap();
        assert_eq!(read_rest(&file, 0, 9999).unwrap_err().errno, Errno::EFBIG);
        assert_eq!(read_record(&path).unwrap(), content);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn whole_directories_are_emptied_and_links_not_followed() {
        let scratch = std::env::temp_dir().join(format!("sys-remove-{}", std::process::id()));
        let (top, outside) = (scratch.join("top"), scratch.join("outside"));
        for directory in ["a/b/c", "removed-0/x", "removed-1", "full/full"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        fs::create_dir_all(outside.join("kept")).unwrap();
        for file in ["file", "a/file", "a/b/c/file", "removed-2", "removed-0/x/file"] {
            fs::write(top.join(file), "").unwrap();
        }
        symlink(&outside, top.join("link")).unwrap();
        symlink(&outside, top.join("a/b/link")).unwrap();
        let mut here = openat(AT_FDCWD, &top, OFlag::O_PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&here, "deeper", Mode::S_IRWXU).unwrap();
            here = openat(&here, "deeper", OFlag::O_PATH, Mode::empty()).unwrap();
        }
        remove_below(fs::File::open(&top).unwrap().as_fd()).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        fs::remove_dir_all(&scratch).unwrap();
    }
}
