//! The runtime under containerd's CRI plugin, called as a kubelet calls it: a pod with two
//! containers.
//!
//! The numbers are those of the fields in Kubernetes' `runtime/v1/api.proto`.

use std::path::Path;
use std::process::Command;
use std::{fs, time};

use integration::containerd::Containerd;
use integration::systemd::property;
use integration::*;

const CLIENT: &str = include_str!("../src/cri.py");

/// Debian's, which has Debian's gRPC.
const PYTHON: &str = "/usr/bin/python3";

/// The pod of a test.
struct Pod {
    config: Value,
    id: String,
}

#[test]
fn a_pod_with_two_containers() {
    spec!();
    skip_if!(no_grpc());
    let d = containerd!();
    fs::write(d.place.path("cri.py"), CLIENT).expect("write");
    let pod = run_pod(&d, &d.place.cgroup());
    let quick = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let (one, two) = (start(&d, &pod, "one", quick), start(&d, &pod, "two", stubborn));

    let exec = cri(
        &d,
        "ExecSync",
        json!({ "1": one, "2": ["sh", "-c", "echo out; echo err >&2; exit 4"], "3": 10 }),
    );
    assert_eq!(exec, json!({ "1": "out\n", "2": "err\n", "3": 4 }));
    // Both are in the namespaces of the pod, and each in its own file system.
    let seen = |id: &str| {
        let script = "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; hostname";
        cri(&d, "ExecSync", json!({ "1": id, "2": ["sh", "-c", script], "3": 10 }))["1"].clone()
    };
    assert_eq!(seen(&one), seen(&two));

    let limit = || memory_limit(&d, &one);
    assert_eq!(limit(), "67108864");
    cri(&d, "UpdateContainerResources", json!({ "1": one, "2": { "3": 512, "4": 33_554_432 } }));
    assert_eq!(limit(), "33554432");

    cri(&d, "StopContainer", json!({ "1": one, "2": 20 }));
    assert_eq!(state(&d, &one), (2, 3), "it ended by itself");
    let before = time::Instant::now();
    cri(&d, "StopContainer", json!({ "1": two, "2": 1 }));
    assert!(before.elapsed() >= time::Duration::from_secs(1), "the grace period");
    assert_eq!(state(&d, &two), (2, 137));

    cri(&d, "RemoveContainer", json!({ "1": one }));
    cri(&d, "StopPodSandbox", json!({ "1": pod.id }));
    cri(&d, "RemovePodSandbox", json!({ "1": pod.id }));
    d.assert_nothing_left();
}

#[test]
fn a_container_that_cannot_start() {
    spec!();
    skip_if!(no_grpc());
    let d = containerd!();
    fs::write(d.place.path("cri.py"), CLIENT).expect("write");
    let pod = run_pod(&d, &d.place.cgroup());
    let id = create(&d, &pod, "missing", json!(["nosuch"]));
    let said = call(&d, "StartContainer", json!({ "1": id }), &[]).fails();
    assert!(said.err.contains("exec: \"nosuch\": executable file not found in $PATH"), "{said:?}");
    cri(&d, "StopPodSandbox", json!({ "1": pod.id }));
    cri(&d, "RemovePodSandbox", json!({ "1": pod.id }));
    d.assert_nothing_left();
}

/// As a kubelet does it for `POST /checkpoint/NAMESPACE/POD/CONTAINER`: the container runs on. To
/// make a container of the archive, containerd pulls the image of the former one.
#[test]
fn a_checkpoint_is_an_archive() {
    criu!();
    skip_if!(no_grpc());
    skip_if!(integration::fixture::missing(&["containerd", "containerd-shim-runc-v2", "ctr"]));
    let d = Containerd::with_criu();
    fs::write(d.place.path("cri.py"), CLIENT).expect("write");
    let archive = d.place.path("archive.tar");
    let checkpoint =
        |id: &str| call(&d, "CheckpointContainer", json!({ "1": id, "2": archive, "3": 60 }), &[]);
    let unknown = checkpoint("nosuch").err.contains("not implemented");
    skip_if!(unknown.then_some("this containerd has no CheckpointContainer"));
    let pod = run_pod(&d, &d.place.cgroup());
    let one = start(&d, &pod, "one", checkpoint::COUNTER);
    let before = counts_beyond(&d, &one, 3);
    checkpoint(&one).ok();
    counts_beyond(&d, &one, before);
    let files = d.place.call(&["tar", "-tf", &archive]).done().ok().out;
    for file in ["inventory.img", "davit.json"] {
        let is_there = files.lines().any(|line| line.ends_with(&format!("/{file}")));
        assert!(is_there || !runtime::runtime().is_davit(), "{files}");
    }
    cri(&d, "StopContainer", json!({ "1": one, "2": 0 }));
    cri(&d, "StopPodSandbox", json!({ "1": pod.id }));
    cri(&d, "RemovePodSandbox", json!({ "1": pod.id }));
    d.assert_nothing_left();
}

