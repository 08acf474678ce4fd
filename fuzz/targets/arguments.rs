//! Command lines, one argument a line. Two arguments that no command takes come last, so that each
//! command reads all of them and then refuses: nothing is done.
#![no_main]
#![allow(dead_code, unreachable_pub, clippy::all)]

#[path = "../../crates/davit/src/args.rs"]
mod args;
#[path = "../../crates/davit/src/command/mod.rs"]
mod command;
#[path = "../../crates/davit/src/escape.rs"]
mod escape;
#[path = "../../crates/davit/src/foreground.rs"]
mod foreground;
#[path = "../../crates/davit/src/globals.rs"]
mod globals;
#[path = "../../crates/davit/src/inherited.rs"]
mod inherited;
#[path = "../../crates/davit/src/output.rs"]
mod output;
#[path = "../../crates/davit/src/cli/mod.rs"]
mod cli;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

const REFUSED: &str = "--\u{1}";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> =
        bytes.split(|byte| *byte == b'\n').map(|word| OsStr::from_bytes(word).to_owned()).collect();
    // `exec` passes on what comes behind `--`: it must not find a container. A log is opened as
    // soon as it is named.
    let acts = |word: &[u8]| {
        word.starts_with(b"--root") || word == b"--log" || word.starts_with(b"--log=")
    };
    if words.iter().any(|word| acts(word.as_bytes())) {
        return;
    }
    let root = ["--root", "/nonexistent/davit"].map(OsString::from);
    let all = root.into_iter().chain(words).chain([REFUSED, REFUSED].map(OsString::from));
    let mut parser = lexopt::Parser::from_args(all);
    let mut globals = globals::Globals::default();
    let _ = command::run(&mut parser, &mut globals);
});
