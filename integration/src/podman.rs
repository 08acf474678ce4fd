//! podman with the runtime under test: a store, a network namespace and a cgroup of its own for
//! each test.
//!
//! Nothing of the host's own podman is touched. The configuration is the drop-in that `make
//! install` installs, with the lines that are needed where there is no systemd; the image is made
//! here, of busybox and catatonit, so that no registry is needed. When a [`Podman`] is dropped
//! everything is removed, and the test fails if anything is left.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::call::{Call, Outcome, within};
use crate::runtime::runtime;
use crate::{host, leftovers, rootfs, systemd, unique};

/// The image that every test runs.
pub const IMAGE: &str = "localhost/busybox";

/// Where the image has an init that does nothing but reap, for pods.
pub const PAUSE: &str = "/bin/catatonit";

/// How long one call of podman may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long conmon and the `podman container cleanup` that it calls may take after the end of a
/// container.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What `make install` installs, before the path is filled in.
const DROP_IN: &str = include_str!("../../contrib/containers.conf.d/50-davit.conf.in");

/// The unprivileged user of [`Podman::rootless`], who exists on no host.
pub const USER: u32 = 54321;

/// Calls `$@` as that user, with the home directory and the subordinate ids of $0/user, in a mount
/// namespace where /etc knows of them.
const AS_USER: &str = "for file in passwd group subuid subgid; do \
    mount --bind $0/user/$file /etc/$file || exit; done; \
    export HOME=$0/user USER=u XDG_RUNTIME_DIR=$0/xdg; \
    exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$@\"";

/// Makes a [`Podman`] whose cgroups are systemd's, or ends the test where podman cannot ask systemd
/// for them.
#[macro_export]
macro_rules! podman_with_systemd {
    () => {{
        $crate::systemd!();
        $crate::skip_if!($crate::host::missing_controllers());
        $crate::skip_if!(if $crate::systemd::is_root() {
            $crate::podman::missing()
        } else {
            $crate::podman::missing_for_users()
        });
        $crate::podman::Podman::with_systemd()
    }};
}

/// Who calls podman.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// root, in a network namespace.
    Root,
    /// A user that the test, as root, makes up.
    User,
    /// The user who runs the test.
    Oneself,
}

/// podman, with a store of its own.
#[derive(Debug)]
pub struct Podman {
    name: String,
    caller: Caller,
    dir: TempDir,
    calls: Cell<u32>,
}

/// Makes a [`Podman`], or ends the test where podman or the runtime cannot run.
#[macro_export]
macro_rules! podman {
    () => {{
        $crate::spec!();
        $crate::skip_if!($crate::podman::missing());
        $crate::podman::Podman::new()
    }};
}

/// Why no unprivileged user can run containers under podman here, if so.
pub fn missing_for_users() -> Option<String> {
    let program =
        ["newuidmap", "newgidmap", "setpriv"].into_iter().find(|p| installed(p).is_none());
    if let Some(program) = program {
        return Some(format!("{program} is not installed"));
    }
    let file = ["/etc/subuid", "/etc/subgid"].into_iter().find(|file| !Path::new(file).exists());
    file.map(|file| format!("there is no {file}")).or_else(missing)
}

/// Why nothing can run under podman here, if so.
pub fn missing() -> Option<String> {
    let programs = ["podman", "conmon", "catatonit", "nsenter", "unshare", "tar"];
    if let Some(program) = programs.into_iter().find(|program| installed(program).is_none()) {
        return Some(format!("{program} is not installed"));
    }
    let hybrid = runtime().name == "crun" && host::has_cgroup_v1();
    hybrid.then(|| "crun refuses hybrid hosts".into())
}

