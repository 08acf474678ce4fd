//! Reading a file, a pipe or standard input that the user names, with a limit of size and time.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::error::{Error, Result};

/// The largest input that is read, in bytes.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Timeout for the next byte of a pipe.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a regular file, or a pipe: a FIFO, `/dev/stdin`, `/dev/fd/N`.
///
/// # Errors
/// It is neither, or too large; the timeout of a pipe.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_within(path, TIMEOUT)
}

/// The same, where `-` is standard input, of any type.
///
/// # Errors
/// As of [`read`], except for the type of standard input.
pub(crate) fn read_or_stdin(path: &Path) -> Result<Vec<u8>> {
    match path.to_str() {
        Some("-") => read_stream(std::io::stdin(), TIMEOUT),
        _ => read(path),
    }
}

fn read_within(path: &Path, timeout: Duration) -> Result<Vec<u8>> {
    // The open of a FIFO must not wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = openat(AT_FDCWD, path, flags, Mode::empty()).syscall("open")?;
    let stat = fstat(&file).syscall("fstat")?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => read_regular(&file, &stat),
        libc::S_IFIFO => read_stream(file, timeout),
        _ => Err(Error::new("neither a regular file nor a pipe")),
    }
}

/// Reads an open regular file of at most [`MAX_SIZE`] bytes, whose fstat(2) is `stat`.
///
/// # Errors
/// It is not regular, or too large.
pub(crate) fn read_regular(file: &OwnedFd, stat: &FileStat) -> Result<Vec<u8>> {
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::new("not a regular file"));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > MAX_SIZE {
        return Err(too_large());
    }
    match davit_sys::file::read_rest(file, size, MAX_SIZE) {
        Err(davit_sys::Error { errno: Errno::EFBIG, .. }) => Err(too_large()),
        read => Ok(read?),
    }
}

/// Reads up to the end. A FIFO that no writer has opened yet is not at its end.
fn read_stream(stream: impl AsFd, timeout: Duration) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut filled = 0;
    loop {
        wait(&stream, timeout)?;
        bytes.resize(filled + 64 * 1024, 0);
        let room = bytes.get_mut(filled..).unwrap_or_default();
        match nix::unistd::read(&stream, room) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            read => filled += read.syscall("read")?,
        }
        if filled > MAX_SIZE {
            return Err(too_large());
        }
    }
}

/// Waits for the next byte, or the end. Signals that terminate a process do so here, even if they
/// are blocked already to be forwarded to a container: nothing has been created yet.
fn wait(stream: impl AsFd, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let mut blocked = SigSet::thread_get_mask().syscall("sigprocmask")?;
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM]
        .into_iter()
        .for_each(|signal| blocked.remove(signal));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(left.into()), Some(blocked)) {
            Err(Errno::EINTR) => {}
            Ok(0) if left.is_zero() => {
                let seconds = timeout.as_secs();
                return Err(Error::new(format!("read: nothing came for {seconds} s"))
                    .hint("does a program write to this pipe?"));
            }
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(davit_sys::Error::new("ppoll", errno).into()),
        }
    }
}

fn too_large() -> Error {
    Error::new(format!("larger than {} MiB", MAX_SIZE / 1024 / 1024))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(20);

    fn fifo(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn a_pipe_without_a_writer_ends_at_its_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let begun = Instant::now();
        let error = read_within(&path, SHORT).unwrap_err();
        assert!(error.to_string().starts_with("read: nothing came for"), "{error}");
        assert!(error.advice().is_some() && begun.elapsed() >= SHORT);
        // Nor does a writer that writes nothing more keep it waiting.
        let silent = path.clone();
        let writer = thread::spawn(move || {
            let mut pipe = OpenOptions::new().write(true).open(silent).unwrap();
            pipe.write_all(b"{").unwrap();
            thread::sleep(SHORT * 10);
        });
        assert!(read_within(&path, SHORT * 3).is_err());
        writer.join().unwrap();
    }

    #[test]
    fn a_slow_writer_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let target = path.clone();
        let writer = thread::spawn(move || {
            thread::sleep(SHORT);
            let mut pipe = OpenOptions::new().write(true).open(target).unwrap();
            for piece in ["{\"a\"", ":", "1}"] {
                pipe.write_all(piece.as_bytes()).unwrap();
                thread::sleep(SHORT);
            }
        });
        assert_eq!(read_within(&path, LONG).unwrap(), b"{\"a\":1}");
        writer.join().unwrap();
    }

    #[test]
    fn the_limit_holds_for_each_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let target = path.clone();
        let writer = thread::spawn(move || {
            let mut pipe = OpenOptions::new().write(true).open(target).unwrap();
            // The reader closes its end once it has had enough.
            while pipe.write_all(&[b' '; 65536]).is_ok() {}
        });
        assert_eq!(read_within(&path, LONG).unwrap_err().message(), "larger than 16 MiB");
        writer.join().unwrap();
        let file = directory.path().join("file");
        fs::File::create(&file).unwrap().set_len(MAX_SIZE as u64 + 1).unwrap();
        assert_eq!(read_within(&file, LONG).unwrap_err().message(), "larger than 16 MiB");
    }

    #[test]
    fn nothing_else_is_read() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            let error = read_within(Path::new(path), LONG).unwrap_err();
            assert_eq!(error.message(), "neither a regular file nor a pipe", "{path}");
        }
        assert!(read_within(Path::new("/nonexistent"), LONG).is_err());
    }
}
