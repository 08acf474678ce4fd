//! runtime.md, Lifecycle: what hooks do to the life of a container.

use std::fs;

use integration::config::shell_hook;
use integration::*;

/// Steps 3 to 5, 7 and 9: a hook that fails leads to step 12, and poststop hooks are called in step
/// 13.
#[test]
fn poststop_runs_after_a_failed_hook() {
    spec!();
    fails_with!("runc", "1.1 runs poststart at the end of create");
    fails_with!("crun", "only warns of a failed poststart");
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let c = Container::sh("sleep 100");
        let log = c.path("log");
        let c = c.with(|c| {
            c["hooks"][kind] = json!([shell_hook("exit 1")]);
            c["hooks"]["poststop"] = json!([shell_hook(&format!("echo called >>{log}"))]);
        });
        let run = c.run_call(&[]).done();
        assert_ne!(run.code, 0, "{kind}");
        let log = fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(log, "called\n", "{kind}: {run:?}");
        c.assert_nothing_left();
    }
}

#[test]
fn start_returns_after_poststart_and_delete_after_poststop() {
    spec!();
    fails_with!("runc", "1.1 runs poststart at the end of create");
    let c = Container::sleeper();
    let log = c.path("log");
    let c = c.with(|c| {
        for kind in ["poststart", "poststop"] {
            c["hooks"][kind] = json!([shell_hook(&format!("sleep 0.2; echo {kind} >>{log}"))]);
        }
    });
    let seen = || fs::read_to_string(&log).unwrap_or_default();
    c.create();
    assert_eq!(seen(), "");
    c.start();
    assert_eq!(seen(), "poststart\n");
    c.delete().ok();
    assert_eq!(seen(), "poststart\npoststop\n");
}

/// crun dies of SIGPIPE there, in up to 40 of 100 deletes.
#[test]
fn a_hook_that_reads_nothing_never_ends_the_runtime() {
    spec!();
    fails_with!("crun", "dies of SIGPIPE, now and then");
    let deaf = json!([{ "path": "/bin/true" }]);
    for _ in 0..15 {
        let c = Container::new(&["true"]).with(|c| {
            // A state that is larger than a pipe holds.
            c["annotations"] = json!({ "org.example.large": "x".repeat(100_000) });
            for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
                c["hooks"][kind] = deaf.clone();
            }
        });
        c.run().ok();
    }
}
