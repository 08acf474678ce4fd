//! Compiles the `linux.seccomp` of a config.json and prints the filter.
//!
//! ```text
//! cargo run -p davit-seccomp --example compile -- BUNDLE/config.json
//! ```

#![allow(clippy::print_stdout)]

use std::error::Error;

use davit_seccomp::{Host, Instruction, Op, plan};
use oci_spec::runtime::Spec;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: compile CONFIG.JSON")?;
    let spec: Spec = serde_json::from_slice(&std::fs::read(path)?)?;
    let linux = spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref()).ok_or("no linux.seccomp")?;
    for op in plan(profile, &Host::current()?)? {
        println!("{op}");
        let Op::Install { program, .. } = op;
        for (line, Instruction { code, jt, jf, k }) in program.0.iter().enumerate() {
            println!("{line:4}: code {code:#06x}  true +{jt:<3}  false +{jf:<3}  k {k:#010x}");
        }
    }
    Ok(())
}
