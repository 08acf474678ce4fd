//! The descriptors that davit inherits from its caller, and those that it passes to a container.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use davit_runtime::plan::{ListenFds, ProcessOptions};
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::args;

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// The maximum number of descriptors that a caller can pass.
const LIMIT: u32 = 1 << 16;

/// The descriptors that were open when davit started: all of them are the caller's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited(Vec<RawFd>);

impl Inherited {
    /// Lists the open descriptors, before davit opens its first file; only for a command line or an
    /// environment that can pass some on, because this takes 50 microseconds.
    ///
    /// # Errors
    /// /proc/self/fd cannot be read.
    pub(crate) fn list(arguments: &[OsString]) -> Result<Self> {
        let passes = |argument: &OsString| argument.as_bytes().starts_with(b"--preserve-fds");
        if !arguments.iter().any(passes) && std::env::var_os("LISTEN_FDS").is_none() {
            return Ok(Self::default());
        }
        let list = || -> nix::Result<Vec<RawFd>> {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let mut directory = Dir::open("/proc/self/fd", flags, Mode::empty())?;
            let own = directory.as_raw_fd();
            let entries = directory.iter().collect::<nix::Result<Vec<_>>>()?;
            let numbers =
                entries.iter().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
            Ok(numbers.filter(|fd| *fd != own).collect())
        };
        list().map(Self).context("/proc/self/fd")
    }

    /// Sets the descriptors that the container's process gets: those of `LISTEN_FDS` and
    /// `preserve_fds` more, counted from 3. Numbers that are not open are left out, as with crun.
    /// Init passes exactly these to the program.
    ///
    /// # Errors
    /// More descriptors than the limit; a malformed `LISTEN_FDS`.
    pub(crate) fn fill(&self, options: &mut ProcessOptions, preserve_fds: u32) -> Result<()> {
        options.listen_fds = listen_fds()?;
        let listening = options.listen_fds.as_ref().map_or(0, |listen| listen.count);
        let count = match preserve_fds.checked_add(listening) {
            Some(count) if count <= LIMIT => count,
            _ if listening > LIMIT => {
                bail!("LISTEN_FDS: {listening} is above the limit of {LIMIT} descriptors")
            }
            _ => bail!("--preserve-fds: {preserve_fds} is above the limit of {LIMIT} descriptors"),
        };
        let passed = FIRST..FIRST.saturating_add_unsigned(count);
        options.descriptors = self.0.iter().copied().filter(|fd| passed.contains(fd)).collect();
        Ok(())
    }
}

/// Marks the caller's descriptors close-on-exec: no hook or helper program gets one.
///
/// # Errors
/// close_range(2) failed.
pub(crate) fn close_at_exec() -> Result<(), davit_sys::Error> {
    davit_sys::process::close_on_exec_from(FIRST)
}

/// The descriptors of socket activation, if they are meant for this process (sd_listen_fds(3)).
fn listen_fds() -> Result<Option<ListenFds>> {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(count), Some(pid)) = (variable("LISTEN_FDS"), variable("LISTEN_PID")) else {
        return Ok(None);
    };
    if pid != std::process::id().to_string() {
        return Ok(None);
    }
    let count = args::strict_number(&count).context("LISTEN_FDS")?;
    Ok((count > 0).then(|| ListenFds { count, names: variable("LISTEN_FDNAMES") }))
}
