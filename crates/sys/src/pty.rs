//! Pseudoterminals by descriptor: nothing here looks up a name in `/dev`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::Error;

/// ioctl_tty(2) `TIOCSPTLCK`: unlocks the terminal of a pty master.
///
/// # Errors
/// ENOTTY if `master` is not a pty master.
pub fn unlock(master: BorrowedFd<'_>) -> Result<(), Error> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    Errno::result(result).map_err(|errno| Error::new("ioctl(TIOCSPTLCK)", errno))?;
    Ok(())
}

/// ioctl_tty(2) `TIOCGPTPEER` (Linux 4.13): opens the terminal of a pty master, in the devpts of
/// `master`.
///
/// # Errors
/// EIO (still locked), ENOTTY, ...
pub fn peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes open flags and returns a descriptor.
    let raw = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let raw = Errno::result(raw).map_err(|errno| Error::new("ioctl(TIOCGPTPEER)", errno))?;
    // SAFETY: the call succeeded, so this is a new descriptor that no one else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// ioctl_tty(2) `TIOCSWINSZ`: sets the size of the terminal in characters.
///
/// # Errors
/// ENOTTY, ...
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Error> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one winsize.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map_err(|errno| Error::new("ioctl(TIOCSWINSZ)", errno))?;
    Ok(())
}

/// ioctl_tty(2) `TIOCGWINSZ`: the size of the terminal in characters, rows first.
///
/// # Errors
/// ENOTTY.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Error> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills one winsize.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).map_err(|errno| Error::new("ioctl(TIOCGWINSZ)", errno))?;
    Ok((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn master_and_terminal_have_the_same_size() {
        let Ok(master) = OpenOptions::new().read(true).write(true).open("/dev/ptmx") else {
            eprintln!("skip: no /dev/ptmx here");
            return;
        };
        unlock(master.as_fd()).unwrap();
        let terminal = peer(master.as_fd()).unwrap();
        resize(terminal.as_fd(), 31, 97).unwrap();
        assert_eq!(size(master.as_fd()), Ok((31, 97)));
    }
}
