//! `docker checkpoint` and `docker start --checkpoint`.

use integration::docker::Docker;
use integration::*;

/// A daemon with CRIU, or the end of the test.
macro_rules! docker_with_criu {
    () => {{
        criu!();
        skip_if!(fixture::missing(&docker::PROGRAMS));
        Docker::with_criu()
    }};
}

/// Starts a container that counts in memory.
fn counter(d: &Docker) {
    d.start("box", &[], &["sh", "-c", checkpoint::COUNTER]);
}

/// Waits until it has counted further than this, and returns how far.
#[track_caller]
fn counts_beyond(d: &Docker, number: usize) -> usize {
    let counted = || {
        let said = d.exec(&[], "box", &["tail", "-n", "1", "/dev/shm/n"]);
        said.out.trim().parse().ok().filter(|counted| *counted > number)
    };
    let more = call::within(call::DEADLINE, counted);
    more.unwrap_or_else(|| {
        panic!("it stands still at {number}: {:?}", d.docker(&["inspect", "box"]))
    })
}

/// Starts the container from its checkpoint. docker stores it in containerd, and is refused where
/// containerd has not got rid of the same bytes of `checkpoint create` yet.
#[track_caller]
fn start_from(d: &Docker, name: &str) {
    let start = || Some(d.docker(&["start", "--checkpoint", name, "box"]));
    let is_early = |said: &Outcome| said.err.contains("already exists");
    let said = call::within(call::DEADLINE, || start().filter(|said| !is_early(said)));
    said.expect("containerd keeps the bytes").ok();
}

#[test]
fn it_goes_on_where_it_was() {
    let d = docker_with_criu!();
    counter(&d);
    let before = counts_beyond(&d, 3);
    d.docker(&["checkpoint", "create", "box", "one"]).ok();
    d.wait("box");
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "exited");
    assert_eq!(d.docker(&["checkpoint", "ls", "box"]).ok().out, "CHECKPOINT NAME\none\n");
    start_from(&d, "one");
    let after = counts_beyond(&d, before);
    assert!(after < before + 500, "{before} {after}");
    d.docker(&["stop", "--time", "0", "box"]).ok();
    d.docker(&["start", "box"]).ok();
    counts_beyond(&d, 0);
}

#[test]
fn it_runs_on_if_it_is_left_running() {
    let d = docker_with_criu!();
    counter(&d);
    let before = counts_beyond(&d, 3);
    d.docker(&["checkpoint", "create", "--leave-running", "box", "one"]).ok();
    counts_beyond(&d, before);
    d.docker(&["checkpoint", "create", "--leave-running", "box", "two"]).ok();
    d.docker(&["checkpoint", "rm", "box", "one"]).ok();
    assert_eq!(d.docker(&["checkpoint", "ls", "box"]).ok().out, "CHECKPOINT NAME\ntwo\n");
}

/// Docker shows what the runtime has said.
#[test]
fn what_cannot_be_checkpointed_is_named() {
    let d = docker_with_criu!();
    let script = "exec 9</dev/fuse; echo 1 >/dev/shm/n; tail -f /dev/null";
    let options = ["--device", "/dev/fuse"];
    d.start("box", &options, &["sh", "-c", script]);
    counts_beyond(&d, 0);
    let said = d.docker(&["checkpoint", "create", "box", "one"]).fails();
    let own: &[&str] = if runtime::runtime().is_davit() { &["/dev/fuse"] } else { &[] };
    said.says(&[&["checkpoint"], own].concat());
    assert_eq!(d.inspect("box", "{{.State.Status}}"), "running");
}
