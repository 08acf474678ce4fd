//! The runtime's own executable, in a form that the container cannot write to.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use davit_sys::mount::{Attr, Change, clone_changed_tree};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{pipe2, write};

const PROGRAM: &std::ffi::CStr = c"/proc/self/exe";

/// Opens the running executable so that the process that executes it cannot change it
/// (CVE-2019-5736): as a read-only mount of its own, or as a sealed copy if this user may not
/// mount.
///
/// # Errors
/// The file cannot be opened; no memory for the copy.
pub(crate) fn protected() -> Result<OwnedFd, Error> {
    match read_only_mount() {
        Err(Error { errno: Errno::EPERM | Errno::ENOSYS | Errno::EINVAL, .. }) => sealed_copy(),
        made => made,
    }
}

fn read_only_mount() -> Result<OwnedFd, Error> {
    let change = Change { set: Attr::RDONLY, ..Change::default() };
    clone_changed_tree(nix::fcntl::AT_FDCWD, PROGRAM, false, &change)
}

fn sealed_copy() -> Result<OwnedFd, Error> {
    let mut program = File::open("/proc/self/exe").syscall("open /proc/self/exe")?;
    let mut copy = memory(c"davit")?;
    std::io::copy(&mut program, &mut copy).syscall("sendfile")?;
    seal(copy)
}

/// A descriptor from which `bytes` can be read once: a pipe if they fit, else a memfd (a pipe costs
/// a third of a memfd).
///
/// # Errors
/// No memory, no descriptors.
pub(crate) fn in_memory(bytes: &[u8]) -> crate::error::Result<OwnedFd> {
    if let Some(end) = in_a_pipe(bytes)? {
        return Ok(end);
    }
    let file = memory(c"davit:plan")?;
    file.write_all_at(bytes, 0).syscall("write")?;
    Ok(file.into())
}

/// The capacity of a pipe depends on the system and the user (pipe(7)): the write is tried, without
/// blocking.
fn in_a_pipe(bytes: &[u8]) -> Result<Option<OwnedFd>, Error> {
    let (end, beginning) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).syscall("pipe2")?;
    match write(beginning, bytes) {
        Err(Errno::EAGAIN) => Ok(None),
        written => Ok((written.syscall("write")? == bytes.len()).then_some(end)),
    }
}

fn memory(name: &std::ffi::CStr) -> Result<File, Error> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    memfd_create(name, flags).map(File::from).syscall("memfd_create")
}

fn seal(file: File) -> Result<OwnedFd, Error> {
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).syscall("fcntl F_ADD_SEALS")?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_there_whole_whether_they_fit_into_a_pipe_or_not() {
        for length in [0, 1, 4096, 65536, 65537, 1 << 20] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let file = in_memory(&bytes).unwrap();
            assert_eq!(davit_sys::file::read_rest(&file, length, length).unwrap(), bytes);
        }
        assert!(in_a_pipe(&[0; 4096]).unwrap().is_some());
        assert!(in_a_pipe(&[0; 1 << 20]).unwrap().is_none());
    }

    #[test]
    fn a_sealed_copy_cannot_be_changed() {
        let copy = sealed_copy().unwrap();
        assert_eq!(nix::unistd::write(&copy, b"x"), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(&copy, 0), Err(Errno::EPERM));
    }
}
