//! podman with the systemd cgroup manager, as it is on most machines.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration::podman::{IMAGE, PAUSE};
use integration::*;

/// Ends the test where podman cannot ask systemd for cgroups.
macro_rules! with_systemd {
    () => {
        skip_if!(
            (!Path::new("/run/systemd/system").is_dir()).then_some("needs systemd as process 1")
        );
        pure_v2!();
        skip_if!(host::missing_controllers());
    };
}

fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", unit, "--value", "-p", name]).output();
    String::from_utf8_lossy(&output.expect("systemctl").stdout).trim_end().to_owned()
}

/// podman with the systemd cgroup manager.
fn podman(p: &podman::Podman, words: &[&str]) -> Outcome {
    let all: Vec<&str> = ["--cgroup-manager=systemd"].iter().chain(words).copied().collect();
    p.podman(&all)
}

fn scope(p: &podman::Podman, name: &str) -> String {
    format!("libpod-{}.scope", p.inspect(name, "{{.Id}}"))
}

fn cgroup(unit: &str) -> PathBuf {
    let path = property(unit, "ControlGroup");
    Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
}

#[test]
fn a_life() {
    let p = podman!();
    with_systemd!();
    let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    let options =
        ["run", "-d", "--name", "x", "--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    podman(&p, &[&options[..], &[IMAGE, "sh", "-c", script]].concat()).exits(0);
    let unit = scope(&p, "x");
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), "machine.slice");
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    assert_eq!(property(&unit, "TasksMax"), "50");
    assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "500ms");
    let seen =
        podman(&p, &["exec", "x", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"]);
    assert_eq!(seen.exits(0).out, "67108864\n50\n");
    podman(&p, &["update", "--memory", "128m", "x"]).exits(0);
    assert_eq!(property(&unit, "MemoryMax"), "134217728");
    assert!(cgroup(&unit).join("memory.max").exists());
    podman(&p, &["pause", "x"]).exits(0);
    podman(&p, &["unpause", "x"]).exits(0);
    podman(&p, &["stop", "--time", "20", "x"]).exits(0);
    assert_eq!(p.inspect("x", "{{.State.ExitCode}}"), "4");
    assert_ne!(property(&unit, "ActiveState"), "active");
    podman(&p, &["rm", "x"]).exits(0);
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
fn output_and_codes() {
    let p = podman!();
    with_systemd!();
    let run =
        podman(&p, &["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("out\n", "err\n"));
    podman(&p, &["run", "--rm", IMAGE, "nosuch"]).exits(127);
    podman(&p, &["run", "--rm", IMAGE, "/etc"]).exits(126);
}

#[test]
fn a_pod() {
    let p = podman!();
    with_systemd!();
    let pause = format!("{PAUSE} -P");
    let pod = ["pod", "create", "--name", "pod", "--network", "none", "--infra-command", &pause];
    podman(&p, &pod).exits(0);
    let run =
        ["run", "-d", "--pod", "pod", "--name", "x", "--memory", "64m", IMAGE, "sleep", "1000"];
    podman(&p, &run).exits(0);
    let unit = scope(&p, "x");
    let slice = property(&unit, "Slice");
    assert!(slice.starts_with("machine-libpod_pod_") && slice.ends_with(".slice"), "{slice}");
    assert!(cgroup(&unit).join("memory.max").exists());
    podman(&p, &["pod", "rm", "--force", "--time", "0", "pod"]).exits(0);
    assert_eq!(property(&unit, "LoadState"), "not-found");
}
