//! A runtime that notes what an engine hands to it, and is then the runtime under test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::runtime::runtime;

/// Notes config.json, and what `explain` says of it, under the pid of the call. Engines give some
/// calls no PATH.
const SCRIPT: &str = r#"#!/bin/sh
before= bundle=. creates=
for word; do
    case $before in --bundle | -b) bundle=$word ;; esac
    case $word in create | run) creates=1 ;; esac
    before=$word
done
if [ "$creates" ]; then
    /bin/cp "$bundle/config.json" DIR/$$.json
    RUNTIME explain "$bundle" >DIR/$$.txt 2>&1 || echo "explain failed" >>DIR/$$.txt
fi
exec RUNTIME "$@"
"#;

/// What was handed over once.
#[derive(Debug)]
pub struct Captured {
    /// config.json
    pub config: Value,
    /// What `explain` says of it; how it failed stands at the end.
    pub explained: String,
}

/// The runtime that notes, in a directory of a test.
pub fn script(dir: &Path) -> PathBuf {
    let (file, notes) = (dir.join("capture"), dir.join("captured"));
    fs::create_dir_all(&notes).expect("mkdir");
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o777)).expect("chmod");
    let text = SCRIPT.replace("DIR", notes.to_str().expect("utf-8"));
    fs::write(&file, text.replace("RUNTIME", runtime().path.to_str().expect("utf-8")))
        .expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
    file
}

/// Takes what was noted since.
pub fn take(dir: &Path) -> Vec<Captured> {
    let notes = fs::read_dir(dir.join("captured")).expect("captured").flatten();
    let files: Vec<PathBuf> = notes.map(|entry| entry.path()).collect();
    let is_config = |file: &&PathBuf| file.extension().is_some_and(|it| it == "json");
    let read = |file: &PathBuf| Captured {
        config: serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON"),
        explained: fs::read_to_string(file.with_extension("txt")).expect("read"),
    };
    let captured = files.iter().filter(is_config).map(read).collect();
    files.iter().for_each(|file| fs::remove_file(file).expect("rm"));
    captured
}
