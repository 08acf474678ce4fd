//! Hooks: programs that run at defined points of the container lifecycle.

pub(crate) mod hint;
mod point;
mod text;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use davit_sys::{OsContext, Slots};
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Within};
use crate::slot;

pub(crate) use point::HookPoint;

/// Timeout of a hook that has none in config.json.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// The number of bytes of a failed hook's output that an error shows.
const MAX_OUTPUT: usize = davit_protocol::MAX_DETAIL;

/// One hook, ready to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its field in config.json.
    pub field: String,
    /// The program.
    #[serde(with = "text")]
    pub path: CString,
    /// Its arguments, the program's name first.
    #[serde(with = "text::list")]
    pub args: Vec<CString>,
    /// Its environment; nothing is inherited.
    #[serde(with = "text::list")]
    pub env: Vec<CString>,
    /// Timeout in seconds.
    #[serde(default)]
    pub timeout: Option<u32>,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.field, self.path)
    }
}

/// The hooks of one point, in their order.
///
/// # Errors
/// A string that the kernel cannot take.
pub(crate) fn plan(spec: &Spec, point: HookPoint) -> Result<Vec<Hook>> {
    let Some(hooks) = spec.hooks() else { return Ok(Vec::new()) };
    #[allow(deprecated)]
    let list = match point {
        HookPoint::Prestart => hooks.prestart(),
        HookPoint::CreateRuntime => hooks.create_runtime(),
        HookPoint::CreateContainer => hooks.create_container(),
        HookPoint::StartContainer => hooks.start_container(),
        HookPoint::Poststart => hooks.poststart(),
        HookPoint::Poststop => hooks.poststop(),
    };
    let numbered = list.iter().flatten().enumerate();
    let hook = |(index, hook): (usize, &oci_spec::runtime::Hook)| {
        let field = format!("hooks.{}[{index}]", point.name());
        let strings = |list: &Option<Vec<String>>| -> Result<Vec<CString>> {
            list.iter().flatten().map(|text| c_string(text.as_bytes(), &field)).collect()
        };
        let path = c_string(hook.path().as_os_str().as_bytes(), &field)?;
        let args = strings(hook.args())?;
        Ok(Hook {
            args: if args.is_empty() { vec![path.clone()] } else { args },
            path,
            env: strings(hook.env())?,
            timeout: hook.timeout().and_then(|seconds| u32::try_from(seconds).ok()),
            field,
        })
    };
    numbered.map(hook).collect()
}

fn c_string(bytes: &[u8], field: &str) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(format!("{field}: contains a NUL byte")))
}

/// The log files of hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HookOutput {
    pub(crate) stdout: Option<PathBuf>,
    pub(crate) stderr: Option<PathBuf>,
}

/// The log files of hooks, open.
#[derive(Debug, Default)]
pub(crate) struct Output {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Output {
    /// Opens them.
    ///
    /// # Errors
    /// A path that is not a regular file, or cannot be written.
    pub(crate) fn open(named: &HookOutput) -> Result<Self> {
        let open = |path: &Option<PathBuf>| -> Result<Option<OwnedFd>> {
            let Some(path) = path else { return Ok(None) };
            open_log(path).map(Some).within(|| format!("output of hooks {}", path.display()))
        };
        Ok(Self { stdout: open(&named.stdout)?, stderr: open(&named.stderr)? })
    }

    /// Puts them into the slots of init, which runs hooks in the container.
    pub(crate) fn put(self, slots: &mut Slots) {
        for (slot, file) in [(slot::HOOK_STDOUT, self.stdout), (slot::HOOK_STDERR, self.stderr)] {
            if let Some(file) = file {
                slots.put(slot, file);
            }
        }
    }
}

/// Opens a log for appending: not through a symbolic link, and nothing on which the runtime could
/// block.
fn open_log(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::from_bits_truncate(0o600)).syscall("open")?;
    match fstat(&file).syscall("fstat")?.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(file),
        _ => Err(Error::new("is not a regular file")),
    }
}

/// The slots in which init finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSlots {
    stdout: Option<u16>,
    stderr: Option<u16>,
}

impl OutputSlots {
    pub(crate) fn of(named: &HookOutput) -> Self {
        Self {
            stdout: named.stdout.as_ref().map(|_| slot::HOOK_STDOUT),
            stderr: named.stderr.as_ref().map(|_| slot::HOOK_STDERR),
        }
    }

    /// Copies the descriptors in the slots.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn take(self, slots: &Slots) -> std::result::Result<Output, davit_sys::Error> {
        let copy = |slot: Option<u16>| -> std::result::Result<Option<OwnedFd>, davit_sys::Error> {
            let Some(slot) = slot else { return Ok(None) };
            slots.get(slot)?.try_clone_to_owned().syscall("dup").map(Some)
        };
        Ok(Output { stdout: copy(self.stdout)?, stderr: copy(self.stderr)? })
    }
}

