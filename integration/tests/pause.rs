//! pause and resume: nothing moves, and then it goes on where it was.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use integration::*;

/// A container that counts in a file.
fn counter() -> Container {
    Container::sh("while :; do echo >> /count; sleep 0.01; done")
}

fn count(c: &Container) -> u64 {
    fs::metadata(c.rootfs().join("count")).map_or(0, |file| file.len())
}

#[track_caller]
fn assert_counts(c: &Container, does: bool) {
    let before = count(c);
    if does {
        let more = call::within(Duration::from_secs(10), || (count(c) > before).then_some(()));
        assert!(more.is_some(), "it stands still");
    } else {
        sleep(Duration::from_millis(150));
        assert_eq!(count(c), before, "it goes on");
    }
}

fn say(c: &Container, command: &str) -> Outcome {
    c.call(&[command, &c.id]).done()
}

fn stands_still_and_goes_on(c: &Container) {
    c.create().start();
    assert_counts(c, true);
    say(c, "pause").ok();
    assert_eq!(c.status(), "paused");
    assert_counts(c, false);
    say(c, "resume").ok();
    assert_eq!(c.status(), "running");
    assert_counts(c, true);
}

#[test]
fn nothing_moves_until_resume() {
    spec!();
    stands_still_and_goes_on(&counter());
}

#[test]
fn on_a_pure_v2_tree() {
    spec!();
    fails_with!("crun", "wants to raise RLIMIT_MEMLOCK");
    stands_still_and_goes_on(&counter().by(&host::PURE_V2));
}

#[test]
fn out_of_turn_is_refused() {
    spec!();
    fails_with!("crun", "resume of a running one succeeds");
    let c = counter();
    for command in ["pause", "resume"] {
        say(&c, command).refuses(&["does not exist"]);
    }
    c.create().start();
    say(&c, "resume").refuses(&["not paused"]);
    say(&c, "pause").ok();
    say(&c, "pause").refuses(&["paused already"]);
    assert_eq!(c.status(), "paused");
    c.call(&["delete", &c.id]).done().refuses(&["paused"]);
    assert_eq!(c.status(), "paused");
    say(&c, "resume").ok();
    c.kill("KILL").ok();
    c.until_status("stopped");
    for command in ["pause", "resume"] {
        say(&c, command).refuses(&["not running"]);
    }
}

#[test]
fn a_created_one_can_be_paused() {
    spec!();
    fails_with!("crun", "state says created");
    let c = counter();
    c.create();
    say(&c, "pause").ok();
    assert_eq!(c.status(), "paused");
    if runtime::runtime().is_davit() {
        say(&c, "start").refuses(&["paused"]);
    }
    say(&c, "resume").ok();
    assert_eq!(c.status(), "created");
    c.start();
    assert_counts(&c, true);
}

#[test]
fn exec_is_refused_or_waits() {
    spec!();
    fails_with!("crun", "no --ignore-paused");
    let c = counter();
    c.create().start();
    say(&c, "pause").ok();
    c.exec(&["true"]).refuses(&["paused"]);
    let mut exec = c.exec_call(&["--ignore-paused"], &["echo", "later"]).spawn();
    sleep(Duration::from_millis(100));
    assert!(!exec.ended() && exec.out().is_empty(), "it does not wait");
    say(&c, "resume").ok();
    assert_eq!(exec.wait().ok().out, "later\n");
}

#[test]
fn a_paused_one_can_be_killed() {
    spec!();
    let c = counter();
    c.create().start();
    let pid = c.pid();
    say(&c, "pause").ok();
    c.call(&["kill", "--all", &c.id, "KILL"]).done().exits(0);
    // With runc on a hybrid host the signal waits. Of ours, that is about to end, a look may still
    // say "paused": a resume would come too late.
    if !runtime::runtime().is_davit() && c.status() == "paused" {
        say(&c, "resume").ok();
    }
    c.until_status("stopped");
    assert!(leftovers::is_dead(pid));
    c.call(&["delete", &c.id]).done().ok();
    c.assert_nothing_left();
}

