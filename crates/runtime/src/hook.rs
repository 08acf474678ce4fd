//! Hooks: programs of the administrator that run at the turns of a container's life.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use sys::{During, Slots};

use crate::annotations::HookOutput;
use crate::error::{Error, Result, Within};
use crate::slot;

/// How long a hook may take that names no timeout of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// How much of a failed hook's output is shown, in bytes.
const SHOWN: usize = namespaces::handshake::MAX_DETAIL;

/// A moment of the container's life (config.md, "POSIX-platform Hooks").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// In the runtime's namespaces, before the root changes; deprecated.
    Prestart,
    /// In the runtime's namespaces, before the root changes.
    CreateRuntime,
    /// In the container's namespaces, before the root changes.
    CreateContainer,
    /// In the container, before the user's program.
    StartContainer,
    /// In the runtime's namespaces, after the user's program was executed.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl Moment {
    const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The status that the hook is told (runtime.md, "Lifecycle"). `prestart` comes from a time
    /// when it ran at start, and its users still look for `created`.
    #[must_use]
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::Prestart | Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

/// One hook, ready to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its place in config.json.
    pub field: String,
    /// The program.
    pub path: CString,
    /// Its arguments, the program's name first.
    pub args: Vec<CString>,
    /// Its whole environment.
    pub env: Vec<CString>,
    /// Seconds after which it has failed.
    pub timeout: Option<u32>,
}

/// The hooks of one moment, in their order.
///
/// # Errors
/// A string that the kernel cannot take.
pub(crate) fn plan(spec: &Spec, moment: Moment) -> Result<Vec<Hook>> {
    let Some(hooks) = spec.hooks() else { return Ok(Vec::new()) };
    #[allow(deprecated)]
    let list = match moment {
        Moment::Prestart => hooks.prestart(),
        Moment::CreateRuntime => hooks.create_runtime(),
        Moment::CreateContainer => hooks.create_container(),
        Moment::StartContainer => hooks.start_container(),
        Moment::Poststart => hooks.poststart(),
        Moment::Poststop => hooks.poststop(),
    };
    let numbered = list.iter().flatten().enumerate();
    let hook = |(index, hook): (usize, &oci_spec::runtime::Hook)| {
        let field = format!("hooks.{}[{index}]", moment.name());
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

/// Files that hooks print to, where annotations name some.
#[derive(Debug, Default)]
pub(crate) struct Output {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Output {
    /// Opens them.
    ///
    /// # Errors
    /// A file that is none, or cannot be written.
    pub(crate) fn open(named: &HookOutput) -> Result<Self> {
        let open = |path: &Option<PathBuf>| -> Result<Option<OwnedFd>> {
            let Some(path) = path else { return Ok(None) };
            open_log(path).map(Some).within(|| format!("output of hooks {}", path.display()))
        };
        Ok(Self { stdout: open(&named.stdout)?, stderr: open(&named.stderr)? })
    }

    /// Gives them to a process that runs hooks inside.
    pub(crate) fn put(self, slots: &mut Slots) {
        for (slot, file) in [(slot::HOOK_STDOUT, self.stdout), (slot::HOOK_STDERR, self.stderr)] {
            if let Some(file) = file {
                slots.put(slot, file);
            }
        }
    }
}

/// A log, appended to: no symbolic link, and nothing that could make the runtime wait.
fn open_log(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::from_bits_truncate(0o600)).during("open")?;
    match fstat(&file).during("fstat")?.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(file),
        _ => Err(Error::new("is not a regular file")),
    }
}

/// Where a process inside finds them.
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

    /// Copies of what is in the slots.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn take(self, slots: &Slots) -> std::result::Result<Output, sys::Error> {
        let copy = |slot: Option<u16>| -> std::result::Result<Option<OwnedFd>, sys::Error> {
            let Some(slot) = slot else { return Ok(None) };
            slots.get(slot)?.try_clone_to_owned().during("dup").map(Some)
        };
        Ok(Output { stdout: copy(self.stdout)?, stderr: copy(self.stderr)? })
    }
}

impl Hook {
    /// Runs the hook with `state` on its standard input.
    ///
    /// Input and output are files in memory, unless `output` names others: a hook that does not
    /// read cannot stop the runtime.
    ///
    /// # Errors
    /// It could not be executed, took too long or failed; with the end of what it printed.
    pub(crate) fn run(&self, state: &str, directory: Option<&Path>, output: &Output) -> Result<()> {
        self.attempt(state, directory, output).within(|| format!("{} {:?}", self.field, self.path))
    }

    fn attempt(&self, state: &str, directory: Option<&Path>, output: &Output) -> Result<()> {
        let shown = memory()?;
        let mut child = self.spawn(state, &shown, directory, output)?;
        let patience = self.timeout.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.into()));
        let status = match wait(&mut child, patience)? {
            Some(status) => status,
            None => return Err(Error::new(format!("did not end within {} s", patience.as_secs()))),
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
        let mut input = memory()?;
        input.write_all(state.as_bytes()).during("write")?;
        input.seek(SeekFrom::Start(0)).during("lseek")?;
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
        let copy = |file: &Option<OwnedFd>| match file {
            Some(file) => file.try_clone(),
            None => shown.try_clone().map(OwnedFd::from),
        };
        let (stdout, stderr) =
            (copy(&output.stdout).during("dup")?, copy(&output.stderr).during("dup")?);
        Ok(command.stdin(input).stdout(stdout).stderr(stderr).spawn().during("execve")?)
    }
}

/// A file in memory, close-on-exec.
fn memory() -> Result<File> {
    Ok(File::from(memfd_create(c"davit:hook", MFdFlags::MFD_CLOEXEC).during("memfd_create")?))
}

/// The end of a child, or `None` where it took too long and was killed.
fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).map_err(|_| Error::new("pid out of range"))?;
    let pidfd: OwnedFd = sys::pidfd::open(Pid::from_raw(pid))?;
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ended, timeout).during("poll")? == 0 {
        child.kill().during("kill")?;
        child.wait().during("wait")?;
        return Ok(None);
    }
    Ok(Some(child.wait().during("wait")?))
}

/// The end of what was printed, on one line.
fn tail(mut output: File) -> String {
    let length = output.metadata().map_or(0, |metadata| metadata.len());
    let from = length.saturating_sub(SHOWN as u64);
    let mut bytes = Vec::new();
    // What cannot be read back is not shown.
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
