//! System calls, counted by strace(1).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::{pid, reap};
use crate::numbers::{Results, Unit};
use crate::runtime::Runtime;
use crate::scene::Scene;
use crate::{bundle, floor, report};

/// Counts them for every command; a runtime that cannot is left out.
pub(crate) fn system_calls(scene: &Scene, runtimes: &[Runtime], results: &mut Results) {
    if Command::new("strace").arg("-V").output().is_err() {
        report::note("system calls: strace is not installed");
        return;
    }
    for runtime in runtimes {
        if let Err(error) = of(scene, runtime, results) {
            report::note(&format!("system calls: {}: {error:#}", runtime.name));
        }
    }
}

fn of(scene: &Scene, runtime: &Runtime, results: &mut Results) -> Result<()> {
    let mut count = |name: &str, traced: Traced| -> Result<()> {
        results.put(name, Unit::Count, runtime, traced.count()?);
        Ok(())
    };
    if runtime.is_floor() {
        return count("run def", Traced::words(scene, &floor::words(scene, runtime))?);
    }
    let bundle = |name: &str| scene.directory.join(name).display().to_string();
    bundle::write(scene, "default", || Ok(bundle::default()))?;
    bundle::write(scene, "paused", || Ok(bundle::paused()))?;
    count(
        "run def",
        Traced::call(scene, runtime, &["run", "--bundle", &bundle("default"), "traced"])?,
    )?;
    // strace waits for all that it traces, and so for the container: `create` is counted at its
    // end.
    let create =
        Traced::call(scene, runtime, &["create", "--bundle", &bundle("paused"), "traced"])?;
    let mut init = 0;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        init = pid(runtime, "traced").unwrap_or(0);
        if init > 0 {
            break;
        }
    }
    ensure!(init > 0, "create does not come to its end under strace");
    runtime.must(scene, &["delete", "--force", "traced"])?;
    count("create", create)?;
    runtime.must(scene, &["create", "--bundle", &bundle("paused"), "traced"])?;
    let init = pid(runtime, "traced")?;
    for words in [
        ["start", "traced", ""],
        ["state", "traced", ""],
        ["exec", "traced", "/bin/true"],
        ["kill", "traced", "KILL"],
    ] {
        let used = if words[2].is_empty() { &words[..2] } else { &words[..] };
        count(words[0], Traced::call(scene, runtime, used)?)?;
    }
    reap(init);
    count("delete", Traced::call(scene, runtime, &["delete", "traced"])?)
}

/// A traced command.
struct Traced {
    strace: Child,
    output: std::path::PathBuf,
}

impl Traced {
    fn call(scene: &Scene, runtime: &Runtime, arguments: &[&str]) -> Result<Self> {
        let call = runtime.command(arguments);
        let words = std::iter::once(call.get_program()).chain(call.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Self::words(scene, &words)
    }

    fn words(scene: &Scene, words: &[String]) -> Result<Self> {
        let output = scene.directory.join("strace");
        let mut strace = Command::new("timeout");
        strace.args(["20", "strace", "-f", "-c", "-o"]).arg(&output);
        if words.first().is_some_and(|program| Path::new(program).starts_with(&scene.cache)) {
            strace.args(["-E", "LD_LIBRARY_PATH=/mnt"]);
        }
        let streams = || Stdio::null();
        let strace =
            strace.args(words).stdin(streams()).stdout(streams()).stderr(streams()).spawn()?;
        Ok(Self { strace, output })
    }

    /// Waits for its end. The last line of `strace -c` has the sum.
    fn count(mut self) -> Result<f64> {
        self.strace.wait()?;
        let text = std::fs::read_to_string(&self.output)?;
        let total = text.lines().find(|line| line.ends_with(" total")).context("strace's sum")?;
        let number = total.split_whitespace().nth(3).context("strace's sum")?;
        Ok(number.parse()?)
    }
}
