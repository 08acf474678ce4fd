//! Checkpoints of containers: the CRIU that makes them, and the runtime's two commands.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::call::{Call, Outcome, within};
use crate::{Container, podman};

/// Why no container can be checkpointed here, if so.
pub fn missing() -> Option<String> {
    criu().is_none().then(|| "needs a CRIU that works here: contrib/criu.sh".to_owned())
}

/// Why CRIU cannot carry over programs of other users than root here, if so: it reads their limits.
pub fn root_alone() -> Option<&'static str> {
    let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    (!may.expect("capabilities")).then_some("needs CAP_SYS_RESOURCE")
}

/// A test of checkpoints, for every runtime. Needs root and CRIU.
#[macro_export]
macro_rules! criu {
    () => {
        $crate::spec!();
        $crate::skip_if!($crate::checkpoint::missing());
    };
}

/// CRIU: `DAVIT_CRIU`, or what `make deps` leaves in bench/cache, or the installed one; where it
/// says itself that it works on this kernel.
pub fn criu() -> Option<&'static Path> {
    static CRIU: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/cache/criu/bin/criu");
        let chosen = env::var_os("DAVIT_CRIU").map(PathBuf::from);
        let places = [chosen, Some(unpacked), podman::installed("criu")];
        let works = |criu: &PathBuf| {
            Command::new(criu).arg("check").output().is_ok_and(|check| check.status.success())
        };
        let found = places.into_iter().flatten().filter(|criu| criu.is_file()).find(works);
        found.map(|criu| criu.canonicalize().expect("canonical"))
    };
    CRIU.get_or_init(find).as_deref()
}

/// The `PATH` of a caller who has CRIU.
pub fn path() -> String {
    let dir = criu().and_then(Path::parent).expect("CRIU").to_str().expect("utf-8");
    format!("{dir}:{}", env::var("PATH").unwrap_or_default())
}

/// A shell script that counts in its memory, and notes each number in a file that is kept in
/// memory too.
pub const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i >>/dev/shm/n; sleep 0.02; done";

/// What CRIU asks the kernel at its beginning takes ten seconds at times, where tests run side by
/// side.
const TIMEOUT: Duration = Duration::from_secs(90);

impl Container {
    /// A container that counts; see [`Container::counted`].
    pub fn counter() -> Self {
        Self::sh(COUNTER)
    }

    /// How far it has counted. Asserts that no number is missing and none stands there twice: it is
    /// one and the same program that goes on.
    #[track_caller]
    pub fn counted(&self) -> usize {
        let file = format!("/proc/{}/root/dev/shm/n", self.pid());
        let text = fs::read_to_string(&file).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let numbers: Vec<&str> = whole.split_whitespace().collect();
        for (at, number) in numbers.iter().enumerate() {
            assert_eq!(*number, (at + 1).to_string(), "{numbers:?}");
        }
        numbers.len()
    }

    /// Waits until it has counted further than this, and returns how far.
    #[track_caller]
    pub fn counts_beyond(&self, number: usize) -> usize {
        let more = within(TIMEOUT, || Some(self.counted()).filter(|counted| *counted > number));
        more.unwrap_or_else(|| panic!("it stands still at {number}: {}", self.state()))
    }

    /// Waits until a restored container is there and runs.
    #[track_caller]
    pub fn until_running(&self) {
        let runs = within(TIMEOUT, || {
            let state = self.call(&["state", &self.id]).done();
            (state.code == 0 && state.json()["status"] == "running").then_some(())
        });
        assert!(runs.is_some(), "it does not run; CRIU: {:#?}", self.criu_errors());
    }

    /// `create` and `start` with /dev/null as stdio: CRIU cannot carry over a file of the host.
    #[track_caller]
    pub fn up(&self) -> &Self {
        self.up_with(&[])
    }

    /// The same with options for `create`.
    #[track_caller]
    pub fn up_with(&self, options: &[&str]) -> &Self {
        self.create_call(options).silent().done().exits(0);
        self.start()
    }

    /// Where this container's checkpoint goes.
    pub fn image(&self) -> String {
        self.path("image")
    }

    /// `checkpoint --image-path IMAGE --work-path WORK OPTIONS... ID`
    pub fn checkpoint_call(&self, options: &[&str]) -> Call {
        let (image, work) = (self.image(), self.path("work"));
        let mut all = vec!["checkpoint", "--image-path", &image, "--work-path", &work];
        all.extend(options);
        all.push(&self.id);
        self.call(&all).env("PATH", path()).within(TIMEOUT)
    }

    /// The same, which must work.
    #[track_caller]
    pub fn checkpoint(&self, options: &[&str]) -> Outcome {
        self.must(self.checkpoint_call(options).done())
    }

    /// `restore --bundle BUNDLE --image-path IMAGE --work-path WORK OPTIONS... ID`; config.json is
    /// written first.
    pub fn restore_call(&self, image: &str, options: &[&str]) -> Call {
        let work = self.path("work");
        let mut all = vec!["--image-path", image, "--work-path", &work];
        all.extend(options);
        self.through_with_bundle(&[], "restore", &all).env("PATH", path()).within(TIMEOUT)
    }

    /// `restore --detach` of this container's own checkpoint with /dev/null as stdio, which must
    /// work.
    #[track_caller]
    pub fn restore(&self, options: &[&str]) -> &Self {
        self.restore_from(&self.image(), options)
    }

    /// The same from another image.
    #[track_caller]
    pub fn restore_from(&self, image: &str, options: &[&str]) -> &Self {
        let options = [&["--detach"], options].concat();
        self.must(self.restore_call(image, &options).stdout(Stdio::null()).done());
        self
    }

    /// `checkpoint`, and `restore --detach`.
    #[track_caller]
    pub fn moves_on(&self) -> &Self {
        self.checkpoint(&[]);
        self.restore(&[])
    }

    /// What CRIU says of errors in its log files.
    pub fn criu_errors(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir().join("work")).into_iter().flatten().flatten();
        let texts = files.map(|file| fs::read_to_string(file.path()).unwrap_or_default());
        let is_error = |line: &&str| line.contains("Error");
        texts
            .flat_map(|text| text.lines().filter(is_error).map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    #[track_caller]
    fn must(&self, outcome: Outcome) -> Outcome {
        assert_eq!(outcome.code, 0, "{outcome:#?}; CRIU: {:#?}", self.criu_errors());
        outcome
    }
}