/// Where a program is, if it is installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin", "/sbin", "/usr/lib/podman"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(others)
        .map(|place| place.join(program))
        .find(|file| file.is_file())
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Podman {
    /// A store with the image in it.
    pub fn new() -> Self {
        let this = Self::empty(Caller::Root);
        this.configure();
        this.make_network_namespace();
        this.import();
        this
    }

    /// The same for an unprivileged user.
    pub fn rootless() -> Self {
        let this = Self::empty(Caller::User);
        this.configure();
        this.make_user();
        this.import();
        this
    }

    /// The same with the cgroups of systemd: for root, or for the unprivileged user who runs the
    /// test, in his session.
    pub fn with_systemd() -> Self {
        let caller = if systemd::is_root() { Caller::Root } else { Caller::Oneself };
        let this = Self::empty(caller);
        this.configure();
        let conf = fs::read_to_string(this.path("containers.conf")).expect("read");
        let conf = conf.replace("cgroup_manager = \"cgroupfs\"", "cgroup_manager = \"systemd\"");
        fs::write(this.path("containers.conf"), conf).expect("write");
        if caller == Caller::Root {
            this.make_network_namespace();
        }
        this.import();
        this
    }

    /// The environment with which another caller's podman finds this store.
    pub fn environment(&self) -> Vec<String> {
        let file = |name: &str, file: &str| format!("{name}={}", self.path(file));
        let storage = file("CONTAINERS_STORAGE_CONF", "storage.conf");
        vec![file("CONTAINERS_CONF", "containers.conf"), storage]
    }

    fn empty(caller: Caller) -> Self {
        let name = unique();
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().expect("mkdir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { name, caller, dir, calls: Cell::new(0) }
    }

    fn configure(&self) {
        for dir in ["io", "networks", "image"] {
            fs::create_dir(self.dir().join(dir)).expect("mkdir");
        }
        fs::write(self.path("containers.conf"), self.containers_conf()).expect("write");
        let users = fs::read_to_string("/etc/subuid").unwrap_or_default();
        let user = users.split(':').next().unwrap_or_default();
        let driver = match statfs(self.dir()).expect("statfs").filesystem_type() {
            OVERLAYFS_SUPER_MAGIC => "vfs",
            _ => "overlay",
        };
        let storage = format!(
            "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n\
             [storage.options]\nroot-auto-userns-user = \"{user}\"\n",
            self.dir().display()
        );
        fs::write(self.path("storage.conf"), storage).expect("write");
    }

    /// The drop-in with more lines in its tables: `CONTAINERS_CONF` names a single file. The conmon
    /// of an exec that came over the socket would stay for five minutes.
    fn containers_conf(&self) -> String {
        let path = runtime().path.display();
        let name = &runtime().name;
        let engine = format!(
            "[engine]\nruntime = \"{name}\"\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nlock_type = \"file\"\ntmp_dir = \"{0}/tmp\"\n\
             exit_command_delay = 1\n\
             infra_image = \"{IMAGE}\"\n",
            self.dir().display()
        );
        let (bin_dir, others) = match runtime().is_davit() {
            true => (runtime().path.parent().expect("a directory"), String::new()),
            false => (Path::new("/nowhere"), format!("{name} = [\"{path}\"]\n")),
        };
        let drop_in = DROP_IN.replacen("[engine]\n", &engine, 1);
        assert!(drop_in.contains(&engine), "the drop-in has lost its [engine]");
        let drop_in = drop_in.replace("@BINDIR@", bin_dir.to_str().expect("utf-8"));
        format!(
            "{drop_in}{others}\n[containers]\nnetns = \"none\"\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
             init_path = \"{}\"\n[network]\nnetwork_config_dir = \"{}/networks\"\n",
            installed("catatonit").expect("catatonit").display(),
            self.dir().display(),
        )
    }

    /// podman's bridge and its rules of the firewall shall not be the machine's.
    fn make_network_namespace(&self) {
        let file = self.network_namespace();
        fs::write(&file, "").expect("write");
        let net = format!("--net={}", file.display());
        let made = Command::new("unshare").args([&net, "ip", "link", "set", "lo", "up"]).status();
        assert!(made.is_ok_and(|status| status.success()), "unshare --net");
    }

    fn make_user(&self) {
        for dir in ["user", "xdg"] {
            fs::create_dir(self.dir().join(dir)).expect("mkdir");
        }
        let home = self.path("user");
        for (file, text) in [
            ("passwd", format!("root:x:0:0::/root:/bin/sh\nu:x:{USER}:{USER}::{home}:/bin/sh\n")),
            ("group", format!("root:x:0:\nu:x:{USER}:\n")),
            ("subuid", "u:500000:65536\n".to_owned()),
            ("subgid", "u:500000:65536\n".to_owned()),
        ] {
            fs::write(self.dir().join("user").join(file), text).expect("write");
        }
        for dir in ["", "user", "xdg", "networks"] {
            chown(self.dir().join(dir), Some(USER), Some(USER)).expect("chown");
        }
    }

    fn network_namespace(&self) -> PathBuf {
        self.dir().join("netns")
    }

    fn import(&self) {
        let root = self.dir().join("image");
        rootfs::make(&root);
        let pause = installed("catatonit").expect("catatonit");
        fs::copy(pause, root.join(&PAUSE[1..])).expect("copy");
        let tar = self.path("image.tar");
        let made = Command::new("tar").args(["-cf", &tar, "-C"]).arg(&root).arg(".").status();
        assert!(made.is_ok_and(|status| status.success()), "tar");
        self.podman(&["import", "--quiet", &tar, IMAGE]).exits(0);
    }

    /// This test's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in this test's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).to_str().expect("utf-8").to_owned()
    }

    /// The network namespace in which podman runs, as `net:[4026531833]`.
    pub fn host_network(&self) -> String {
        let inode = fs::metadata(self.network_namespace()).expect("netns").ino();
        format!("net:[{inode}]")
    }

    /// `--cgroup-parent` for containers and pods.
    pub fn cgroup_parent(&self) -> String {
        format!("--cgroup-parent=/{}", self.name)
    }

    /// Any program where podman is: in its network namespace, or as its user.
    pub fn on_the_host(&self, words: &[&str]) -> Call {
        let number = self.calls.replace(self.calls.get() + 1);
        let enter = format!("--net={}", self.network_namespace().display());
        let place = self.dir().to_str().expect("utf-8");
        let before = match self.caller {
            Caller::Root => &["nsenter", &enter][..],
            Caller::User => &["unshare", "--mount", "sh", "-c", AS_USER, place],
            Caller::Oneself => &[],
        };
        let all: Vec<String> = before.iter().chain(words).map(|word| (*word).to_owned()).collect();
        Call::new(&all, &self.dir().join(format!("io/{number}")))
            // conmon writes a file `oom` into its working directory.
            .dir(self.dir())
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .within(DEADLINE)
    }

    /// `podman WORDS...`
    pub fn call(&self, words: &[&str]) -> Call {
        let mut all = vec!["podman"];
        all.extend(words);
        self.on_the_host(&all)
    }

    /// `podman WORDS...`, to its end.
    pub fn podman(&self, words: &[&str]) -> Outcome {
        self.call(words).done()
    }

    /// `podman run OPTIONS... IMAGE COMMAND...`
    pub fn run_call(&self, options: &[&str], command: &[&str]) -> Call {
        let parent = self.cgroup_parent();
        let mut all = vec!["run"];
        // An unprivileged user stays in the cgroup that he was given.
        all.extend((self.caller == Caller::Root).then_some(&*parent));
        all.extend(options);
        all.push(IMAGE);
        all.extend(command);
        self.call(&all)
    }

    /// `podman run --rm OPTIONS... IMAGE COMMAND...`, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        let mut all = vec!["--rm"];
        all.extend(options);
        self.run_call(&all, command).done()
    }

    /// The output of a script in a new container, which must succeed.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script]).ok().out
    }

    /// Starts a container of this name in the background.
    #[track_caller]
    pub fn start(&self, name: &str, options: &[&str], command: &[&str]) {
        let mut all = vec!["--detach", "--name", name];
        all.extend(options);
        let id = self.run_call(&all, command).done().ok().out;
        assert_eq!(id.trim().len(), 64, "run -d prints the id: {id:?}");
    }

    /// Starts a container of this name that waits until it is killed, and ends at once when it gets
    /// a TERM.
    #[track_caller]
    pub fn sleeper(&self, name: &str, options: &[&str]) {
        self.start(
            name,
            options,
            &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"],
        );
    }

    /// `podman exec OPTIONS... NAME COMMAND...`, to its end.
    pub fn exec(&self, options: &[&str], name: &str, command: &[&str]) -> Outcome {
        let mut all = vec!["exec"];
        all.extend(options);
        all.push(name);
        all.extend(command);
        self.podman(&all)
    }

    /// What `podman inspect --format TEMPLATE` says of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        let said = self.podman(&["container", "inspect", "--format", template, name]).ok();
        said.out.trim_end().to_owned()
    }

    /// Waits for the end of a container and returns its exit code.
    #[track_caller]
    pub fn wait(&self, name: &str) -> i32 {
        let code = self.podman(&["wait", name]).ok().out;
        code.trim().parse().expect("a number")
    }

    /// Asserts that nothing of any container is there: no process, no cgroup, no mount, no state.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        // conmon calls `podman container cleanup` on its own.
        let clean = within(TIMEOUT, || self.left().is_empty().then_some(()));
        assert!(clean.is_some(), "left behind: {:#?}", self.left());
    }

    fn left(&self) -> Vec<String> {
        let mut left = leftovers::find(&self.name, &self.dir().join("root"));
        // The parent is this test's own, with the cgroup of its conmons; pods are podman's.
        left.retain(|line| !line.starts_with("cgroup ") || line.contains("/libpod-"));
        left.retain(|line| !line.ends_with(" - ext4") && !line.contains("root/overlay "));
        left.extend(self.states().iter().map(|path| format!("state {}", path.display())));
        left
    }

    /// The runtime's state directories of containers whose bundle is in this store.
    fn states(&self) -> Vec<PathBuf> {
        let entries = |dir: &Path| {
            let list = fs::read_dir(dir).into_iter().flatten().flatten();
            list.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let place = self.dir().to_string_lossy().into_owned();
        // runc has a FIFO among them.
        let ours = |file: &PathBuf| {
            let bytes = file.is_file().then(|| fs::read(file).unwrap_or_default());
            String::from_utf8_lossy(&bytes.unwrap_or_default()).contains(&place)
        };
        let run = match self.caller {
            Caller::Root => "/run".into(),
            Caller::User => self.dir().join("xdg"),
            Caller::Oneself => std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default().into(),
        };
        let containers = entries(&run.join(&runtime().name));
        containers.into_iter().filter(|dir| entries(dir).iter().any(ours)).collect()
    }
}

