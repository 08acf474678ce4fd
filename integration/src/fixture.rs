//! Where an engine under test lives: a directory, a name that is part of all it makes, and the
//! daemons that it needs.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::call::{Call, within};
use crate::runtime::runtime;
use crate::{host, leftovers, podman, unique};

/// How long one call of an engine may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a daemon may take to be ready, and to end.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why the runtime under test cannot run under an engine that needs these programs, if so.
pub fn missing(programs: &[&str]) -> Option<String> {
    if let Some(program) = programs.iter().find(|program| podman::installed(program).is_none()) {
        return Some(format!("{program} is not installed"));
    }
    let hybrid = runtime().name == "crun" && host::has_cgroup_v1();
    hybrid.then(|| "crun refuses hybrid hosts".into())
}

/// A directory and a name of an engine's own.
#[derive(Debug)]
pub struct EngineFixture {
    /// Part of the directory's path, and of the path of every cgroup.
    pub name: String,
    dir: TempDir,
    calls: Cell<u32>,
}

impl Default for EngineFixture {
    fn default() -> Self {
        Self::new()
    }
}

impl EngineFixture {
    /// An empty one.
    pub fn new() -> Self {
        let name = unique();
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("mkdir");
        // Ids of a user namespace must be able to reach the roots of containers.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::create_dir(dir.path().join("io")).expect("mkdir");
        Self { name, dir, calls: Cell::new(0) }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).to_str().expect("utf-8").to_owned()
    }

    /// The cgroup below which all containers of this place are.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// A program, called in the directory.
    pub fn call(&self, words: &[&str]) -> Call {
        let number = self.calls.replace(self.calls.get() + 1);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Call::new(&words, &self.dir().join(format!("io/{number}"))).dir(self.dir()).within(DEADLINE)
    }

    /// All that is left of containers, after a while for what engines do in the background. The
    /// cgroup of the place, what the directory holds and processes of this command line do not
    /// count.
    pub fn left(&self, daemon: &str) -> Vec<String> {
        let own = format!("/{}", self.name);
        let find = || {
            let mut left = leftovers::find(&self.name, self.dir());
            left.retain(|line| !(line.starts_with("cgroup ") && line.ends_with(&own)));
            left.retain(|line| !line.contains(daemon));
            left
        };
        within(TIMEOUT, || find().is_empty().then(Vec::new)).unwrap_or_else(find)
    }

    /// Takes away by force what is left, and the cgroup of the place.
    pub fn sweep(&self) {
        leftovers::sweep(&self.name, self.dir());
    }
}

/// A daemon that a test has started.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: String,
}

impl Daemon {
    /// Starts the daemon, whose output goes to the file `log`, and waits until it is ready. Where
    /// the test is killed, it is told to end.
    #[track_caller]
    pub fn start(words: &[&str], log: &str, ready: impl Fn() -> bool) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(words).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("dup")).stderr(file);
        let child = command.spawn().expect("setpriv");
        let mut this = Self { child, log: log.to_owned() };
        let up = within(TIMEOUT, || (this.ended() || ready()).then_some(()));
        assert!(up.is_some() && !this.ended(), "{words:?} is not ready: {}", this.log());
        this
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells it to end, and waits for that.
    pub fn stop(&mut self) {
        if self.ended() {
            return;
        }
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        if within(TIMEOUT, || self.ended().then_some(())).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
