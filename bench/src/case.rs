//! The cases: the commands of one round, and the samples taken of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::wait::waitpid;
use serde_json::Value;

use crate::runtime::{Runtime, Sample};
use crate::scene::Scene;
use crate::{bundle, floor};

/// Time (us) for the work that a container does after `create` and `start` have returned.
const SETTLE: u32 = 20_000;

/// Adds a sample to the row of this name.
type Take<'a> = &'a mut dyn FnMut(&str, Sample);

/// The largest `part` of the cases whose instructions are counted: the usual commands.
pub(crate) const LIGHT: usize = 2;

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The number of rounds of the lightest case for one round of this.
    pub(crate) part: usize,
    pub(crate) round: fn(&Scene, &Runtime, Take<'_>) -> Result<()>,
}

const fn case(
    name: &'static str,
    part: usize,
    round: fn(&Scene, &Runtime, Take<'_>) -> Result<()>,
) -> Case {
    Case { name, part, round }
}

/// All cases.
pub(crate) const CASES: &[Case] = &[
    case("run def", 1, |scene, runtime, take| {
        take("run def", run(scene, runtime, "default", || Ok(bundle::default()))?);
        Ok(())
    }),
    case("run pod", 2, |scene, runtime, take| {
        take("run pod", run(scene, runtime, "pod", || bundle::podman(scene))?);
        Ok(())
    }),
    case("run pod, cold", 4, |scene, runtime, take| {
        // crun caches compiled filters beside its containers.
        let _ = fs::remove_dir_all(runtime.root().join(".cache"));
        take("run pod, no cached filter", run(scene, runtime, "pod", || bundle::podman(scene))?);
        Ok(())
    }),
    case("life: create start state exec kill delete", 1, life),
    case("100 more mounts", 6, |scene, runtime, take| {
        take("run, 100 more mounts", run(scene, runtime, "mounts", || bundle::mounts(scene, 100))?);
        Ok(())
    }),
    case("1000 more mounts", 20, |scene, runtime, take| {
        let sample = run(scene, runtime, "mounts1000", || bundle::mounts(scene, 1000))?;
        take("run, 1000 more mounts", sample);
        Ok(())
    }),
    case("1 MB environment", 6, |scene, runtime, take| {
        take("run, 1 MB of environment", run(scene, runtime, "env", || Ok(bundle::environment()))?);
        Ok(())
    }),
    case("200 devices", 6, |scene, runtime, take| {
        take("run, 200 devices", run(scene, runtime, "devices", || Ok(bundle::devices()))?);
        Ok(())
    }),
    case("200 device rules", 6, |scene, runtime, take| {
        take("run, 200 device rules", run(scene, runtime, "rules", || Ok(bundle::device_rules()))?);
        Ok(())
    }),
    case("1000 seccomp rules", 6, |scene, runtime, take| {
        let _ = fs::remove_dir_all(runtime.root().join(".cache"));
        let sample = run(scene, runtime, "filter", || Ok(bundle::filter_rules()))?;
        take("run, 1000 filter rules", sample);
        Ok(())
    }),
    case("8 at a time", 20, crowd),
    case("list of 1000", 4, list),
    case("checkpoint and restore", 2, checkpoint),
];

fn run(
    scene: &Scene,
    runtime: &Runtime,
    name: &str,
    spec: impl FnOnce() -> Result<Value>,
) -> Result<Sample> {
    let bundle = bundle::write(scene, name, spec)?;
    match (runtime.is_floor(), name) {
        (true, "default") => floor::run(scene, runtime),
        (true, _) => bail!("makes the default container only"),
        (false, _) => {
            let bundle = bundle.display().to_string();
            runtime.measure(scene, 0, &["run", "--bundle", &bundle, "bench"])
        }
    }
}

fn known(runtime: &Runtime) -> Result<()> {
    if runtime.is_floor() { bail!("knows run only") } else { Ok(()) }
}

/// The pid that `state` prints.
pub(crate) fn pid(runtime: &Runtime, id: &str) -> Result<i32> {
    let state = runtime.command(&["state", id]).output()?;
    let state: Value = serde_json::from_slice(&state.stdout).context("state")?;
    let pid = state.get("pid").and_then(Value::as_i64).context("pid")?;
    Ok(i32::try_from(pid)?)
}

/// Waits for the end of a container's init, a child of the bench.
pub(crate) fn reap(pid: i32) {
    // It may have been reaped by the runtime.
    let _ = waitpid(nix::unistd::Pid::from_raw(pid), None);
}

fn life(scene: &Scene, runtime: &Runtime, take: Take<'_>) -> Result<()> {
    known(runtime)?;
    let bundle = bundle::write(scene, "paused", || Ok(bundle::paused()))?;
    let bundle = bundle.display().to_string();
    let create = ["create", "--bundle", &bundle, "bench"];
    take("create", runtime.measure(scene, SETTLE, &create)?);
    take("start", runtime.measure(scene, SETTLE, &["start", "bench"])?);
    let pid = pid(runtime, "bench")?;
    take("state", runtime.measure(scene, 0, &["state", "bench"])?);
    take("exec", runtime.measure(scene, 0, &["exec", "bench", "/bin/true"])?);
    take("kill", runtime.measure(scene, 0, &["kill", "bench", "KILL"])?);
    reap(pid);
    take("delete", runtime.measure(scene, 0, &["delete", "bench"])?);
    runtime.must(scene, &create)?;
    runtime.must(scene, &["start", "bench"])?;
    take("delete -f, live", runtime.measure(scene, 0, &["delete", "--force", "bench"])?);
    // The killed processes are children of the bench, which has to reap them.
    while waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status != nix::sys::wait::WaitStatus::StillAlive)
    {}
    Ok(())
}

