//! containerd with the runtime under test: a daemon of its own for each test, called through `ctr`.

use std::fs;
use std::path::Path;

use crate::call::{Call, Outcome};
use crate::fixture::{Daemon, EngineFixture};
use crate::runtime::runtime;
use crate::{checkpoint, image};

/// The daemon's configuration: all of it in the directory DIR, the CRI plugin with RUNTIME as its
/// runtime.
const CONFIG: &str = r#"
version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "DIR/sock"

# Its socket is the same for all daemons of a machine.
[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "IMAGE"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "DIR/cni"
conf_dir = "DIR/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "tested"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
BinaryName = "RUNTIME"
Root = "DIR/runtime"
SystemdCgroup = SYSTEMD
"#;

/// The programs that it needs.
pub const PROGRAMS: [&str; 5] = ["containerd", "containerd-shim-runc-v2", "ctr", "setpriv", "tar"];

/// containerd, and the image in it.
#[derive(Debug)]
pub struct Containerd {
    /// Where it lives.
    pub place: EngineFixture,
    daemon: Option<Daemon>,
    /// The daemon's PATH, if it is another than the test's.
    path: Option<String>,
}

/// Makes a [`Containerd`], or ends the test where containerd or the runtime cannot run.
#[macro_export]
macro_rules! containerd {
    () => {{
        $crate::spec!();
        $crate::skip_if!($crate::fixture::missing(&$crate::containerd::PROGRAMS));
        $crate::containerd::Containerd::new()
    }};
}

impl Default for Containerd {
    fn default() -> Self {
        Self::new()
    }
}

impl Containerd {
    /// A daemon with the image in the namespaces of `ctr` and of Kubernetes.
    pub fn new() -> Self {
        Self::with_cgroups_of_systemd(false)
    }

    /// The same, whose CRI plugin may ask for the systemd cgroup driver.
    pub fn with_cgroups_of_systemd(systemd: bool) -> Self {
        Self::with(systemd, None)
    }

    /// The same as [`Containerd::new`] with CRIU in its PATH.
    pub fn with_criu() -> Self {
        Self::with(false, Some(checkpoint::path()))
    }

    fn with(systemd: bool, path: Option<String>) -> Self {
        let place = EngineFixture::new();
        let binary = runtime().path.to_str().expect("utf-8");
        let config = CONFIG.replace("DIR", place.dir().to_str().expect("utf-8"));
        let config = config.replace("RUNTIME", binary).replace("IMAGE", image::NAME);
        let config = config.replace("SYSTEMD", &systemd.to_string());
        fs::write(place.dir().join("config.toml"), config).expect("write");
        let mut this = Self { place, daemon: None, path };
        this.start_daemon();
        let archive = image::archive(this.place.dir());
        let archive = archive.to_str().expect("utf-8");
        for namespace in ["default", "k8s.io"] {
            this.ctr(&["--namespace", namespace, "images", "import", archive]).exits(0);
        }
        this
    }

    /// Starts the daemon.
    pub fn start_daemon(&mut self) {
        let config = self.place.path("config.toml");
        let log = self.place.path("log");
        let ready = || self.call(&["version"]).done().code == 0;
        let path = self.path.iter().map(|path| format!("PATH={path}")).collect::<Vec<_>>();
        let mut words = vec!["env"];
        words.extend(path.iter().map(String::as_str));
        words.extend(["containerd", "--config", &config]);
        self.daemon = Some(Daemon::start(&words, &log, ready));
    }

    /// Stops the daemon; containers live on.
    pub fn stop_daemon(&mut self) {
        self.daemon = None;
    }

    /// The socket, for gRPC.
    pub fn socket(&self) -> String {
        self.place.path("sock")
    }

    /// `ctr WORDS...`
    pub fn call(&self, words: &[&str]) -> Call {
        let socket = self.socket();
        self.place.call(&[&["ctr", "--address", &socket][..], words].concat())
    }

    /// `ctr WORDS...`, to its end.
    pub fn ctr(&self, words: &[&str]) -> Outcome {
        self.call(words).done()
    }

    /// `ctr run OPTIONS... IMAGE NAME COMMAND...`
    pub fn run_call(&self, options: &[&str], name: &str, command: &[&str]) -> Call {
        let cgroup = format!("{}/{name}", self.place.cgroup());
        let (binary, root) = (runtime().path.to_str().expect("utf-8"), self.place.path("runtime"));
        let all = ["run", "--runc-binary", binary, "--runc-root", &root, "--cgroup", &cgroup];
        self.call(&[&all[..], options, &[image::NAME, name], command].concat())
    }

    /// `ctr run --rm OPTIONS... IMAGE COMMAND...`, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.run_call(&[&["--rm"], options].concat(), "once", command).done()
    }

    /// The output of a script in a new container, which must succeed.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script]).ok().out
    }

    /// Starts a container of this name that waits until it is killed, and ends with 3 at once when
    /// it gets a TERM.
    #[track_caller]
    pub fn sleeper(&self, name: &str, options: &[&str]) {
        let script = "trap 'exit 3' TERM; while :; do sleep 0.05; done";
        let detached = [&["--detach"], options].concat();
        self.run_call(&detached, name, &["sh", "-c", script]).done().ok();
    }

    /// `ctr task exec OPTIONS... NAME COMMAND...`, to its end.
    pub fn exec(&self, options: &[&str], name: &str, command: &[&str]) -> Outcome {
        self.exec_call(options, name, command).done()
    }

    /// `ctr task exec OPTIONS... NAME COMMAND...`
    pub fn exec_call(&self, options: &[&str], name: &str, command: &[&str]) -> Call {
        let all = [&["task", "exec", "--exec-id", "e"], options, &[name], command].concat();
        self.call(&all)
    }

    /// What containerd says of a container's task: its pid and its state, such as `12 RUNNING`.
    #[track_caller]
    pub fn task(&self, name: &str) -> String {
        let list = self.ctr(&["task", "list"]).ok().out;
        let mut words = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = words.find(|words| words.first() == Some(&name));
        found.map(|words| words[1..].join(" ")).unwrap_or_default()
    }

    /// Removes a container and its task, by force.
    pub fn remove(&self, name: &str) {
        self.ctr(&["task", "delete", "--force", name]);
        self.ctr(&["container", "delete", name]);
    }

    /// Asserts that nothing of any container is there: no process, no cgroup, no mount, no state.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let mut left = self.place.left("containerd --config");
        for namespace in fs::read_dir(self.place.path("runtime")).into_iter().flatten().flatten() {
            left.extend(files(&namespace.path()));
        }
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| format!("state {}", entry.path().display())).collect()
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for name in self.ctr(&["container", "list", "--quiet"]).lines() {
            self.remove(name);
        }
        self.stop_daemon();
        if !std::thread::panicking() {
            self.assert_nothing_left();
        }
        self.place.sweep();
    }
}
