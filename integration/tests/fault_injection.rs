//! Every system call of `run` may fail: the error is one line, nothing hangs, and `delete --force` leaves nothing.
//!
//! strace makes the n-th call of a name fail in whatever process of the runtime it is the n-th. Each tenth call is
//! tried; all of them where `DAVIT_FAULTS=all` asks for it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use integration::*;

/// What the C library calls before main and at the end, where it gives up in its own words, as Rust's does for want of
/// random bytes; execve, whose failures other tests are about; and what cannot fail: umask(2), close(2) and the
/// unlocking of flock(2).
const NOT_OURS: &[&str] = &[
    "arch_prctl",
    "brk",
    "close",
    "execve",
    "exit",
    "exit_group",
    "flock",
    "getrandom",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "rseq",
    "rt_sigaction",
    "rt_sigreturn",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "umask",
];

fn traced(c: &Container, options: &[&str]) -> Call {
    let before = [&["strace", "-f", "-qq"], options].concat();
    c.through_with_bundle(&before, "run", &[]).within(Duration::from_secs(30))
}

/// How often each system call is made.
fn calls(c: &Container) -> BTreeMap<String, usize> {
    let trace = c.path("trace");
    traced(c, &["-o", &trace]).done().ok();
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(&trace).expect("a trace").lines() {
        let call = line.split_once(' ').and_then(|(_, rest)| rest.trim().split_once('('));
        let name = call.map(|(name, _)| name).filter(|name| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        });
        if let Some(name) = name.filter(|name| !NOT_OURS.contains(name)) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

#[test]
fn any_system_call_may_fail() {
    davit_only!("about what our own failures leave");
    skip_if!(place::missing(&["strace"]));
    let c = Container::new(&["/bin/true"]);
    c.write();
    let calls = calls(&c);
    assert!(calls.contains_key("clone3") && calls.contains_key("fsconfig"), "{calls:?}");
    let step = if std::env::var("DAVIT_FAULTS").is_ok_and(|all| all == "all") { 1 } else { 10 };
    let every = calls.iter().flat_map(|(name, count)| (1..=*count).map(move |at| (name, at)));
    let mut wrong = Vec::new();
    for (name, at) in every.step_by(step) {
        let trace = format!("trace={name}");
        let inject = format!("inject={name}:error=EIO:when={at}");
        let run = traced(&c, &["-o", "/dev/null", "-e", &trace, "-e", &inject]).done();
        let said = run.err.lines().filter(|line| !line.starts_with("hint: ")).count();
        if !matches!((run.code, said), (0, _) | (1, 1)) {
            wrong.push(format!("{name} {at}: {run:?}"));
        }
        c.call(&["delete", "--force", &c.id]).done().ok();
        c.assert_nothing_left();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