#[test]
fn sigkill_ends_a_paused_one() {
    davit_only!("with runc and crun it waits for resume where cgroup v1 freezes");
    for prefix in host::cgroup_trees() {
        let c = counter().by(prefix);
        c.create().start();
        say(&c, "pause").ok();
        assert_eq!(c.status(), "paused");
        c.kill("KILL").ok();
        c.until_status("stopped");
        c.call(&["delete", &c.id]).done().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn delete_force_takes_a_paused_one() {
    spec!();
    fails_with!("crun", "wants to raise RLIMIT_MEMLOCK");
    for prefix in host::cgroup_trees() {
        let c = counter().by(prefix);
        c.create().start();
        say(&c, "pause").ok();
        c.delete().ok();
        c.assert_nothing_left();
    }
}

#[test]
fn further_processes_are_frozen_too() {
    spec!();
    let c = Container::sleeper();
    c.create().start();
    c.exec_with(
        &["--detach"],
        &["sh", "-c", "setsid sh -c 'while :; do echo >> /count; sleep 0.01; done'"],
    )
    .ok();
    assert_counts(&c, true);
    say(&c, "pause").ok();
    assert_counts(&c, false);
    say(&c, "resume").ok();
    assert_counts(&c, true);
}

#[test]
fn without_a_cgroup_it_says_so() {
    davit_only!("--cgroup-manager");
    let c = counter().global(&["--cgroup-manager", "disabled"]);
    c.create().start();
    say(&c, "pause").refuses(&["no cgroup"]);
    assert_counts(&c, true);
}

#[test]
fn engines_give_no_environment() {
    spec!();
    let c = counter();
    c.create().start();
    for command in ["pause", "resume"] {
        let call = c.call(&[command, &c.id]).without_env().env("XDG_RUNTIME_DIR", "");
        call.done().ok();
    }
    assert_eq!(c.status(), "running");
}

/// Freezes the container's first process in a cgroup two levels below the container's, in this tree
/// of the host, where nothing that davit does to the container's own cgroup reaches it.
fn freeze_below(c: &Container, tree: &str, file: &str, word: &str) {
    let inner = format!("{tree}/{}/inner", c.id);
    fs::create_dir_all(format!("{inner}/most")).expect("mkdir");
    fs::write(format!("{inner}/most/cgroup.procs"), c.pid().to_string()).expect("move");
    for directory in [format!("{inner}/most"), inner] {
        fs::write(format!("{directory}/{file}"), word).expect("freeze");
    }
}

/// B9: a frozen process of cgroup v1 does not take SIGKILL before it is thawed, where it was
/// frozen.
#[test]
fn what_is_frozen_below_the_containers_cgroup_is_deleted_too() {
    davit_only!("runc 1.1 waits for it until it gives up");
    let trees: &[(&str, &str, &str, &[&str])] = match host::has_pure_cgroup_v2() {
        true => &[("/sys/fs/cgroup", "cgroup.freeze", "1", &[])],
        false => &[
            ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", &[]),
            ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", &host::PURE_V1),
            ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", &[]),
            ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", &host::PURE_V2),
        ],
    };
    for (tree, file, word, prefix) in trees {
        for end in ["delete", "kill"] {
            let c = Container::sleeper().by(prefix);
            c.create().start();
            let pid = c.pid();
            freeze_below(&c, tree, file, word);
            if end == "kill" {
                c.kill("KILL").ok();
                let ended =
                    call::within(Duration::from_secs(5), || leftovers::is_dead(pid).then_some(()));
                assert!(ended.is_some(), "{tree} {prefix:?}");
            }
            let delete = c.call(&["delete", "--force", &c.id]).within(Duration::from_secs(5));
            delete.done().ok();
            c.assert_nothing_left();
        }
    }
}
