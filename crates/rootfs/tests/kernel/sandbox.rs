//! A bundle in a mount namespace that is gone when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use davit_rootfs::{Context, Host, Op, apply, parent_opens_sources, phases, plan};
use serde_json::{Value, json};

/// Set in the process that is already inside.
const INSIDE: &str = "ROOTFS_TEST_INSIDE";

/// How a test gets its namespaces: arguments of unshare(1).
pub(crate) const ROOT: &[&str] = &["--mount", "--propagation", "private"];
/// Like a runtime on a host that shares its mounts; the parent process is on that host.
pub(crate) const SHARED: &[&str] = &[
    "--mount",
    "--propagation",
    "shared",
    "--fork",
    "unshare",
    "--mount",
    "--propagation",
    "unchanged",
];
pub(crate) const USER: &[&str] = &["--mount", "--user", "--map-root-user"];

/// Runs `body` in new namespaces: this test binary is executed again, for this one test.
pub(crate) fn inside(test: &str, unshare: &[&str], body: impl FnOnce(&Sandbox)) {
    if std::env::var_os(INSIDE).is_some() {
        let sandbox = Sandbox::new();
        body(&sandbox);
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skip {test}: needs root");
        return;
    }
    // The namespace goes with the process; the directory is taken away from outside.
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, directory.path())
        .output()
        .expect("unshare(1) runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test of the name {test}: {text}");
}

/// A bundle with an empty root.
pub(crate) struct Sandbox {
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
}

/// What a plan came to: the phases that were done, and the error that ended it.
pub(crate) struct Outcome {
    pub(crate) context: Context,
    pub(crate) error: Option<String>,
}

impl Sandbox {
    fn new() -> Self {
        let bundle = PathBuf::from(std::env::var_os(INSIDE).unwrap());
        let rootfs = bundle.join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        Self { bundle, rootfs }
    }

    pub(crate) fn host(&self) -> Host {
        Host {
            bundle: self.bundle.clone(),
            user_namespace: false,
            privileged_parent: true,
            makes_nodes: true,
            joined_user_namespace: None,
            cgroups: None,
            console: None,
            no_pivot: false,
            proc_and_sys: Vec::new(),
            ephemeral: false,
            selinux: false,
            mount_context: davit_rootfs::ContextType::Context,
            shares_dev: false,
            first_slot: 8,
        }
    }

    /// Makes a file below the bundle, and its directory.
    pub(crate) fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.bundle.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn directory(&self, path: &str) -> PathBuf {
        let path = self.bundle.join(path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Plans and does everything up to the hooks.
    pub(crate) fn build(&self, config: &Value, host: &Host) -> Outcome {
        self.run(config, host, 2)
    }

    /// Plans and does everything: this process is in the container's root afterwards.
    pub(crate) fn enter(&self, config: &Value, host: &Host) -> Outcome {
        self.run(config, host, 3)
    }

    fn run(&self, config: &Value, host: &Host, count: usize) -> Outcome {
        let spec = serde_json::from_value(config.clone()).unwrap();
        let ops = plan(&spec, host).unwrap();
        assert!(!parent_opens_sources(&spec, host));
        let mut context = Context::default();
        for phase in phases(&ops).into_iter().take(count) {
            // As it arrives in init, without what is for messages only.
            let crossed: Vec<Op> =
                serde_json::from_str(&serde_json::to_string(phase).unwrap()).unwrap();
            if let Err(failure) = apply(&crossed, &mut context) {
                let error = format!("{}: {}", phase[failure.op].origin, failure.error);
                return Outcome { context, error: Some(error) };
            }
        }
        Outcome { context, error: None }
    }
}

impl Outcome {
    #[track_caller]
    pub(crate) fn ok(self) -> Context {
        assert_eq!(self.error, None);
        self.context
    }

    #[track_caller]
    pub(crate) fn refused(self, because: &str) {
        let error = self.error.expect("an error");
        assert!(error.contains(because), "{error}");
    }
}

/// A configuration with these mounts, and without the default devices' need of a `/dev`.
pub(crate) fn config(mounts: Value) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "mounts": mounts,
        "linux": { "namespaces": [{ "type": "mount" }] },
    })
}

/// The mount that is on top at a path, as mountinfo shows it to this process: options of the
/// mount, then what comes between it and the hyphen, then type, source and superblock options.
pub(crate) fn mountinfo(path: impl AsRef<Path>) -> String {
    let path = path.as_ref().to_string_lossy();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().rev().find(|line| line.split(' ').nth(4) == Some(&path));
    let line = line.unwrap_or_else(|| panic!("{path} is no mount point: {text}"));
    line.split(' ').skip(5).collect::<Vec<_>>().join(" ")
}

/// A mount of proc, so that [`mountinfo`] works after the root was entered.
pub(crate) fn proc_mount() -> Value {
    json!({ "destination": "/proc", "type": "proc", "source": "proc" })
}
