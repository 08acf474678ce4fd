//! Checkpoints whose memory is taken beforehand.

use std::fs;
use std::process::Command;

use integration::*;

/// Why this kernel cannot do what CRIU calls so, if so.
fn lacks(feature: &str) -> Option<String> {
    let criu = checkpoint::criu().expect("CRIU");
    let check = Command::new(criu).args(["check", "--feature", feature]).output().expect("criu");
    (!check.status.success()).then(|| format!("this kernel has no {feature}"))
}

/// A program with some memory that it does not touch again.
fn large() -> Container {
    let script = format!("a=$(seq 1 100000); {}; echo $a", checkpoint::COUNTER);
    Container::sh(&script)
}

fn size(image: &str) -> u64 {
    let files = fs::read_dir(image).expect("image").flatten();
    let pages = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|file| file.metadata().expect("stat").len()).sum()
}

#[test]
fn what_a_pre_dump_has_the_checkpoint_does_not_write_again() {
    criu!();
    skip_if!(lacks("mem_dirty_track"));
    let c = large();
    c.up();
    let before = c.counts_beyond(3);
    let first = c.path("first");
    let pre = ["--pre-dump", "--image-path", &first];
    c.checkpoint(&pre);
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
    c.checkpoint(&["--parent-path", "../first"]);
    assert!(size(&c.image()) < size(&first) / 2, "{} {}", size(&c.image()), size(&first));
    c.restore_call(&first, &["--detach"]).done().refuses(&["pre-dump"]);
    c.restore(&[]).counts_beyond(before);
}

/// CRIU needs the kernel's record of the pages that were written to.
#[test]
fn a_pre_dump_without_the_kernels_help_is_refused() {
    criu!();
    skip_if!(lacks("mem_dirty_track").is_none().then_some("this kernel has mem_dirty_track"));
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint_call(&["--pre-dump"]).done().refuses(&["MEM_SOFT_DIRTY", "hint:"]);
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
}

#[test]
fn a_parent_that_is_not_there_is_refused() {
    criu!();
    let c = Container::counter();
    c.up();
    let before = c.counts_beyond(3);
    c.checkpoint_call(&["--parent-path", "../nowhere"]).done().refuses(&["--parent-path"]);
    c.checkpoint_call(&["--parent-path", "/etc"]).done().refuses(&["--parent-path"]);
    assert_eq!(c.status(), "running");
    c.counts_beyond(before);
}
