//! `ctr task checkpoint`, `ctr container checkpoint` and `restore`.

use std::fs;

use integration::containerd::Containerd;
use integration::*;

/// A daemon with CRIU, or the end of the test.
macro_rules! containerd_with_criu {
    () => {{
        criu!();
        skip_if!(fixture::missing(&containerd::PROGRAMS));
        Containerd::with_criu()
    }};
}

/// Starts a container that counts in memory.
fn counter(d: &Containerd) {
    let script = ["sh", "-c", checkpoint::COUNTER];
    d.run_call(&["--detach", "--null-io"], "box", &script).done().ok();
}

/// Waits until it has counted further than this, and returns how far.
#[track_caller]
fn counts_beyond(d: &Containerd, number: usize) -> usize {
    let counted = || {
        let said = d.exec(&[], "box", &["tail", "-n", "1", "/dev/shm/n"]);
        said.out.trim().parse().ok().filter(|counted| *counted > number)
    };
    let more = call::within(call::DEADLINE, counted);
    more.unwrap_or_else(|| panic!("it stands still at {number}: {}", d.task("box")))
}

/// Its process goes on in a new container.
#[test]
fn a_container_goes_on_where_it_was() {
    let d = containerd_with_criu!();
    counter(&d);
    let before = counts_beyond(&d, 3);
    let parts = ["--task", "--rw", "--image"];
    d.ctr(&[&["container", "checkpoint"], &parts[..], &["box", "checkpointed"]].concat()).exits(0);
    counts_beyond(&d, before);
    d.remove("box");
    d.ctr(&["container", "restore", "--rw", "--live", "box", "checkpointed"]).exits(0);
    let after = counts_beyond(&d, before);
    assert!(after < before + 500, "{before} {after}");
    d.remove("box");
    d.assert_nothing_left();
}

/// What containerd keeps is an image of its own.
#[test]
fn a_task_ends_with_its_checkpoint() {
    let d = containerd_with_criu!();
    counter(&d);
    counts_beyond(&d, 3);
    d.ctr(&["task", "checkpoint", "--exit", "box"]).exits(0);
    let images = d.ctr(&["images", "list", "--quiet"]).exits(0).out;
    assert!(images.contains("containerd.io/checkpoint/box:"), "{images}");
    assert!(!d.task("box").ends_with("RUNNING"), "{}", d.task("box"));
    d.remove("box");
    d.assert_nothing_left();
}

/// `--image-path` and `--work-path` are the runtime's.
#[test]
fn an_image_in_a_directory() {
    let d = containerd_with_criu!();
    counter(&d);
    counts_beyond(&d, 3);
    let (image, work) = (d.place.path("criu-image"), d.place.path("criu-work"));
    for path in [&image, &work] {
        fs::create_dir(path).expect("mkdir");
    }
    let options = ["--exit", "--image-path", &image, "--work-path", &work];
    d.ctr(&[&["task", "checkpoint"], &options[..], &["box"]].concat()).exits(0);
    for file in [format!("{image}/inventory.img"), format!("{work}/dump.log")] {
        assert!(fs::metadata(&file).is_ok(), "{file}");
    }
    d.remove("box");
    d.assert_nothing_left();
}
