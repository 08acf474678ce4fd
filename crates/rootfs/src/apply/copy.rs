//! `tmpcopyup`: copies the content of a directory, from descriptor to descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use davit_sys::{Error, OsContext};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

/// Copies the content of the directory `from` into the directory `to`, with owners, modes and
/// times.
pub(super) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty()).syscall("openat")?;
    let stat = fstat(&from).syscall("fstat")?;
    let mut directory = Dir::from_fd(from).syscall("fdopendir")?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry.syscall("getdents64")?;
        names.push(entry.file_name().to_owned());
    }
    let names = names.iter().filter(|name| !matches!(name.as_bytes(), b"." | b".."));
    for name in names {
        copy_entry(directory.as_fd(), to, name)?;
    }
    copy_metadata(to, c".", &stat)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).syscall("fstatat")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mode = permissions(&stat);
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, mode).syscall("mkdirat")?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let inner = openat(from, name, flags, Mode::empty()).syscall("openat")?;
            let copy = openat(to, name, flags, Mode::empty()).syscall("openat")?;
            return tree(inner.as_fd(), copy.as_fd());
        }
        SFlag::S_IFREG => content(from, to, name, mode)?,
        SFlag::S_IFLNK => {
            let points_to = readlinkat(from, name).syscall("readlinkat")?;
            symlinkat(points_to.as_os_str(), to, name).syscall("symlinkat")?;
        }
        // A socket is useless without the process that listens on it.
        SFlag::S_IFSOCK => return Ok(()),
        _ => mknodat(to, name, kind, mode, stat.st_rdev).syscall("mknodat")?,
    }
    copy_metadata(to, name, &stat)
}

fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<(), Error> {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, read, Mode::empty()).syscall("openat")?);
    let mut copy = File::from(openat(to, name, write, mode).syscall("openat")?);
    std::io::copy(&mut source, &mut copy).syscall("copy_file_range")?;
    Ok(())
}

/// Copies owner, then permissions (chown(2) clears set-user-ID), then times.
fn copy_metadata(directory: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(directory, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .syscall("fchownat")?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFLNK {
        fchmodat(directory, name, permissions(stat), FchmodatFlags::FollowSymlink)
            .syscall("fchmodat")?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(directory, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
        .syscall("utimensat")
}

fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}
