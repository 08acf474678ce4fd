//! dockerd with the runtime under test: a daemon of its own for each test, with its own containerd.

use serde_json::json;

use crate::call::{Call, Outcome, within};
use crate::fixture::{Daemon, EngineFixture};
use crate::runtime::runtime;
use crate::{call, capture, checkpoint, image, limits};

/// What the image is called.
pub const IMAGE: &str = "busybox";

/// The programs that it needs.
pub const PROGRAMS: [&str; 5] = ["dockerd", "docker", "containerd", "setpriv", "tar"];

/// dockerd, and the image in it.
#[derive(Debug)]
pub struct Docker {
    place: EngineFixture,
    daemon: Daemon,
}

/// Makes a [`Docker`], or ends the test where docker or the runtime cannot run.
#[macro_export]
macro_rules! docker {
    () => {{
        $crate::spec!();
        $crate::skip_if!($crate::fixture::missing(&$crate::docker::PROGRAMS));
        $crate::docker::Docker::new()
    }};
}

impl Default for Docker {
    fn default() -> Self {
        Self::new()
    }
}

impl Docker {
    /// A daemon with the image.
    pub fn new() -> Self {
        Self::called_by(&[])
    }

    /// The same with CRIU in its PATH.
    pub fn with_criu() -> Self {
        Self::called_by(&["env", &format!("PATH={}", checkpoint::path())])
    }

    fn called_by(caller: &[&str]) -> Self {
        let place = EngineFixture::new();
        // The name `runc` is taken.
        let runtimes = json!({
            "runtimes": {
                "tested": { "path": runtime().path },
                "captured": { "path": capture::script(place.dir()) },
            },
            // Where systemd runs dockerd would have it make the cgroups; podman and containerd are
            // asked for that.
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            // Checkpoints are.
            "experimental": true,
        });
        let (cgroup, host) = (place.cgroup(), format!("unix://{}", place.path("sock")));
        let [config, data, exec, pid, log] =
            ["config.json", "data", "exec", "pid", "log"].map(|name| place.path(name));
        std::fs::write(&config, runtimes.to_string()).expect("write");
        let daemon = [
            caller,
            &["dockerd", "--config-file", &config, "--data-root", &data, "--exec-root", &exec],
            &["--pidfile", &pid, "--host", &host, "--group", "0", "--cgroup-parent", &cgroup][..],
            &["--default-runtime", "tested"],
            &["--bridge", "none", "--iptables=false", "--ip6tables=false"],
        ]
        .concat();
        let ready = || place.call(&["docker", "--host", &host, "version"]).done().code == 0;
        let daemon = Daemon::start(&daemon, &log, ready);
        let this = Self { place, daemon };
        let layer = image::layer(this.place.dir());
        let environment = "ENV PATH=/bin";
        let layer = layer.to_str().expect("utf-8");
        this.docker(&["import", "--change", environment, layer, IMAGE]).ok();
        this
    }

    /// A path in this test's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.place.path(name)
    }

    /// This test's directory.
    pub fn dir(&self) -> &std::path::Path {
        self.place.dir()
    }

    /// Another program, called in this test's directory.
    pub fn program(&self, words: &[&str]) -> Call {
        self.place.call(words)
    }

    /// `docker WORDS...`
    pub fn call(&self, words: &[&str]) -> Call {
        let host = format!("unix://{}", self.path("sock"));
        let all = [&["docker", "--config", "no-config", "--host", &host], words].concat();
        self.place.call(&all)
    }

    /// `docker WORDS...`, to its end.
    pub fn docker(&self, words: &[&str]) -> Outcome {
        self.call(words).done()
    }

    /// `docker run OPTIONS... IMAGE COMMAND...`
    pub fn run_call(&self, options: &[&str], command: &[&str]) -> Call {
        self.call(&[&["run"], options, &[IMAGE], command].concat())
    }

    /// `docker run --rm OPTIONS... IMAGE COMMAND...`, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.run_call(&[&["--rm"], options].concat(), command).done()
    }

    /// The output of a script in a new container, which must succeed.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script]).ok().out
    }

    /// Starts a container of this name in the background.
    #[track_caller]
    pub fn start(&self, name: &str, options: &[&str], command: &[&str]) {
        let options = [&["--detach", "--name", name], options].concat();
        let id = self.run_call(&options, command).done().ok().out;
        assert_eq!(id.trim().len(), 64, "run -d prints the id: {id:?}");
    }

    /// Starts a container of this name that waits until it is killed, and ends with 3 at once when
    /// it gets a TERM.
    #[track_caller]
    pub fn sleeper(&self, name: &str, options: &[&str]) {
        let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
        self.start(name, options, &["sh", "-c", script]);
        let ready = || (self.docker(&["logs", name]).out == "ready\n").then_some(());
        assert!(within(call::DEADLINE, ready).is_some(), "{name} is not ready");
    }

    /// `docker exec OPTIONS... NAME COMMAND...`, to its end.
    pub fn exec(&self, options: &[&str], name: &str, command: &[&str]) -> Outcome {
        self.docker(&[&["exec"], options, &[name], command].concat())
    }

    /// What `docker inspect --format TEMPLATE` says of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.docker(&["inspect", "--format", template, name]).ok().out.trim_end().to_owned()
    }

    /// A file of a container's cgroup, named as in cgroup v1; on a pure v2 host its counterpart.
    #[track_caller]
    pub fn cgroup_file(&self, name: &str, controller: &str, file: &str) -> String {
        let id = self.inspect(name, "{{.Id}}");
        limits::file_of(&format!("{}/{id}", self.place.cgroup()), controller, file)
    }

    /// Waits until `docker inspect --format TEMPLATE` says this of a container.
    #[track_caller]
    pub fn until(&self, name: &str, template: &str, expected: &str) {
        let said = || (self.inspect(name, template) == expected).then_some(());
        let found = within(call::DEADLINE, said);
        assert!(found.is_some(), "{}", self.inspect(name, "{{json .State}} {{.RestartCount}}"));
    }

    /// Waits for the end of a container and returns its exit code.
    #[track_caller]
    pub fn wait(&self, name: &str) -> i32 {
        self.docker(&["wait", name]).ok().out.trim().parse().expect("a number")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "--all", "--quiet"]).out;
        for id in all.lines() {
            self.docker(&["rm", "--force", id]);
        }
        self.daemon.stop();
        // dockerd leaves the mount of its own network namespace behind.
        let own = self.path("exec/netns/default");
        let _ = nix::mount::umount2(own.as_str(), nix::mount::MntFlags::MNT_DETACH);
        let left =
            if std::thread::panicking() { Vec::new() } else { self.place.left("dockerd --config") };
        self.place.sweep();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
