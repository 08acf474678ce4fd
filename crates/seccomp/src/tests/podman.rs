//! The profile that podman writes.

use std::time::Instant;

use oci_spec::runtime::LinuxSeccomp;

use crate::{Arch, Host, Op, plan};

pub(super) fn profile() -> LinuxSeccomp {
    serde_json::from_str(include_str!("../../testdata/podman-4.3.json")).unwrap()
}

#[test]
fn compiles_to_few_instructions() {
    let Op::Install { program, .. } = &plan(&profile(), &Host { arch: Arch::X86_64 }).unwrap()[0];
    println!("{}", program.0.len());
    let profile = profile();
    let mut best = u128::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        plan(&profile, &Host { arch: Arch::X86_64 }).unwrap();
        best = best.min(start.elapsed().as_nanos());
    }
    println!("{best} ns");
}
