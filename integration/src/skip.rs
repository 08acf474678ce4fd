//! Which tests can run here, and with which runtime.

use std::io::Write;

use crate::runtime::runtime;

/// Says that a test does not run, on the real stderr: libtest would hide what a passing test prints.
pub fn say(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skip: {test}: {reason}");
}

/// Why nothing that needs root can run here, if so.
pub fn needs_root() -> Option<&'static str> {
    (!nix::unistd::geteuid().is_root()).then_some("needs root")
}

/// Why a test that is about davit alone does not run, if so.
pub fn needs_davit(reason: &str) -> Option<String> {
    let name = &runtime().name;
    (!runtime().is_davit()).then(|| format!("not for {name}: {reason}"))
}

/// Why a peer's known deviation makes a test of the spec pointless with it, if so.
pub fn peer_fails(peer: &str, reason: &str) -> Option<String> {
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

/// A test of what only davit does or promises, as root; the reason says why peers are not asked.
#[macro_export]
macro_rules! davit_only {
    ($reason:expr) => {
        $crate::spec!();
        $crate::skip_if!($crate::skip::needs_davit($reason))
    };
}

/// A known deviation of a peer from the spec or from what davit promises: not run with that peer.
#[macro_export]
macro_rules! peer_fails {
    ($peer:expr, $reason:expr) => {
        $crate::skip_if!($crate::skip::peer_fails($peer, $reason))
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

/// A test of limits and figures that are the same on every host that has controllers, cgroup v1 or v2.
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
