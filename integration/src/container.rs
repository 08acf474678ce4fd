//! A container of a test: its bundle, its id, and the runtime's commands on it.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::call::{Call, Outcome, within};
use crate::runtime::runtime;
use crate::{config, host, leftovers, rootfs};

/// A container (its bundle, its id, its state directory), which may or may not exist for the
/// runtime yet. When it is dropped it is deleted by force, and the test fails if anything is left
/// of it.
#[derive(Debug)]
pub struct Container {
    /// The id; also part of the cgroup's name and of the directory.
    pub id: String,
    /// config.json; written by each command that reads it.
    pub config: Value,
    dir: TempDir,
    prefix: Vec<String>,
    global: Vec<String>,
    calls: Cell<u32>,
}

impl Container {
    /// A container that runs these words.
    pub fn new(args: &[&str]) -> Self {
        let id = unique();
        let dir = tempfile::Builder::new().prefix(&format!("{id}-")).tempdir().expect("mkdir");
        // Ids of a user namespace must be able to reach the root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::create_dir_all(dir.path().join("io")).expect("mkdir");
        let config = config::default(args, &format!("/{id}"));
        // crun refuses hybrid hosts.
        let v1_alone = runtime().name == "crun" && host::has_cgroup_v1();
        let prefix = if v1_alone { words(&host::PURE_V1) } else { Vec::new() };
        let this = Self { id, config, dir, prefix, global: Vec::new(), calls: Cell::new(0) };
        rootfs::make(&this.rootfs());
        this
    }

    /// A container that runs a shell script.
    pub fn sh(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    /// A container that waits to be killed, for tests of `exec` and the like.
    pub fn sleeper() -> Self {
        Self::sh("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    }

    /// Edits config.json.
    pub fn with(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.config);
        self
    }

    /// Changes the root file system.
    pub fn with_files(self, make: impl FnOnce(&Path)) -> Self {
        make(&self.rootfs());
        self
    }

    /// With a directory `log` in which hooks and the container may write whichever namespace they
    /// are in: it is bound to the same path in the container.
    pub fn with_log(self) -> Self {
        let log = self.path("log");
        fs::create_dir(&log).expect("mkdir");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).expect("chmod");
        self.with(|c| config::add_mount(c, &log, "bind", &log, &["rbind"]))
    }

    /// Gives the container's directory, and all that is in it, to a user.
    pub fn give_to(&self, uid: u32) {
        let owner = format!("{uid}:{uid}");
        let chown = Command::new("chown").args(["-R", &owner]).arg(self.dir()).status();
        assert!(chown.is_ok_and(|status| status.success()));
    }

    /// Calls the runtime by means of these words (`unshare -m ...`).
    pub fn by(mut self, prefix: &[&str]) -> Self {
        self.prefix = words(prefix);
        self
    }

    /// Gives each call of the runtime these global options.
    pub fn global(mut self, options: &[&str]) -> Self {
        self.global.extend(words(options));
        self
    }

    /// The container's directory: bundle, state and what else the test needs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The bundle.
    pub fn bundle(&self) -> PathBuf {
        self.dir().join("bundle")
    }

    /// The root file system, inside the bundle.
    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("bundle/rootfs")
    }