/// Waits until a container has counted further than this, and returns how far.
#[track_caller]
fn counts_beyond(d: &Containerd, id: &str, number: usize) -> usize {
    let request = json!({ "1": id, "2": ["tail", "-n", "1", "/dev/shm/n"], "3": 10 });
    let counted = || {
        let said = cri(d, "ExecSync", request.clone());
        let counted = said["1"].as_str().and_then(|said| said.trim().parse().ok());
        counted.filter(|counted| *counted > number)
    };
    let more = call::within(call::DEADLINE, counted);
    more.unwrap_or_else(|| panic!("it stands still at {number}: {:?}", state(d, id)))
}

/// As a kubelet with `cgroupDriver: systemd` does it: the parent is a slice, and each container a
/// scope in it.
#[test]
fn scopes_of_systemd() {
    spec!();
    systemd!();
    skip_if!(no_grpc());
    skip_if!(integration::fixture::missing(&["containerd", "containerd-shim-runc-v2", "ctr"]));
    let d = Containerd::with_cgroups_of_systemd(true);
    fs::write(d.place.path("cri.py"), CLIENT).expect("write");
    let pod = run_pod(&d, "test.slice");
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let one = start(&d, &pod, "one", script);
    let unit = format!("cri-containerd-{one}.scope");
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), "test.slice");
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    cri(&d, "UpdateContainerResources", json!({ "1": one, "2": { "3": 512, "4": 33_554_432 } }));
    assert_eq!(property(&unit, "MemoryMax"), "33554432");
    let exec = json!({ "1": one, "2": ["cat", "/sys/fs/cgroup/memory.max"], "3": 10 });
    assert_eq!(cri(&d, "ExecSync", exec)["1"], "33554432\n");
    cri(&d, "StopContainer", json!({ "1": one, "2": 20 }));
    assert_eq!(state(&d, &one), (2, 3), "it ended by itself");
    cri(&d, "RemoveContainer", json!({ "1": one }));
    cri(&d, "StopPodSandbox", json!({ "1": pod.id }));
    cri(&d, "RemovePodSandbox", json!({ "1": pod.id }));
    assert_eq!(property(&unit, "LoadState"), "not-found");
    d.assert_nothing_left();
}

fn no_grpc() -> Option<&'static str> {
    let imported = Command::new(PYTHON).args(["-c", "import grpc"]).output();
    let found = Path::new(PYTHON).exists() && imported.is_ok_and(|done| done.status.success());
    (!found).then_some("python3-grpcio is not installed")
}

/// A sandbox on the host's network, which needs no CNI.
fn run_pod(d: &Containerd, cgroup: &str) -> Pod {
    let name = json!({ "1": "pod", "2": d.place.name, "3": "default" });
    let security = json!({ "1": { "1": 2, "2": 1 } });
    let config = json!({ "1": name, "8": { "1": cgroup, "2": security } });
    let answer = cri(d, "RunPodSandbox", json!({ "1": config }));
    Pod { config, id: text(&answer["1"]) }
}

fn create(d: &Containerd, pod: &Pod, name: &str, command: Value) -> String {
    let linux = json!({ "1": { "4": 67_108_864 }, "2": { "3": { "1": 2, "2": 1 } } });
    let config = json!({
        "1": { "1": name },
        "2": { "1": image::NAME },
        "3": command,
        "15": linux,
    });
    let request = json!({ "1": pod.id, "2": config, "3": pod.config });
    text(&cri(d, "CreateContainer", request)["1"])
}

fn start(d: &Containerd, pod: &Pod, name: &str, script: &str) -> String {
    let id = create(d, pod, name, json!(["sh", "-c", script]));
    cri(d, "StartContainer", json!({ "1": id }));
    assert_eq!(state(d, &id), (1, 0), "it runs");
    id
}

/// A container's state (1: running, 2: exited) and exit code.
fn state(d: &Containerd, id: &str) -> (u64, u64) {
    let status = call(d, "ContainerStatus", json!({ "1": id }), &["1"]).ok().json();
    let number = |field: &str| status[field].as_u64().unwrap_or_default();
    (number("3"), number("7"))
}

/// What the kernel says of a container's limit.
fn memory_limit(d: &Containerd, id: &str) -> String {
    let cgroups = leftovers::cgroups(&d.place.name);
    let limits = ["memory.limit_in_bytes", "memory.max"];
    let files = cgroups
        .iter()
        .filter(|path| path.ends_with(id))
        .flat_map(|path| limits.map(|file| path.join(file)));
    let mut found = files.filter_map(|file| fs::read_to_string(file).ok());
    found.next().expect("a limit").trim().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// One call of the service, which must succeed.
#[track_caller]
fn cri(d: &Containerd, method: &str, request: Value) -> Value {
    call(d, method, request, &[]).ok().json()
}

fn call(d: &Containerd, method: &str, request: Value, path: &[&str]) -> Outcome {
    let (client, socket, request) = (d.place.path("cri.py"), d.socket(), request.to_string());
    let words = [&[PYTHON, &client, &socket, method, &request], path].concat();
    d.place.call(&words).done()
}
