//! `linux.intelRdt`: a group of resctrl if the host has it, otherwise a refusal.

use std::path::Path;

use integration::*;

const RESCTRL: &str = "/sys/fs/resctrl";

fn is_mounted() -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| table.contains(" - resctrl "))
}

#[test]
fn without_resctrl_it_is_refused() {
    spec!();
    fails_with!("runc", "1.1 ignores what it does not find");
    skip_if!(is_mounted().then_some("this host has it"));
    for rdt in [json!({}), json!({ "closID": "x" }), json!({ "memBwSchema": "MB:0=50" })] {
        let c = Container::new(&["true"]).with(|c| c["linux"]["intelRdt"] = rdt);
        c.run().refuses(&["linux.intelRdt", "resctrl"]);
    }
}

#[test]
fn a_group_of_the_containers_own() {
    spec!();
    skip_if!((!is_mounted()).then_some("needs a processor with resctrl, mounted"));
    let c = Container::sleeper().with(|c| c["linux"]["intelRdt"] = json!({}));
    c.create().start();
    let group = Path::new(RESCTRL).join(&c.id);
    let tasks = || std::fs::read_to_string(group.join("tasks")).expect("tasks");
    assert!(tasks().lines().any(|task| task == c.pid().to_string()), "{}", tasks());
    c.exec(&["true"]).ok();
    c.delete().exits(0);
    assert!(!group.exists());
}

#[test]
fn a_group_that_is_not_there_is_named() {
    davit_only!("its own messages");
    skip_if!((!is_mounted()).then_some("needs a processor with resctrl, mounted"));
    let c = Container::new(&["true"])
        .with(|c| c["linux"]["intelRdt"] = json!({ "closID": "davit-test-none" }));
    c.run().refuses(&["linux.intelRdt.closID", "davit-test-none"]);
}
