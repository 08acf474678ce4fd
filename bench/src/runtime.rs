//! The programs that are compared, and one measured call of one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::scene::Scene;

/// One program.
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
    /// Where it keeps its containers.
    root: PathBuf,
    /// It uses the libraries in /mnt.
    own_libraries: bool,
    /// The `PATH` with CRIU.
    path: String,
}

/// What one call cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// CPU of everything that happened, in us.
    pub(crate) cpu: f64,
    /// CPU of the call and of what it waited for, in us.
    pub(crate) own_cpu: f64,
    /// In us.
    pub(crate) wall: f64,
    pub(crate) faults: f64,
    /// Peak RSS in KiB.
    pub(crate) rss: f64,
}

/// The floor's name: it takes other arguments, and knows `run` only.
pub(crate) const FLOOR: &str = "floor";

impl Runtime {
    /// davit, other runtimes and the floor.
    pub(crate) fn all(scene: &Scene) -> Result<Vec<Self>> {
        let davit = std::env::var_os("DAVIT").context("DAVIT is not set")?;
        let mut list = vec![("davit".to_owned(), fs::canonicalize(davit)?)];
        match std::env::var("BENCH_PEERS") {
            Ok(others) => {
                for other in others.split_whitespace() {
                    let (name, path) = other.split_once('=').context("BENCH_PEERS: NAME=PATH")?;
                    list.push((name.to_owned(), PathBuf::from(path)));
                }
            }
            Err(_) => {
                for name in ["crun", "runc"] {
                    let unpacked = scene.cache.join("runtimes").join(name);
                    let installed = ["/usr/bin", "/usr/sbin"].map(|bin| Path::new(bin).join(name));
                    let found = std::iter::once(unpacked).chain(installed).find(|at| at.exists());
                    list.extend(found.map(|path| (name.to_owned(), path)));
                }
            }
        }
        list.push((FLOOR.to_owned(), scene.cache.join("floor")));
        list.into_iter().map(|(name, program)| Self::new(scene, name, program)).collect()
    }

    fn new(scene: &Scene, name: String, program: PathBuf) -> Result<Self> {
        let root = scene.directory.join(format!("state-{name}"));
        fs::create_dir_all(&root)?;
        let own_libraries = program.starts_with(scene.cache.join("runtimes"));
        let criu = scene.cache.join("criu/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", criu.display());
        let mut runtime = Self { name, program, version: String::new(), root, own_libraries, path };
        if runtime.name != FLOOR {
            let output = runtime.command(&["--version"]).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.split_whitespace().nth(2).unwrap_or("?");
            version.clone_into(&mut runtime.version);
        }
        Ok(runtime)
    }

    pub(crate) fn is_floor(&self) -> bool {
        self.name == FLOOR
    }

    /// Its state directory, with what it caches beside its containers.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn environment(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        if self.own_libraries {
            command.env("LD_LIBRARY_PATH", "/mnt");
        }
    }

    /// A call that is not measured.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.environment(&mut command);
        if arguments.first() != Some(&"--version") {
            command.arg("--root").arg(&self.root);
        }
        command.args(arguments);
        command
    }

    /// A call that has to succeed and is not measured. A created container keeps its streams open,
    /// so the call does not wait for their end.
    pub(crate) fn must(&self, scene: &Scene, arguments: &[&str]) -> Result<()> {
        let complaint = scene.directory.join("complaint");
        let mut call = self.command(arguments);
        call.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&complaint)?);
        let status = call.status()?;
        let said = fs::read_to_string(&complaint)?;
        ensure!(status.success(), "{arguments:?}: {}", said.trim());
        Ok(())
    }

    /// The same with /dev/null as streams, for CRIU refuses files of the host.
    pub(crate) fn quietly(&self, arguments: &[&str]) -> Result<()> {
        let mut call = self.command(arguments);
        call.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(call.status()?.success(), "{arguments:?} failed");
        Ok(())
    }

    /// A measured call. `settle` is how long (us) the container's own part is waited for.
    pub(crate) fn measure(&self, scene: &Scene, settle: u32, arguments: &[&str]) -> Result<Sample> {
        let call = self.command(arguments);
        let words = std::iter::once(call.get_program()).chain(call.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        self.measure_words(scene, settle, &words)
    }

    /// The same for any command line.
    pub(crate) fn measure_words(
        &self,
        scene: &Scene,
        settle: u32,
        words: &[String],
    ) -> Result<Sample> {
        std::thread::sleep(scene.rest);
        // A created container keeps the streams open: only what is said about it goes to a file.
        let (said, complaint) = (scene.directory.join("said"), scene.directory.join("complaint"));
        let mut gauge = Command::new(scene.cache.join("gauge"));
        self.environment(&mut gauge);
        gauge.arg(&scene.cgroup).arg(settle.to_string()).arg(&said).args(words);
        gauge.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&complaint)?);
        gauge.current_dir(&scene.directory);
        ensure!(gauge.status()?.success(), "the gauge failed: {}", fs::read_to_string(&complaint)?);
        let said = fs::read_to_string(said)?;
        let numbers: Vec<f64> = said.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let &[cpu, own_cpu, wall, faults, rss, code] = numbers.as_slice() else {
            bail!("the gauge said {said:?}");
        };
        let complaint = fs::read_to_string(complaint)?;
        ensure!(code == 0.0, "{}: exit code {code}: {}", words.join(" "), complaint.trim());
        Ok(Sample { cpu, own_cpu, wall, faults, rss })
    }
}
