//! The floor: a program of ours that makes the default container and knows nothing else.

use anyhow::Result;

use crate::runtime::{Runtime, Sample};
use crate::scene::Scene;

/// The command line that makes the container of `bundle::default`.
pub(crate) fn words(scene: &Scene, runtime: &Runtime) -> Vec<String> {
    let cgroup = scene.cgroup.join("floor");
    let root = scene.directory.join("default/rootfs");
    [&runtime.program, &cgroup, &root]
        .map(|path| path.display().to_string())
        .into_iter()
        .chain(["/bin/true".to_owned()])
        .collect()
}

/// Runs it.
pub(crate) fn run(scene: &Scene, runtime: &Runtime) -> Result<Sample> {
    runtime.measure_words(scene, 0, &words(scene, runtime))
}
