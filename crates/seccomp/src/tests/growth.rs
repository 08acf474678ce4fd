//! Planning takes time in proportion to the profile, whatever is repeated in it.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use crate::{Arch, Host, plan};

fn time(profile: Value) -> Duration {
    let profile = serde_json::from_value(profile).unwrap();
    let start = processor_time();
    // Whether it is refused does not matter.
    let _ = plan(&profile, &Host { arch: Arch::X86_64 });
    processor_time() - start
}

/// Not the clock's: other tests run beside this one.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros((micros(usage.user_time()) + micros(usage.system_time())) as u64)
}

#[track_caller]
fn grows_linearly(profile: impl Fn(u64) -> Value) {
    const MANY: u64 = 5_000;
    let (small, large) = (time(profile(MANY)), time(profile(8 * MANY)));
    assert!(large < small * 20 + Duration::from_millis(30), "{small:?}, 8 times as much {large:?}");
}

fn profile(syscalls: Vec<Value>) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls})
}

fn entry(names: Vec<String>, args: Vec<Value>) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args})
}

fn arg(index: u64, value: u64) -> Value {
    json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"})
}

#[test]
fn unknown_names() {
    grows_linearly(|many| {
        profile(vec![entry((0..many).map(|n| format!("x{n}")).collect(), vec![])])
    });
}

#[test]
fn one_name_again_and_again() {
    grows_linearly(|many| profile(vec![entry(vec!["read".to_owned(); many as usize], vec![])]));
    let args = vec![arg(0, 1), arg(1, 2)];
    grows_linearly(|many| {
        profile(vec![entry(vec!["read".to_owned(); many as usize], args.clone())])
    });
}

#[test]
fn entries_with_one_name() {
    let names = || vec!["ioctl".to_owned()];
    grows_linearly(|many| profile((0..many).map(|_| entry(names(), vec![])).collect()));
    grows_linearly(|many| profile((0..many).map(|n| entry(names(), vec![arg(1, n)])).collect()));
    grows_linearly(|many| profile((0..many).map(|_| entry(names(), vec![arg(1, 7)])).collect()));
}

#[test]
fn conditions_of_one_entry() {
    grows_linearly(|many| {
        profile(vec![entry(vec!["ioctl".to_owned()], (0..many).map(|n| arg(1, n)).collect())])
    });
}

#[test]
fn architectures_and_flags() {
    grows_linearly(|many| {
        let archs = ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"].repeat(many as usize);
        let flags = vec!["SECCOMP_FILTER_FLAG_LOG"; many as usize];
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs, "flags": flags})
    });
}