impl Podman {
    /// Removes all containers and pods the way a person would; says what podman says against it.
    fn remove_all(&self) -> String {
        let force = ["rm", "--all", "--force", "--time", "0"];
        let pods = self.podman(&[&["pod"][..], &force].concat());
        let containers = self.podman(&force);
        pods.err + &containers.err
    }

    /// Takes away by force whatever is left, and what is this test's own.
    fn sweep(&self) {
        if self.caller == Caller::Oneself {
            // Its files belong to his subordinate ids.
            self.podman(&["unshare", "rm", "-rf", &self.path("root")]);
        }
        // The process that holds an unprivileged user's namespaces between two calls of podman,
        // where podman 4 and 5 say.
        for file in ["tmp/pause.pid", "xdg/libpod/tmp/pause.pid"] {
            let pause = fs::read_to_string(self.dir().join(file)).unwrap_or_default();
            if let Ok(pid) = pause.trim().parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for state in self.states() {
            let _ = fs::remove_dir_all(state);
        }
        leftovers::sweep(&self.name, self.dir());
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut said = self.remove_all();
        if std::thread::panicking() {
            self.sweep();
            return;
        }
        // In one of fifteen cases podman, with runc too, does not wait for the unmounting that
        // conmon's cleanup is at.
        if said.contains("device or resource busy") {
            said = self.remove_all();
        }
        let clean = within(TIMEOUT, || self.left().is_empty().then_some(()));
        let left = self.left();
        self.sweep();
        assert!(clean.is_some(), "left behind: {left:#?}, {said}");
        assert_eq!(said, "", "podman cannot remove its containers");
    }
}
