//! The kernel takes the filters and does what they say. A filter binds the thread that installs it,
//! so each test has a thread of its own.

use std::io;
use std::thread;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::Pid;

use crate::{FilterSummary, Host, Op, Program, apply, plan};

/// Runs `test` in a thread behind the filter of `profile`.
fn behind<T: Send + 'static>(
    profile: serde_json::Value,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let profile = serde_json::from_value(profile).unwrap();
    let ops = plan(&profile, &Host::current().unwrap()).unwrap();
    thread::spawn(move || {
        prctl::set_no_new_privs().unwrap();
        assert!(apply(&ops).unwrap().is_none());
        test()
    })
    .join()
    .unwrap()
}

fn errno(result: io::Result<()>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn an_errno_is_returned_in_place_of_the_call() {
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}]});
    let answer = behind(profile, || errno(std::fs::create_dir("/nowhere/at/all")));
    assert_eq!(answer, Some(libc::EXDEV));
}

#[test]
fn arguments_are_compared_by_the_kernel() {
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV,
         "args": [{"index": 0, "value": 1_000_000_000, "op": "SCMP_CMP_GE"}]}]});
    let (below, at) = behind(profile, || {
        let group_of = |pid| nix::unistd::getpgid(Some(Pid::from_raw(pid)));
        (group_of(999_999_999), group_of(1_000_000_000))
    });
    assert_eq!((below, at), (Err(Errno::ESRCH), Err(Errno::EXDEV)));
}

#[test]
fn podmans_profile_lets_a_program_live_and_refuses_the_rest() {
    let profile = serde_json::to_value(super::podman::profile()).unwrap();
    let (file, refused) = behind(profile, || {
        // The name it has: no harm is done where the filter fails.
        let hostname = nix::unistd::gethostname().unwrap();
        (std::fs::read("/proc/thread-self/status").unwrap(), nix::unistd::sethostname(hostname))
    });
    let seccomp = String::from_utf8(file).unwrap();
    assert!(seccomp.contains("Seccomp:\t2\n"), "{seccomp}");
    assert_eq!(refused, Err(Errno::EPERM));
}

#[test]
fn what_the_kernel_refuses_names_the_operation() {
    let install = |program| Op::Install {
        flags: 0,
        program,
        send_via: None,
        summary: FilterSummary::default(),
    };
    let failure = thread::spawn(move || apply(&[install(Program(Vec::new()))]).unwrap_err());
    let failure = failure.join().unwrap();
    assert_eq!(
        (failure.op, failure.error.to_string()),
        (0, "seccomp: invalid argument".to_owned())
    );
}
