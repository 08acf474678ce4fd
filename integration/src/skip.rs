//! Which tests can run here, and with which runtime.

use std::io::Write;
use std::process::Command;

use crate::fixture::missing;
use crate::runtime::runtime;

/// Says that a test does not run, on the real stderr: libtest would hide what a passing test
/// prints.
pub fn say(test: &str, reason: &str) {
    // In one write: other tests print at the same time.
    let _ = std::io::stderr().write_all(format!("skip: {test}: {reason}\n").as_bytes());
}

/// Why nothing that needs root can run here, if so.
pub fn needs_root() -> Option<&'static str> {
    (!nix::unistd::geteuid().is_root()).then_some("needs root")
}

/// Why this unprivileged user cannot run containers with the runtime under test, if so; root
/// becomes that user.
pub fn rootless_fails(uid: u32) -> Option<String> {
    if let Some(reason) = needs_root().map(str::to_owned).or_else(|| missing(&["newuidmap"])) {
        return Some(reason);
    }
    let as_user = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
        command.args(["--clear-groups", "--inh-caps=-all"]).args(words);
        command.status().is_ok_and(|status| status.success())
    };
    if !as_user(&["unshare", "-U", "-r", "true"]) {
        return Some("no user namespaces for unprivileged users here".to_owned());
    }
    let reachable = as_user(&["test", "-x", &runtime().path.to_string_lossy()]);
    (!reachable).then(|| "other users cannot reach the binary".to_owned())
}

/// Why a test that is about davit alone does not run, if so.
pub fn needs_davit(reason: &str) -> Option<String> {
    let name = &runtime().name;
    (!runtime().is_davit()).then(|| format!("not for {name}: {reason}"))
}

/// Why another runtime's known deviation makes a test of the spec pointless with it, if so.
pub fn fails_with(peer: &str, reason: &str) -> Option<String> {
    (runtime().name == peer).then(|| format!("{peer}: {reason}"))
}

/// The name of the test in which this is expanded.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        std::any::type_name_of_val(&here).trim_end_matches("::here").to_owned()
    }};
}

/// Ends the test with a skip line if the expression is `Some(reason)`.
#[macro_export]
macro_rules! skip_if {
    ($reason:expr) => {
        if let Some(reason) = $reason {
            $crate::skip::say(&$crate::test_name!(), &reason);
            return;
        }
    };
}

/// A test of the spec, for every runtime. Needs root.
#[macro_export]
macro_rules! spec {
    () => {
        $crate::skip_if!($crate::skip::needs_root())
    };
}

/// A test of what only davit does or promises, as root; the reason says why other runtimes are not
/// asked.
#[macro_export]
macro_rules! davit_only {
    ($reason:expr) => {
        $crate::spec!();
        $crate::skip_if!($crate::skip::needs_davit($reason))
    };
}

/// As [`davit_only!`], for an unprivileged user as well.
#[macro_export]
macro_rules! davit_alone {
    ($reason:expr) => {
        $crate::skip_if!($crate::skip::needs_davit($reason))
    };
}

/// A known deviation of another runtime from the spec or from what davit promises: not run with
/// that runtime.
#[macro_export]
macro_rules! fails_with {
    ($peer:expr, $reason:expr) => {
        $crate::skip_if!($crate::skip::fails_with($peer, $reason))
    };
}

/// A test of cgroup v1 controllers (hybrid hosts have them too).
#[macro_export]
macro_rules! cgroup_v1 {
    () => {
        $crate::skip_if!(
            (!$crate::host::has_cgroup_v1()).then_some("needs a cgroup v1 or hybrid host")
        )
    };
}

/// A test of limits and figures that are the same on every host that has controllers, cgroup v1 or
/// v2.
#[macro_export]
macro_rules! controllers {
    () => {
        $crate::skip_if!($crate::host::missing_controllers())
    };
}

/// A test of cgroup v2 controllers: a hybrid host has none of them.
#[macro_export]
macro_rules! pure_v2 {
    () => {
        $crate::skip_if!(
            (!$crate::host::has_pure_cgroup_v2()).then_some("needs a pure cgroup v2 host")
        )
    };
}
