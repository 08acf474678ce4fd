//! ps: the processes of a container, as pids or as the host's ps shows them.

use std::collections::BTreeSet;

use integration::*;

fn pids(outcome: &Outcome) -> BTreeSet<i64> {
    let list = outcome.json();
    list.as_array().expect("an array").iter().map(|pid| pid.as_i64().expect("a pid")).collect()
}

fn with_a_child() -> Container {
    let c = Container::sh("setsid sleep 1000 & echo up; wait");
    c.create().start();
    c.until_output("up");
    c
}

#[test]
fn json_is_an_array_of_pids() {
    spec!();
    let c = with_a_child();
    for arguments in [["ps", "--format", "json"], ["ps", "-f", "json"]] {
        let ps = c.call(&[&arguments[..], &[&c.id]].concat()).done().ok();
        let found = pids(&ps);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&i64::from(c.pid())));
    }
    c.exec_with(&["--detach"], &["sleep", "1000"]).ok();
    assert_eq!(pids(&c.call(&["ps", "--format=json", &c.id]).done().ok()).len(), 3);
}

#[test]
fn a_created_one_has_its_init() {
    spec!();
    let c = Container::sleeper();
    c.create();
    let ps = c.call(&["ps", "--format", "json", &c.id]).done().ok();
    assert!(pids(&ps).contains(&i64::from(c.pid())));
}

#[test]
fn a_table_has_the_rows_of_the_container() {
    spec!();
    fails_with!("crun", "prints pids alone");
    let c = with_a_child();
    let table = c.call(&["ps", &c.id]).done().ok();
    assert!(table.lines()[0].split_whitespace().any(|word| word == "PID"), "{table:?}");
    assert_eq!(table.lines().len(), 3, "{table:?}");
    assert!(table.out.contains("sleep 1000"));
    let own = c.call(&["ps", &c.id, "-e", "-o", "pid,comm"]).done().ok();
    assert_eq!(own.lines().len(), 3, "{own:?}");
    assert!(own.lines().iter().any(|line| line.starts_with(&format!("{:>7} ", c.pid()))
        || line.trim().starts_with(&c.pid().to_string())));
    c.call(&["ps", &c.id, "-e", "-o", "comm"]).done().refuses(&["PID"]);
    c.call(&["ps", &c.id, "--nosuch"]).done().refuses(&["ps:"]);
}

#[test]
fn on_a_pure_v2_tree() {
    spec!();
    fails_with!("crun", "wants to raise RLIMIT_MEMLOCK");
    let c = Container::sleeper().by(&host::PURE_V2);
    c.create().start();
    let ps = c.call(&["ps", "--format", "json", &c.id]).done().ok();
    assert!(pids(&ps).contains(&i64::from(c.pid())));
}

#[test]
fn a_paused_one_is_listed() {
    spec!();
    let c = with_a_child();
    c.call(&["pause", &c.id]).done().ok();
    assert_eq!(pids(&c.call(&["ps", "--format", "json", &c.id]).done().ok()).len(), 2);
    c.call(&["resume", &c.id]).done().ok();
}

#[test]
fn bad_calls() {
    spec!();
    let c = Container::sleeper();
    c.call(&["ps", "--format", "json", &c.id]).done().refuses(&["does not exist"]);
    c.create();
    c.call(&["ps", "--format", "xml", &c.id]).done().refuses(&["--format"]);
}

#[test]
fn a_stopped_one_has_none() {
    davit_only!("other runtimes print null or fail");
    let c = Container::new(&["true"]);
    c.create().start();
    c.until_status("stopped");
    assert_eq!(c.call(&["ps", "--format", "json", &c.id]).done().ok().out, "[]\n");
}

#[test]
fn without_a_cgroup_the_pid_namespace_tells() {
    davit_only!("--cgroup-manager");
    let c = Container::sh("sleep 1000 & echo up; wait").global(&["--cgroup-manager", "disabled"]);
    c.create().start();
    c.until_output("up");
    let found = pids(&c.call(&["ps", "--format", "json", &c.id]).done().ok());
    assert!(found.len() == 2 && found.contains(&i64::from(c.pid())), "{found:?}");
    let shared = Container::sleeper()
        .with(|c| config::drop_namespace(c, "pid"))
        .global(&["--cgroup-manager", "disabled"]);
    shared.create().start();
    shared.call(&["ps", "--format", "json", &shared.id]).done().refuses(&["no cgroup"]);
}
