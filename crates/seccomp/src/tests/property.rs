//! The filter does what the profile means, for random profiles and calls.

use proptest::prelude::*;

use super::check::check_all;
use super::interpreter::{Call, run};
use super::random::profile;
use crate::{Arch, Error, Host, Op, plan};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_filter_is_the_profile((host, profile) in profile(true), seed: u64) {
        if let Err(difference) = check_all(host, &profile, seed, 40) {
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
    assert_eq!(check_all(Arch::X86_64, &profile, 1, 40), Ok(()));
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
