//! buildah with the runtime under test: a store of its own for each test.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use crate::call::Outcome;
use crate::fixture::EngineFixture;
use crate::image;
use crate::runtime::runtime;

/// buildah, with a store in which a working container of busybox is.
#[derive(Debug)]
pub struct Buildah {
    place: EngineFixture,
    /// The working container.
    pub container: String,
}

/// Makes a [`Buildah`], or ends the test where buildah or the runtime cannot run.
#[macro_export]
macro_rules! buildah {
    () => {{
        $crate::spec!();
        $crate::skip_if!($crate::fixture::missing(&["buildah", "tar"]));
        $crate::buildah::Buildah::new(&[])
    }};
}

impl Buildah {
    /// `buildah from OPTIONS... scratch`, with busybox copied in.
    pub fn new(options: &[&str]) -> Self {
        let place = EngineFixture::new();
        let layer = image::layer(place.dir());
        let mut this = Self { place, container: String::new() };
        let cgroup = this.place.cgroup();
        let from = [&["from", "--cgroup-parent", &cgroup][..], options, &["scratch"]].concat();
        this.container = this.buildah(&from).ok().out.trim().to_owned();
        let layer = layer.to_str().expect("utf-8");
        this.buildah(&["add", "--quiet", &this.container, layer, "/"]).exits(0);
        this.buildah(&["config", "--env", "PATH=/bin", &this.container]).ok();
        this
    }

    /// This test's directory.
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// A path in this test's directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.place.path(name)
    }

    /// `buildah WORDS...`, to its end.
    pub fn buildah(&self, words: &[&str]) -> Outcome {
        let [root, run] = ["root", "run"].map(|name| self.path(name));
        let all = ["buildah", "--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        // Where the engine itself keeps bundles and the runtime's state.
        let call = self.place.call(&[&all[..], words].concat()).env("TMPDIR", self.place.dir());
        call.done()
    }

    /// What every `run` and `build` is told.
    pub fn with_runtime(&self) -> [&'static str; 6] {
        let binary = runtime().path.to_str().expect("utf-8");
        ["--runtime", binary, "--isolation", "oci", "--network", "none"]
    }

    /// `buildah run OPTIONS... CONTAINER COMMAND...`, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        let with = self.with_runtime();
        let all = [&["run"], &with[..], options, &[&self.container, "--"], command].concat();
        self.buildah(&all)
    }

    /// The output of a script in the container, which must succeed.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script]).ok().out
    }
}

impl Buildah {
    /// What is left of containers that have run: processes, cgroups, mounts, and states, which are
    /// where the runtime has them unless told otherwise.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.place.left("buildah --");
        let files = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        let states = files(Path::new("/run").join(&runtime().name));
        // The others are FIFOs: reading one would block, or take the message that another test's
        // init waits for.
        let regular = |file: &DirEntry| file.file_type().is_ok_and(|kind| kind.is_file());
        let names_place = |file: DirEntry| {
            let text = fs::read(file.path()).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&self.place.name)
        };
        let ours = states.filter(|state| files(state.path()).filter(regular).any(names_place));
        left.extend(ours.map(|state| format!("state {}", state.path().display())));
        left
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        self.buildah(&["rm", "--all"]);
        let left = if std::thread::panicking() { Vec::new() } else { self.left() };
        self.place.sweep();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
