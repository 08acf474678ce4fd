//! The systemd that makes cgroups for who runs the test: the system's for root, an unprivileged
//! user's own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::geteuid;

use crate::{Container, config, json};

/// Whether the test is run by root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

fn call(words: &[&str]) -> Output {
    let whose = if is_root() { "--system" } else { "--user" };
    let output = Command::new("systemctl").args([whose, "--no-pager"]).args(words).output();
    output.expect("systemctl")
}

/// What `systemctl WORDS...` prints.
pub fn systemctl(words: &[&str]) -> String {
    String::from_utf8_lossy(&call(words).stdout).into_owned()
}

/// `systemctl WORDS...`, which must work.
#[track_caller]
pub fn order(words: &[&str]) {
    let output = call(words);
    assert!(output.status.success(), "systemctl {words:?}: {output:?}");
}

/// One property of a unit.
pub fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", unit, "--value", "-p", name]).trim_end().to_owned()
}

/// The unit's cgroup.
pub fn cgroup(unit: &str) -> std::path::PathBuf {
    let path = property(unit, "ControlGroup");
    assert!(path.len() > 1, "{unit} has no cgroup");
    Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
}

/// Why no systemd makes cgroups here, if so.
pub fn missing() -> Option<&'static str> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Some("needs systemd as process 1");
    }
    let state = systemctl(&["is-system-running"]);
    let runs = is_root() || state.contains("running") || state.contains("degraded");
    (!runs).then_some("needs a session with a systemd of the user")
}

/// Variables that systemd gives to every unit, for as long as this lives. One test at a time can
/// have them.
#[derive(Debug)]
pub struct Environment {
    names: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Environment {
    /// Gives `NAME=VALUE`s.
    #[track_caller]
    pub fn give(variables: &[String]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = variables.iter().map(String::as_str).collect();
        order(&[&["set-environment"], &words[..]].concat());
        let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
        Self { names: variables.iter().map(name).collect(), _turn: turn }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        systemctl(&[&["unset-environment"], &names[..]].concat());
    }
}

/// Ends the test where no systemd makes cgroups on a pure v2 tree for who runs it.
#[macro_export]
macro_rules! systemd {
    () => {
        $crate::pure_v2!();
        $crate::skip_if!($crate::systemd::missing());
    };
}

/// The slice of the tests' scopes.
pub const fn slice() -> &'static str {
    "test.slice"
}

/// A container whose cgroup is a scope of systemd.
pub fn container(script: &str) -> Container {
    let c = Container::sh(script).global(&["--systemd-cgroup"]);
    let path = format!("{}:t:{}", slice(), c.id);
    let c = c.with(|c| c["linux"]["cgroupsPath"] = path.into());
    if is_root() {
        return c;
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    c.with(|c| {
        config::set_namespace(c, "user", None);
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        c["linux"]["resources"] = json!({});
        for mount in c["mounts"].as_array_mut().expect("mounts") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    })
}

/// The same, with a program that ends when it gets a TERM.
pub fn sleeper() -> Container {
    container("trap 'exit 0' TERM; while :; do sleep 0.05; done")
}

/// The name of the container's scope.
pub fn scope(c: &Container) -> String {
    format!("t-{}.scope", c.id)
}

/// A file of a cgroup.
pub fn read(directory: &Path, file: &str) -> String {
    let text = fs::read_to_string(directory.join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}")).trim_end().to_owned()
}
