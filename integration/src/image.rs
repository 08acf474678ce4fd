//! An image of busybox in the forms that engines import: made here, so that no registry is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::rootfs;

/// What the image is called.
pub const NAME: &str = "localhost/busybox:latest";

/// The root file system as a tar in `dir`.
pub fn layer(dir: &Path) -> PathBuf {
    let root = dir.join("image");
    rootfs::make(&root);
    let tar = dir.join("layer.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&root), "."]);
    tar
}

/// The image as `docker save` writes it, in `dir`.
pub fn archive(dir: &Path) -> PathBuf {
    let layer = layer(dir);
    let sum = run("sha256sum", &[text(&layer)]);
    let sum = sum.split(' ').next().expect("a sum");
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        // A pod's first container does nothing but stay.
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    for (name, value) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(dir.join(name), value.to_string()).expect("write");
    }
    let archive = dir.join("image.tar");
    let members = ["config.json", "manifest.json", "layer.tar"];
    run("tar", &[&["-cf", text(&archive), "-C", text(dir)][..], &members].concat());
    archive
}

/// This machine's, in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().expect("it is installed");
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}
