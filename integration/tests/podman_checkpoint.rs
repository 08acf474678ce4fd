//! `podman container checkpoint` and `restore`.

use std::fs;
use std::path::Path;

use integration::checkpoint::path;
use integration::podman::Podman;
use integration::*;

/// Counts in memory and in the log.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >>/dev/shm/n; echo $i; sleep 0.05; done";

fn counter(p: &Podman, name: &str, options: &[&str]) {
    p.start(name, options, &["sh", "-c", COUNTER]);
}

/// podman with CRIU in its PATH.
fn podman(p: &Podman, words: &[&str]) -> Outcome {
    p.call(words).env("PATH", path()).done()
}

fn checkpoint(p: &Podman, words: &[&str]) -> Outcome {
    podman(p, &[&["container", "checkpoint"], words].concat()).exits(0)
}

fn restore(p: &Podman, words: &[&str]) -> Outcome {
    podman(p, &[&["container", "restore"], words].concat()).exits(0)
}

#[track_caller]
fn counted(p: &Podman, name: &str) -> usize {
    let said = p.exec(&[], name, &["tail", "-n", "1", "/dev/shm/n"]);
    said.out.trim().parse().unwrap_or(0)
}

#[track_caller]
fn counts_beyond(p: &Podman, name: &str, number: usize) -> usize {
    let more =
        call::within(call::DEADLINE, || Some(counted(p, name)).filter(|counted| *counted > number));
    more.unwrap_or_else(|| {
        panic!("{name} stands still at {number}: {:?}", p.podman(&["logs", name]))
    })
}

#[track_caller]
fn status(p: &Podman, name: &str) -> String {
    p.inspect(name, "{{.State.Status}} {{.State.Checkpointed}}")
}

#[test]
fn it_goes_on_where_it_was() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let before = counts_beyond(&p, "c", 3);
    checkpoint(&p, &["c"]);
    assert_eq!(status(&p, "c"), "exited true");
    p.assert_nothing_left();
    restore(&p, &["c"]);
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");
    let after = counts_beyond(&p, "c", before);
    assert!(after < before + 100, "{before} {after}");
}

#[test]
fn again_and_again() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let mut before = counts_beyond(&p, "c", 3);
    for _ in 0..3 {
        checkpoint(&p, &["c"]);
        restore(&p, &["c"]);
        before = counts_beyond(&p, "c", before);
    }
    p.podman(&["stop", "--time", "0", "c"]).exits(0);
    p.podman(&["start", "c"]).exits(0);
    counts_beyond(&p, "c", 0);
}

#[test]
fn the_log_goes_on() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let before = counts_beyond(&p, "c", 3);
    checkpoint(&p, &["c"]);
    restore(&p, &["c"]);
    let after = counts_beyond(&p, "c", before + 2);
    let wanted: String = (1..after).map(|number| format!("{number}\n")).collect();
    let logs = call::within(call::DEADLINE, || {
        Some(p.podman(&["logs", "c"]).out).filter(|logs| logs.starts_with(&wanted))
    });
    assert!(logs.is_some(), "{:?}", p.podman(&["logs", "c"]));
}

#[test]
fn left_running() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let (pid, before) = (p.inspect("c", "{{.State.Pid}}"), counts_beyond(&p, "c", 3));
    checkpoint(&p, &["--leave-running", "c"]);
    assert_eq!(p.inspect("c", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    counts_beyond(&p, "c", before);
}

#[test]
fn exported_and_imported_under_another_name() {
    criu!();
    let p = podman!();
    counter(&p, "c", &["--hostname", "kept", "--env", "COLOUR=blue"]);
    p.exec(&[], "c", &["sh", "-c", "echo changed >/etc/changed"]).ok();
    let before = counts_beyond(&p, "c", 3);
    let archive = p.path("archive.tar");
    checkpoint(&p, &["--export", &archive, "--compress", "none", "c"]);
    p.podman(&["rm", "c"]).exits(0);
    for name in ["one", "two"] {
        restore(&p, &["--import", &archive, "--name", name]);
        counts_beyond(&p, name, before);
    }
    for name in ["one", "two"] {
        let said = p.exec(&[], name, &["sh", "-c", "cat /etc/changed; hostname; echo $COLOUR"]);
        assert_eq!(said.ok().out, "changed\nkept\nblue\n");
    }
    assert_ne!(
        p.inspect("one", "{{.State.CgroupPath}}"),
        p.inspect("two", "{{.State.CgroupPath}}")
    );
}

#[test]
fn exported_while_it_runs_on() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let before = counts_beyond(&p, "c", 3);
    let archive = p.path("archive.tar");
    checkpoint(&p, &["--leave-running", "--export", &archive, "--compress", "gzip", "c"]);
    restore(&p, &["--import", &archive, "--name", "copy"]);
    counts_beyond(&p, "copy", before);
    counts_beyond(&p, "c", before);
}