fn crowd(scene: &Scene, runtime: &Runtime, take: Take<'_>) -> Result<()> {
    known(runtime)?;
    for number in 1..=100 {
        bundle::write(scene, &format!("crowd-{number}"), || Ok(bundle::default()))?;
    }
    let bundle = scene.directory.join("crowd-@").display().to_string();
    let call = runtime.command(&["run", "--bundle", &bundle, "crowd@"]);
    let words = std::iter::once(call.get_program()).chain(call.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let script = format!("seq 100 | xargs -P 8 -I@ {}", words.join(" "));
    let shell = ["sh", "-c", &script].map(str::to_owned);
    take("100 runs, 8 at a time", runtime.measure_words(scene, 0, &shell)?);
    Ok(())
}

fn list(scene: &Scene, runtime: &Runtime, take: Take<'_>) -> Result<()> {
    known(runtime)?;
    let bundle = bundle::write(scene, "listed", || Ok(bundle::paused()))?.display().to_string();
    let made = scene.directory.join(format!("listed-{}", runtime.name));
    if !made.exists() {
        for number in 0..1000 {
            let id = format!("listed{number}");
            runtime.must(scene, &["create", "--bundle", &bundle, &id])?;
            let pid = pid(runtime, &id)?;
            runtime.must(scene, &["kill", &id, "KILL"])?;
            reap(pid);
        }
        fs::write(made, "")?;
        std::thread::sleep(Duration::from_millis(100));
    }
    take("list of 1000", runtime.measure(scene, 0, &["list"])?);
    Ok(())
}

/// Also the time that CRIU itself takes, by the last line of its log. crun 1.28 fails here: it does
/// not name a mount to CRIU.
fn checkpoint(scene: &Scene, runtime: &Runtime, take: Take<'_>) -> Result<()> {
    known(runtime)?;
    let bundle = bundle::write(scene, "moved", || Ok(bundle::moved()))?.display().to_string();
    let directory = scene.directory.join("checkpoint");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory)?;
    let (image, work) = (directory.join("image"), directory.join("work"));
    let (image, work_path) = (image.display().to_string(), work.display().to_string());
    // Without cgroups: those of v1, in whose roots all of this happens, would be copied with all
    // that is in them.
    let cgroups = ["--manage-cgroups-mode", "ignore"];
    // As with engines, which give one by path. runc leaves it empty anyway; davit has CRIU restore
    // its addresses, for which CRIU calls ip and iptables.
    let network = ["--empty-ns", "network"];
    let directories = ["--image-path", &image, "--work-path", &work_path];
    let options = [&directories[..], &cgroups, &network].concat();
    runtime.quietly(&["create", "--bundle", &bundle, "moved"])?;
    runtime.must(scene, &["start", "moved"])?;
    let call = [&["checkpoint"], &options[..], &["moved"]].concat();
    let checkpoint = runtime.measure(scene, 0, &call);
    let call = [&["restore", "--detach", "--bundle", &bundle], &options[..], &["moved"]].concat();
    let restore = runtime.measure(scene, 0, &call);
    // Even if one of them has failed.
    let _ = runtime.quietly(&["delete", "--force", "moved"]);
    while waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status != nix::sys::wait::WaitStatus::StillAlive)
    {}
    take("checkpoint", checkpoint?);
    take("checkpoint, CRIU alone", criu_alone(&work.join("dump.log"))?);
    take("restore", restore?);
    take("restore, CRIU alone", criu_alone(&work.join("restore.log"))?);
    Ok(())
}

/// `(SECONDS) TEXT`: each line of the log has the time since CRIU's beginning.
fn criu_alone(log: &Path) -> Result<Sample> {
    let text = fs::read_to_string(log).context("CRIU's log")?;
    let mut times = text.lines().filter_map(|line| line.strip_prefix('(')?.split_once(')'));
    let seconds: f64 = times.next_back().context("a time in CRIU's log")?.0.parse()?;
    Ok(Sample { wall: seconds * 1e6, ..Sample::default() })
}