    /// What the runtime is given as `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// A path in the container's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).to_str().expect("utf-8").to_owned()
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("json");
        fs::write(self.bundle().join("config.json"), text).expect("write config.json");
    }

    /// `RUNTIME --root STATE WORDS...`
    pub fn call(&self, args: &[&str]) -> Call {
        self.call_through(&[], args)
    }

    /// `BEFORE... RUNTIME --root STATE WORDS...`: called by means of a shell script, setpriv,
    /// strace or the like.
    pub fn call_through(&self, before: &[&str], args: &[&str]) -> Call {
        let mut all = words(before);
        all.extend(self.prefix.iter().cloned());
        all.push(runtime().path.to_string_lossy().into_owned());
        all.extend(["--root".to_owned(), self.path("state")]);
        all.extend(self.global.iter().cloned());
        all.extend(words(args));
        self.host(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A call of any other program, with this container's id in its environment.
    pub fn host(&self, args: &[&str]) -> Call {
        self.calls.set(self.calls.get() + 1);
        Call::new(&words(args), &self.dir().join(format!("io/{}", self.calls.get())))
    }

    /// `run --bundle BUNDLE OPTIONS... ID` in the foreground; config.json is written first.
    pub fn run_call(&self, options: &[&str]) -> Call {
        self.with_bundle("run", options)
    }

    /// `create --bundle BUNDLE OPTIONS... ID`; config.json is written first.
    pub fn create_call(&self, options: &[&str]) -> Call {
        self.with_bundle("create", options)
    }

    fn with_bundle(&self, command: &str, options: &[&str]) -> Call {
        self.through_with_bundle(&[], command, options)
    }

    /// `BEFORE... RUNTIME --root STATE COMMAND --bundle BUNDLE OPTIONS... ID`; config.json is
    /// written first.
    pub fn through_with_bundle(&self, before: &[&str], command: &str, options: &[&str]) -> Call {
        self.write();
        let bundle = self.path("bundle");
        let mut args = vec![command, "--bundle", &bundle];
        args.extend(options);
        args.push(&self.id);
        self.call_through(before, &args)
    }

    /// Runs it to its end; afterwards nothing may be left.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        let outcome = self.run_call(&[]).done();
        let found = self.left();
        assert!(found.is_empty(), "left behind by {}: {found:#?} {outcome:#?}", self.id);
        outcome
    }

    /// `create`, which must work. The container's output can be read with [`Container::output`].
    #[track_caller]
    pub fn create(&self) -> &Self {
        self.create_call(&[]).done().ok();
        self
    }

    /// `start`, which must work.
    #[track_caller]
    pub fn start(&self) -> &Self {
        self.call(&["start", &self.id]).done().ok();
        self
    }

    /// What the container has written to stdout, if the first call was `create` or `run --detach`.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir().join("io/1.out")).expect("output")
    }

    /// Waits until [`Container::output`] holds this text.
    #[track_caller]
    pub fn until_output(&self, text: &str) -> String {
        let seen = within(Duration::from_secs(10), || {
            Some(self.output()).filter(|out| out.contains(text))
        });
        seen.unwrap_or_else(|| panic!("no {text:?} in {:?}", self.output()))
    }

    /// `state`, parsed.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call(&["state", &self.id]).done().ok().json()
    }

    /// The status word.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The pid of the container's first process.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = i32::try_from(self.state()["pid"].as_i64().expect("a pid")).expect("a pid");
        // kill(0, ...) would reach the test and its callers.
        assert!(pid > 0, "it has none: {}", self.state());
        pid
    }

    /// Waits until its status is this word.
    #[track_caller]
    pub fn until_status(&self, status: &str) {
        let seen = within(Duration::from_secs(10), || (self.status() == status).then_some(()));
        assert!(seen.is_some(), "not {status}: {}", self.state());
    }

    /// `exec ID WORDS...`
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        self.exec_with(&[], args)
    }

    /// `exec OPTIONS... ID WORDS...`
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Outcome {
        self.exec_call(options, args).done()
    }

    /// `exec OPTIONS... ID WORDS...`, to be changed further.
    pub fn exec_call(&self, options: &[&str], args: &[&str]) -> Call {
        let mut all = vec!["exec"];
        all.extend(options);
        all.push(&self.id);
        all.extend(args);
        self.call(&all)
    }

    /// `exec ID /bin/sh -c SCRIPT`, which must work; returns its stdout.
    #[track_caller]
    pub fn ask(&self, script: &str) -> String {
        self.exec(&["/bin/sh", "-c", script]).ok().out
    }

    /// `kill ID SIGNAL`
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.id, signal]).done()
    }

    /// `delete --force ID`
    #[track_caller]
    pub fn delete(&self) -> Outcome {
        self.call(&["delete", "--force", &self.id]).done()
    }

    /// All that is left of it on the host.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = leftovers::find(&self.id, self.dir());
        let state = self.state_root().join(&self.id);
        if state.exists() {
            found.push(format!("state {}", state.display()));
        }
        found
    }

    /// Asserts that no state, cgroup, process or mount of it is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let found = self.left();
        assert!(found.is_empty(), "left behind by {}: {found:#?}", self.id);
    }

    /// What is left of it for good.
    fn left(&self) -> Vec<String> {
        // A killed process goes when the kernel gets round to it, so give it a moment; all else is
        // there or not.
        within(Duration::from_millis(500), || {
            leftovers::processes(&self.id).is_empty().then_some(())
        });
        self.leftovers()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.state_root().join(&self.id).exists() && !std::thread::panicking() {
            let deleted = self.delete();
            assert!(deleted.code == 0, "delete --force: {deleted:#?}");
        }
        if std::thread::panicking() {
            leftovers::sweep(&self.id, self.dir());
            return;
        }
        let found = self.left();
        leftovers::sweep(&self.id, self.dir());
        assert!(found.is_empty(), "left behind by {}: {found:#?}", self.id);
    }
}

/// A name that no other test has, now or before.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // The last letter keeps 1 from being found in 12.
    format!("davit-test-{}-{}c", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
