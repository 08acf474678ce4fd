//! Reading small files with as few system calls as there can be.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::{During, Error};

/// Reads a file of /proc that is one record: the kernel hands it out whole, so that a read(2) which
/// does not fill its buffer is the last.
///
/// # Errors
/// open(2)'s and read(2)'s.
pub fn read_record<P: ?Sized + NixPath>(path: &P) -> Result<Vec<u8>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, path, flags, Mode::empty()).during("open")?;
    // On the stack, where most of it has been touched by then.
    let mut first = [0; 4096];
    let mut filled = nix::unistd::read(&file, &mut first).during("read")?;
    let mut bytes = first.get(..filled).unwrap_or_default().to_vec();
    if filled < first.len() {
        return Ok(bytes);
    }
    bytes.resize(2 * filled, 0);
    loop {
        let count = nix::unistd::read(&file, bytes.get_mut(filled..).unwrap_or_default());
        filled += count.during("read")?;
        if filled < bytes.len() {
            bytes.truncate(filled);
            return Ok(bytes);
        }
        bytes.resize(2 * filled, 0);
    }
}

/// Reads all that is left of an open file; `expected` bytes are the end of it, where that is known.
///
/// # Errors
/// read(2)'s; EFBIG where it is more than `most`.
pub fn read_rest(file: impl AsFd, expected: usize, most: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut filled = 0;
    loop {
        let room = if filled < expected { expected - filled } else { 4096 };
        bytes.resize(filled + room, 0);
        let count = match nix::unistd::read(&file, bytes.get_mut(filled..).unwrap_or_default()) {
            Err(Errno::EINTR) => continue,
            read => read.during("read")?,
        };
        filled += count;
        if filled > most {
            return Err(Error::new("read", Errno::EFBIG));
        }
        if count == 0 || filled == expected {
            bytes.truncate(filled);
            return Ok(bytes);
        }
    }
}

/// flock(2), `LOCK_EX | LOCK_NB`: whether the file is ours alone now, as far as others ask. The lock is the
/// open file's, and all its descriptors have it.
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
            locked => return locked.map(|_| true).during("flock"),
        }
    }
}

/// flock(2), `LOCK_UN`.
///
/// # Errors
/// EBADF.
pub fn unlock(file: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: the call takes two integers.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) }).map(drop).during("flock")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
}