#[test]
fn without_the_changes_of_its_files() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    p.exec(&[], "c", &["sh", "-c", "echo changed >/etc/changed"]).ok();
    let before = counts_beyond(&p, "c", 3);
    let archive = p.path("archive.tar");
    checkpoint(&p, &["--ignore-rootfs", "--export", &archive, "c"]);
    p.podman(&["rm", "c"]).exits(0);
    restore(&p, &["--import", &archive]);
    counts_beyond(&p, "c", before);
    p.exec(&[], "c", &["cat", "/etc/changed"]).fails();
}

#[test]
fn kept_images_and_statistics() {
    criu!();
    let p = podman!();
    counter(&p, "c", &[]);
    let before = counts_beyond(&p, "c", 3);
    let stats = checkpoint(&p, &["--keep", "--print-stats", "c"]).json();
    assert!(stats["container_statistics"][0]["runtime_checkpoint_duration"].as_u64() > Some(0));
    let log = p.inspect("c", "{{.State.CheckpointLog}}");
    assert!(Path::new(&log).exists(), "{log}");
    assert!(fs::read_to_string(&log).expect("a log").contains("Dumping finished successfully"));
    let stats = restore(&p, &["--keep", "--print-stats", "c"]).json();
    assert!(stats["container_statistics"][0]["runtime_restore_duration"].as_u64() > Some(0));
    counts_beyond(&p, "c", before);
    let log = p.inspect("c", "{{.State.RestoreLog}}");
    assert!(Path::new(&log).exists(), "{log}");
}

#[test]
fn all_at_once() {
    criu!();
    let p = podman!();
    counter(&p, "one", &[]);
    counter(&p, "two", &[]);
    let before = [counts_beyond(&p, "one", 3), counts_beyond(&p, "two", 3)];
    checkpoint(&p, &["--all"]);
    p.assert_nothing_left();
    restore(&p, &["--all"]);
    counts_beyond(&p, "one", before[0]);
    counts_beyond(&p, "two", before[1]);
}

#[test]
fn with_volumes_limits_and_an_init() {
    criu!();
    let p = podman!();
    let data = p.path("data");
    fs::create_dir(&data).expect("mkdir");
    fs::write(format!("{data}/file"), "data\n").expect("write");
    let volume = format!("{data}:/data:ro");
    let options = [
        "--init",
        "--volume",
        &volume,
        "--tmpfs",
        "/cache",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
    ];
    counter(&p, "c", &options);
    p.exec(&[], "c", &["sh", "-c", "echo kept >/cache/file"]).ok();
    let before = counts_beyond(&p, "c", 3);
    checkpoint(&p, &["c"]);
    restore(&p, &["c"]);
    counts_beyond(&p, "c", before);
    assert_eq!(p.exec(&[], "c", &["cat", "/data/file", "/cache/file"]).ok().out, "data\nkept\n");
    let cgroup = p.inspect("c", "{{.State.CgroupPath}}");
    assert_eq!(limits::file_of(&cgroup, "pids", "pids.max"), "50");
    assert_eq!(limits::file_of(&cgroup, "memory", "memory.limit_in_bytes"), "67108864");
}

#[test]
fn its_end_is_noticed() {
    criu!();
    let p = podman!();
    let script = "trap 'exit 9' TERM; i=0; \
                  while :; do i=$((i+1)); echo $i >>/dev/shm/n; sleep 0.05; done";
    p.start("c", &[], &["sh", "-c", script]);
    let before = counts_beyond(&p, "c", 3);
    checkpoint(&p, &["c"]);
    restore(&p, &["c"]);
    counts_beyond(&p, "c", before);
    p.podman(&["kill", "--signal", "TERM", "c"]).ok();
    assert_eq!(p.wait("c"), 9);
    p.assert_nothing_left();
}

#[test]
fn a_terminal() {
    criu!();
    let p = podman!();
    counter(&p, "c", &["--tty"]);
    let before = counts_beyond(&p, "c", 3);
    checkpoint(&p, &["c"]);
    restore(&p, &["c"]);
    let after = counts_beyond(&p, "c", before + 2);
    let logs = call::within(call::DEADLINE, || {
        let logs = p.podman(&["logs", "c"]).out.replace('\r', "");
        logs.contains(&format!("\n{after}\n")).then_some(())
    });
    assert!(logs.is_some(), "{after}: {:?}", p.podman(&["logs", "c"]));
}

#[test]
fn into_another_pod() {
    criu!();
    let p = podman!();
    let parent = p.cgroup_parent();
    let infra = format!("{} -P", podman::PAUSE);
    let pod = |name: &str| {
        let make = ["pod", "create", "--name", name, &parent, "--infra-command", &infra];
        p.podman(&make).exits(0).out.trim().to_owned()
    };
    pod("first");
    let words = ["run", "--detach", "--name", "c", "--pod", "first", podman::IMAGE];
    p.podman(&[&words[..], &["sh", "-c", COUNTER]].concat()).exits(0);
    let before = counts_beyond(&p, "c", 3);
    let archive = p.path("archive.tar");
    checkpoint(&p, &["--export", &archive, "c"]);
    p.podman(&["pod", "rm", "--force", "--time", "0", "first"]).exits(0);
    // podman 4.3 does not look for a name.
    let second = pod("second");
    restore(&p, &["--import", &archive, "--pod", &second]);
    counts_beyond(&p, "c", before);
}
