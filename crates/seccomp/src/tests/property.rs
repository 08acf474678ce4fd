//! The filter does what the profile means, for random profiles and calls.

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

use super::interpreter::{Call, run};
use super::random::{Dice, interesting_values, profile};
use super::reference::Reference;
use crate::arch::X32_BIT;
use crate::{Arch, Error, Host, Op, plan};

/// Numbers with every kind of neighbour.
pub(super) fn numbers() -> impl Iterator<Item = u32> + Clone {
    (0..600)
        .chain(0xf_0000..0xf_0008)
        .chain([
            0x3fff_ffff,
            0x7fff_ffff,
            0x8000_0000,
            0x8000_0001,
            0xbfff_ffff,
            u32::MAX - 1,
            u32::MAX,
        ])
        .chain((0..600).map(|number| number | X32_BIT))
        .chain([0xc000_0000, 0xc000_0001])
}

/// Every number of every architecture, with several arguments where they matter.
pub(super) fn check_all(host: Arch, profile: &LinuxSeccomp, seed: u64) -> Result<(), String> {
    let ops = match plan(profile, &Host { arch: host }) {
        Ok(ops) => ops,
        Err(Error::Contradiction { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let Op::Install { program, .. } = &ops[0];
    let reference = Reference::new(profile, host);
    let values = interesting_values(profile);
    let mut dice = Dice(seed | 1);
    // Calls of x32 are calls of x86_64 with a bit set.
    for arch in Arch::ALL.into_iter().filter(|&arch| arch != Arch::X32) {
        for number in numbers() {
            let (plain, call_arch) = match arch {
                Arch::X86_64 if number & X32_BIT != 0 => (number & !X32_BIT, Arch::X32),
                _ => (number, arch),
            };
            let repeat = if reference.is_conditional(call_arch, plain) { 40 } else { 1 };
            for _ in 0..repeat {
                let args = dice.args(arch, &values);
                let expected = reference.evaluate(arch.audit(), number, &args);
                let actual = run(&program.0, &Call::new(arch, arch.audit(), number, args));
                if actual != expected {
                    return Err(format!(
                        "{arch} {number:#x} {args:x?}: {actual:#x} in place of {expected:#x}"
                    ));
                }
            }
        }
    }
    for audit in [0, 1, 0x4000_003e, 0xc000_003f, 0x8000_003e, u32::MAX] {
        for number in [0, 1, 59, 102, u32::MAX] {
            let actual = run(&program.0, &Call::new(host, audit, number, [0; 6]));
            if actual != 0 {
                return Err(format!("unknown architecture {audit:#x}: {actual:#x}"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_filter_is_the_profile((host, profile) in profile(true), seed: u64) {
        if let Err(difference) = check_all(host, &profile, seed) {
            let json = serde_json::to_string(&profile).unwrap();
            prop_assert!(false, "{host}: {difference}\n{json}");
        }
    }
}

#[test]
fn a_contradiction_is_refused_and_names_both_entries() {
    let entry = |value: u64, errno: u32| {
        serde_json::json!({"names": ["close", "read"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [entry(1, 5), entry(2, 6), entry(1, 7)]});
    let profile = serde_json::from_value(profile).unwrap();
    assert_eq!(
        plan(&profile, &Host { arch: Arch::X86_64 }).unwrap_err().to_string(),
        "linux.seccomp.syscalls[2].action: contradicts syscalls[0], which has another action for \"read\" with \
         the same args"
    );
}

#[test]
fn rules_that_are_equal_only_through_socketcall_are_no_contradiction() {
    let entry = |family: u64, errno: u32| {
        serde_json::json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]})
    };
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"], "syscalls": [entry(16, 5), entry(38, 6)]});
    let profile = serde_json::from_value(profile).unwrap();
    assert_eq!(check_all(Arch::X86_64, &profile, 1), Ok(()));
    let Op::Install { program, .. } = &plan(&profile, &Host { arch: Arch::X86_64 }).unwrap()[0];
    let socketcall = Call::new(Arch::X86, Arch::X86.audit(), 102, [1, 0, 0, 0, 0, 0]);
    assert_eq!(run(&program.0, &socketcall), 0x0005_0000 | 5);
}

#[test]
fn a_profile_beyond_the_kernels_limit_is_refused() {
    let args = |value: u64| serde_json::json!([{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]);
    let entries: Vec<_> = (0..1100)
        .map(|value| {
            serde_json::json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args(value)})
        })
        .collect();
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries});
    let error = plan(&serde_json::from_value(profile).unwrap(), &Host { arch: Arch::X86_64 });
    let Err(Error::TooLong { instructions: 4097.., architectures: 1, max: 4096 }) = error else {
        panic!("{error:?}");
    };
}
