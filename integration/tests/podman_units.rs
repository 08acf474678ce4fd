//! podman and systemd hand in hand: units of quadlet, timers of health checks, systemd in the
//! container. As root, or as an unprivileged user in his session.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::podman::IMAGE;
use integration::runtime::runtime;
use integration::systemd::{Environment, is_root, order, property, systemctl};
use integration::*;

/// How long units may take to do what they are for.
const WHILE: Duration = Duration::from_secs(20);

/// A unit's file where the generator looks for it.
struct Quadlet {
    file: PathBuf,
    service: String,
}

impl Quadlet {
    fn new(name: &str, text: &str) -> Self {
        let run = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
        let run = if is_root() { "/run" } else { &run };
        let dir = PathBuf::from(run).join("containers/systemd");
        fs::create_dir_all(&dir).expect("mkdir");
        let file = dir.join(format!("{name}.container"));
        fs::write(&file, text).expect("write");
        order(&["daemon-reload"]);
        Self { file, service: format!("{name}.service") }
    }
}

impl Drop for Quadlet {
    fn drop(&mut self) {
        systemctl(&["stop", &self.service]);
        systemctl(&["reset-failed", &self.service]);
        let _ = fs::remove_file(&self.file);
        systemctl(&["daemon-reload"]);
    }
}

#[test]
fn a_unit_of_quadlet() {
    let p = podman_with_systemd!();
    let environment = Environment::give(&p.environment());
    let name = unique();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let text = format!(
        "[Container]\nImage={IMAGE}\nContainerName=q\nNetwork=none\nPull=never\n\
         PodmanArgs=--memory=64m\nExec=sh -c \"{script}\"\n\
         [Service]\nTimeoutStartSec=120\n"
    );
    let unit = Quadlet::new(&name, &text);
    order(&["start", &unit.service]);
    assert_eq!(property(&unit.service, "ActiveState"), "active");
    assert_eq!(p.inspect("q", "{{.OCIRuntime}}"), runtime().name);
    let pid = p.inspect("q", "{{.State.Pid}}");
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    // `--cgroups=split`: conmon and container are in sub-cgroups of the service.
    assert!(cgroup.contains(&format!("/{}/libpod-payload", unit.service)), "{cgroup}");
    assert_eq!(p.exec(&[], "q", &["cat", "/sys/fs/cgroup/memory.max"]).ok().out, "67108864\n");
    order(&["stop", &unit.service]);
    assert_eq!(property(&unit.service, "Result"), "success");
    assert_eq!(p.podman(&["ps", "--all", "--quiet"]).ok().out, "");
    drop((unit, environment));
}

#[test]
fn timers_of_health_checks() {
    let p = podman_with_systemd!();
    let environment = Environment::give(&p.environment());
    let health =
        ["--health-cmd", "test -e /well", "--health-interval", "2s", "--health-retries", "1"];
    let run = [&["run", "-d", "--name", "x"], &health[..], &[IMAGE, "sleep", "1000"]].concat();
    p.podman(&run).exits(0);
    let timers = format!("{}*.timer", p.inspect("x", "{{.Id}}"));
    let timers = || systemctl(&["list-units", "--all", "--plain", "--no-legend", &timers]);
    assert!(!timers().is_empty(), "no timer");
    let until = |status: &str| {
        let is = || (p.inspect("x", "{{.State.Health.Status}}") == status).then_some(());
        let seen = call::within(WHILE, is);
        assert!(seen.is_some(), "not {status}: {}", p.inspect("x", "{{json .State.Health}}"));
    };
    until("unhealthy");
    p.exec(&[], "x", &["touch", "/well"]).ok();
    until("healthy");
    p.podman(&["rm", "--force", "--time", "0", "x"]).exits(0);
    assert!(call::within(WHILE, || timers().is_empty().then_some(())).is_some(), "{}", timers());
    drop(environment);
}

#[test]
fn systemd_inside() {
    let p = podman_with_systemd!();
    skip_if!(systemd_root::missing());
    let root = p.path("systemd-root");
    systemd_root::make(root.as_ref());
    let options = ["--systemd=always", "--volume", "/usr:/usr:ro", "--rootfs", &root];
    let run = [&["run", "-d", "--name", "x"], &options[..], &systemd_root::COMMAND].concat();
    p.podman(&run).exits(0);
    let active = || {
        let seen = p.exec(&[], "x", &["systemctl", "is-active", "tested.service"]);
        (seen.out == "active\n").then_some(())
    };
    let up = call::within(WHILE, active);
    assert!(up.is_some(), "{:?}", p.podman(&["logs", "x"]));
    let seen = p.exec(&[], "x", &["cat", "/run/tested", "/proc/1/cgroup"]).ok().out;
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].ends_with("/system.slice/tested.service"), "{seen}");
    assert!(lines[1].ends_with("/init.scope"), "{seen}");
    // podman sends what systemd takes for a wish to end.
    p.podman(&["stop", "--time", "60", "x"]).exits(0);
    assert_ne!(p.inspect("x", "{{.State.ExitCode}}"), "137");
}