impl Hook {
    /// Runs the hook with `state` on its standard input.
    ///
    /// Input and output are memfds, unless `output` names other files: a hook that does not read
    /// cannot block the runtime.
    ///
    /// # Errors
    /// It could not be executed, timed out or failed; with the end of its output.
    pub(crate) fn run(&self, state: &str, directory: Option<&Path>, output: &Output) -> Result<()> {
        self.attempt(state, directory, output).map_err(|error| {
            let hint = error.errno().and_then(|errno| hint::of_hook_on_host(errno, &self.path));
            error.within(format!("{} {:?}", self.field, self.path)).hinted(hint)
        })
    }

    fn attempt(&self, state: &str, directory: Option<&Path>, output: &Output) -> Result<()> {
        let shown = memfd()?;
        let mut child = self.spawn(state, &shown, directory, output)?;
        let timeout =
            self.timeout.map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        let status = match wait(&mut child, timeout)? {
            Some(status) => status,
            None => return Err(Error::new(format!("did not end within {} s", timeout.as_secs()))),
        };
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        Err(match tail(shown).as_str() {
            "" => Error::new(how),
            said => Error::new(format!("{how}: {said}")),
        })
    }

    fn spawn(
        &self,
        state: &str,
        shown: &File,
        directory: Option<&Path>,
        output: &Output,
    ) -> Result<Child> {
        let mut input = memfd()?;
        input.write_all(state.as_bytes()).syscall("write")?;
        input.seek(SeekFrom::Start(0)).syscall("lseek")?;
        let os = |text: &CString| OsStr::from_bytes(text.as_bytes()).to_owned();
        let mut command = Command::new(os(&self.path));
        let mut args = self.args.iter().map(os);
        if let Some(name) = args.next() {
            command.arg0(name);
        }
        command.args(args).env_clear();
        for entry in &self.env {
            let entry = entry.as_bytes();
            let at = entry.iter().position(|byte| *byte == b'=').unwrap_or(entry.len());
            let (name, value) = entry.split_at(at);
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..).unwrap_or(&[])));
        }
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        davit_sys::process::reset_child_signals(&mut command, davit_sys::entry::caller_umask());
        let copy = |file: &Option<OwnedFd>| match file {
            Some(file) => file.try_clone(),
            None => shown.try_clone().map(OwnedFd::from),
        };
        let (stdout, stderr) =
            (copy(&output.stdout).syscall("dup")?, copy(&output.stderr).syscall("dup")?);
        Ok(command.stdin(input).stdout(stdout).stderr(stderr).spawn().syscall("execve")?)
    }
}

/// A memfd, close-on-exec.
fn memfd() -> Result<File> {
    Ok(File::from(memfd_create(c"davit:hook", MFdFlags::MFD_CLOEXEC).syscall("memfd_create")?))
}

/// The exit status of a child, or `None` if it timed out and was killed.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).map_err(|_| Error::new("pid out of range"))?;
    let pidfd: OwnedFd = davit_sys::pidfd::open(Pid::from_raw(pid))?;
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ended, timeout).syscall("poll")? == 0 {
        child.kill().syscall("kill")?;
        child.wait().syscall("wait")?;
        return Ok(None);
    }
    Ok(Some(child.wait().syscall("wait")?))
}

/// The end of the output, on one line.
fn tail(mut output: File) -> String {
    let length = output.metadata().map_or(0, |metadata| metadata.len());
    let from = length.saturating_sub(MAX_OUTPUT as u64);
    let mut bytes = Vec::new();
    // Output that cannot be read is not shown.
    let read = output.seek(SeekFrom::Start(from)).and_then(|_| output.read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" "),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, timeout: Option<u32>) -> Hook {
        let strings = |list: &[&str]| list.iter().map(|s| CString::new(*s).unwrap()).collect();
        Hook {
            field: "hooks.poststop[0]".to_owned(),
            path: c"/bin/sh".to_owned(),
            args: strings(&["sh", "-c", script]),
            env: strings(&["A=b=c"]),
            timeout,
        }
    }

    #[test]
    fn the_state_arrives_and_the_environment_is_the_hooks_own() {
        let hook = shell(r#"read s; test "$s" = '{"id":1}' && test "$A" = b=c"#, None);
        hook.run("{\"id\":1}\n", None, &Output::default()).unwrap();
        assert!(hook.run("other\n", None, &Output::default()).is_err());
    }

    #[test]
    fn a_failure_shows_how_and_what_was_printed() {
        let error = shell("echo out; echo err >&2; exit 3", None)
            .run("{}", None, &Output::default())
            .unwrap_err();
        assert_eq!(error.to_string(), "hooks.poststop[0] \"/bin/sh\": exit status 3: out err");
        let error = shell("kill -9 $$", None).run("{}", None, &Output::default()).unwrap_err();
        assert!(error.to_string().ends_with("killed by signal 9"), "{error}");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let start = Instant::now();
        let error = shell("sleep 60", Some(1)).run("{}", None, &Output::default()).unwrap_err();
        assert!(error.to_string().ends_with("did not end within 1 s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_large_state_that_nobody_reads_stops_nothing() {
        shell("true", None).run(&"x".repeat(1 << 20), None, &Output::default()).unwrap();
    }
}
