//! podman as an ordinary user with a session of his own, whose systemd makes the cgroups.

use std::path::Path;
use std::process::Command;

use integration::podman::{self, IMAGE, Podman};
use integration::*;

/// Makes a [`Podman`] in the session of the user who runs the test, or ends the test where there is none.
macro_rules! session {
    () => {{
        pure_v2!();
        skip_if!(nix::unistd::geteuid().is_root().then_some("needs an ordinary user"));
        let run = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
        let bus = Path::new(&run).join("bus");
        skip_if!((!bus.exists()).then_some("needs a session with a systemd of the user"));
        skip_if!(podman::missing_for_users());
        Podman::in_session()
    }};
}

fn property(unit: &str, name: &str) -> String {
    let words = ["--user", "show", unit, "--value", "-p", name];
    let output = Command::new("systemctl").args(words).output().expect("systemctl");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn podman(p: &Podman, words: &[&str]) -> Outcome {
    p.podman(&[&["--cgroup-manager=systemd"], words].concat())
}

#[test]
fn a_scope_with_limits() {
    let p = session!();
    let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let run = [&["run", "-d", "--name", "x"], &limits[..], &[IMAGE, "sh", "-c", script]];
    podman(&p, &run.concat()).exits(0);
    let unit = format!("libpod-{}.scope", p.inspect("x", "{{.Id}}"));
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    assert_eq!(property(&unit, "TasksMax"), "50");
    assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "500ms");
    let files = ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"];
    let seen = podman(&p, &[&["exec", "x"], &files[..]].concat());
    assert_eq!(seen.exits(0).out, "67108864\n50\n");
    podman(&p, &["update", "--memory", "128m", "x"]).exits(0);
    assert_eq!(property(&unit, "MemoryMax"), "134217728");
    podman(&p, &["pause", "x"]).exits(0);
    podman(&p, &["unpause", "x"]).exits(0);
    podman(&p, &["stop", "--time", "20", "x"]).exits(0);
    assert_eq!(p.inspect("x", "{{.State.ExitCode}}"), "4");
    podman(&p, &["rm", "x"]).exits(0);
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn output_and_codes() {
    let p = session!();
    let script = "echo out; echo err >&2; exit 7";
    let run = podman(&p, &["run", "--rm", IMAGE, "sh", "-c", script]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
}
