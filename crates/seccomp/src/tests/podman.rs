//! The profile that podman 4.3 of Debian 12 writes for a container with default capabilities.

use std::time::{Duration, Instant};

use davit_sys::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccomp;

use super::check::{check_all, numbers};
use super::interpreter::{Call, steps};
use crate::{Arch, Host, Op, plan};

const HOST: Host = Host { arch: Arch::X86_64 };

pub(super) fn profile() -> LinuxSeccomp {
    serde_json::from_str(include_str!("../../testdata/podman-4.3.json")).unwrap()
}

fn program() -> Vec<Instruction> {
    let Op::Install { program, .. } = plan(&profile(), &HOST).unwrap().remove(0);
    program.0
}

#[test]
fn the_filter_is_the_profile() {
    for seed in 0..20 {
        assert_eq!(check_all(HOST.arch, &profile(), seed, 40), Ok(()));
    }
}

#[test]
fn compiles_to_few_instructions() {
    assert!(program().len() <= 250, "{} instructions", program().len());
}

#[test]
fn a_call_takes_few_steps() {
    let steps = |number| {
        steps(&program(), &Call::new(Arch::X86_64, Arch::X86_64.audit(), number, [0; 6])).1
    };
    let worst = (0..470).map(steps).max().unwrap();
    // personality, with five values to compare.
    assert!(worst <= 30, "{worst} steps");
    // As many as for the others: the price of a call does not depend on where it stands in the
    // profile.
    assert!(steps(0) <= 15 && steps(59) <= 15 && steps(435) <= 15);
}

#[test]
fn compiles_in_half_a_millisecond() {
    let profile = profile();
    let time = || {
        let start = Instant::now();
        plan(&profile, &HOST).unwrap();
        start.elapsed()
    };
    let best = (0..50).map(|_| time()).min().unwrap();
    // Without optimisation it takes some ten times as long.
    let limit = Duration::from_micros(if cfg!(debug_assertions) { 5000 } else { 500 });
    println!("compiled in {best:?}, {} instructions", program().len());
    assert!(best <= limit, "{best:?}");
}

#[test]
fn no_way_around_by_another_architecture() {
    let mut alone = profile();
    alone.set_architectures(Some(vec![oci_spec::runtime::Arch::ScmpArchX86_64]));
    let Op::Install { program, .. } = plan(&alone, &HOST).unwrap().remove(0);
    for number in numbers() {
        let call = Call::new(Arch::X86, Arch::X86.audit(), number, [0; 6]);
        assert_eq!(steps(&program.0, &call).0, 0, "x86 {number}");
        let x32 = Call::new(Arch::X86_64, Arch::X86_64.audit(), number | 0x4000_0000, [0; 6]);
        let killed = if number == u32::MAX { 0x0005_0000 | 38 } else { 0 };
        if number | 0x4000_0000 != u32::MAX || number == u32::MAX {
            assert_eq!(steps(&program.0, &x32).0, killed, "x32 {number}");
        }
    }
}
