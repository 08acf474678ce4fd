//! What is not a matter of time: how large the programs are, and the least limit of memory with
//! which a container starts.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::numbers::{Results, Unit};
use crate::runtime::Runtime;
use crate::scene::Scene;
use crate::{bundle, report};

pub(crate) const PROGRAM: &str = "the program's file";
pub(crate) const LIMIT: &str = "smallest memory limit";

const PAGE: u64 = 4096;

/// No runtime wants more.
const MOST: u64 = 256 << 20;

/// A limit is enough if this many containers in a row start with it.
const TRIES: usize = 3;

/// Who wants for memory may come to a standstill.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The size of each program, without the libraries that it loads.
pub(crate) fn programs(runtimes: &[Runtime], results: &mut Results) -> Result<()> {
    for runtime in runtimes {
        let file = fs::metadata(&runtime.program)?;
        results.put(PROGRAM, Unit::Size, runtime, file.len() as f64 / 1024.0);
    }
    Ok(())
}

/// The least limit of each runtime, to a page. Afterwards the scene has the host's cgroups.
pub(crate) fn limits(scene: &Scene, runtimes: &[Runtime], results: &mut Results) -> Result<()> {
    scene.show_memory_controller()?;
    for runtime in runtimes.iter().filter(|runtime| !runtime.is_floor()) {
        match least(scene, runtime) {
            Ok(bytes) => results.put(LIMIT, Unit::Size, runtime, bytes as f64 / 1024.0),
            Err(error) => report::note(&format!("{LIMIT}: {}: {error:#}", runtime.name)),
        }
    }
    Ok(())
}

fn least(scene: &Scene, runtime: &Runtime) -> Result<u64> {
    let bundle = bundle::write(scene, "limited", || Ok(bundle::default()))?;
    starts(scene, runtime, &bundle, MOST)?;
    let (mut too_small, mut enough) = (0, MOST / PAGE);
    while enough - too_small > 1 {
        let pages = too_small.midpoint(enough);
        match (0..TRIES).try_for_each(|_| starts(scene, runtime, &bundle, pages * PAGE)) {
            Ok(()) => enough = pages,
            Err(_) => too_small = pages,
        }
    }
    Ok(enough * PAGE)
}

fn starts(scene: &Scene, runtime: &Runtime, bundle: &Path, limit: u64) -> Result<()> {
    let memory = json!({ "limit": limit, "swap": limit });
    bundle::limit(bundle, scene.limited_cgroup(), memory)?;
    let complaint = scene.directory.join("complaint");
    let mut run = runtime.command(&["run", "--bundle", &bundle.display().to_string(), "limited"]);
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&complaint)?);
    let mut run = run.spawn()?;
    let end = Instant::now() + TIMEOUT;
    let status = loop {
        match run.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    run.kill().context("kill")?;
    run.wait()?;
    // Whatever it has left; often nothing.
    runtime.command(&["delete", "--force", "limited"]).output()?;
    ensure!(status.is_some(), "no end within {TIMEOUT:?}");
    bail!("{}", fs::read_to_string(&complaint)?.trim())
}
