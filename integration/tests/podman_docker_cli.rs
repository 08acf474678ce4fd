//! The docker CLI on podman's socket: it writes 0 for every limit that the user did not set.

use std::path::Path;
use std::time::Duration;

use integration::call::{Running, within};
use integration::limits::file_of;
use integration::podman::{IMAGE, Podman};
use integration::*;
use nix::sys::signal::Signal;

/// How long podman may take to listen.
const TIMEOUT: Duration = Duration::from_secs(20);

/// `podman system service`.
struct Service {
    running: Option<Running>,
    podman: Podman,
}

impl Service {
    fn new(podman: Podman) -> Self {
        let socket = podman.path("api.sock");
        let words = ["system", "service", "--time", "0", &format!("unix://{socket}")];
        let running = podman.call(&words).within(Duration::from_secs(300)).spawn();
        let up = within(TIMEOUT, || Path::new(&socket).exists().then_some(()));
        assert!(up.is_some(), "podman does not listen");
        Self { running: Some(running), podman }
    }

    /// `docker WORDS...`
    fn docker(&self, words: &[&str]) -> Outcome {
        let host = format!("unix://{}", self.podman.path("api.sock"));
        let all = [&["docker", "--config", "no-config", "--host", &host], words].concat();
        self.podman.on_the_host(&all).done()
    }

    /// `docker run OPTIONS... IMAGE sh -c SCRIPT`, without a network.
    fn run(&self, options: &[&str], script: &str) -> Outcome {
        let parent = self.podman.cgroup_parent();
        let before = ["run", "--network", "none", &parent];
        self.docker(&[&before, options, &[IMAGE, "sh", "-c", script]].concat())
    }

    fn limit(&self, name: &str, controller: &str, file: &str) -> String {
        let id = self.podman.inspect(name, "{{.Id}}");
        let parent = self.podman.cgroup_parent();
        let parent = parent.split_once('=').expect("a parent").1;
        file_of(&format!("{parent}/libpod-{id}"), controller, file)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGTERM);
            running.wait();
        }
    }
}

macro_rules! service {
    () => {{
        let podman = podman!();
        skip_if!(fixture::missing(&["docker"]));
        Service::new(podman)
    }};
}

/// C2: `pids.limit: 0` is among what it writes.
#[test]
fn a_container_with_default_options() {
    let s = service!();
    let run = s.run(&["--rm"], "true | echo forked");
    assert_eq!((run.code, run.out.as_str()), (0, "forked\n"), "{run:#?}");
    s.run(&["--detach", "--name", "box"], "while :; do sleep 0.05; done").exits(0);
    let exec = s.docker(&["exec", "box", "sh", "-c", "true | echo forked too"]);
    assert_eq!((exec.code, exec.out.as_str()), (0, "forked too\n"), "{exec:#?}");
    assert_eq!(s.limit("box", "pids", "pids.max"), "max");
    s.docker(&["rm", "--force", "box"]).exits(0);
}

#[test]
fn a_container_with_limits() {
    let s = service!();
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpu-shares", "512"];
    s.run(&[&["--detach", "--name", "box"], &limits[..]].concat(), "exec sleep 60").exits(0);
    assert_eq!(s.limit("box", "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert_eq!(s.limit("box", "pids", "pids.max"), "50");
    let shares = if host::has_cgroup_v1() { "512" } else { "59" };
    assert_eq!(s.limit("box", "cpu", "cpu.shares"), shares);
    s.docker(&["rm", "--force", "box"]).exits(0);
}
