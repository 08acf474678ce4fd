//! A second opinion on conditions: firecracker's seccompiler compiles the same ones.

use std::collections::BTreeMap;

use davit_sys::seccomp::Instruction;
use proptest::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde_json::json;

use super::check::{Dice, interesting_values};
use super::interpreter::{Call, run};
use crate::{Arch, Host, Op, plan, table};

const OPS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// Argument, operator, value and second value.
type Condition = (u8, &'static str, u64, u64);

/// Rules that allow one call: all conditions of any of them.
type Rules = Vec<BTreeMap<u8, Condition>>;

fn rules() -> impl Strategy<Value = Rules> {
    let value = || prop_oneof![0u64..4, Just(u64::from(u32::MAX)), Just(1 << 32), any::<u64>()];
    let condition = (0u8..6, prop::sample::select(OPS.to_vec()), value(), value());
    let rule = prop::collection::vec(condition, 1..4);
    let by_argument = |rule: Vec<Condition>| rule.into_iter().map(|c| (c.0, c)).collect();
    prop::collection::vec(rule.prop_map(by_argument), 1..5)
}

fn theirs(number: i64, rules: &Rules) -> Vec<Instruction> {
    let condition = |&(index, op, value, two): &Condition| {
        let (op, value) = match op {
            "NE" => (SeccompCmpOp::Ne, value),
            "LT" => (SeccompCmpOp::Lt, value),
            "LE" => (SeccompCmpOp::Le, value),
            "EQ" => (SeccompCmpOp::Eq, value),
            "GE" => (SeccompCmpOp::Ge, value),
            "GT" => (SeccompCmpOp::Gt, value),
            _ => (SeccompCmpOp::MaskedEq(value), two),
        };
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).unwrap()
    };
    let rule =
        |rule: &BTreeMap<_, _>| SeccompRule::new(rule.values().map(condition).collect()).unwrap();
    let rules = BTreeMap::from([(number, rules.iter().map(rule).collect())]);
    let (no, yes) = (SeccompAction::Errno(1), SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, no, yes, TargetArch::x86_64).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    program.into_iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conditions_mean_the_same_to_seccompiler(rules in rules(), seed: u64) {
        let entry = |rule: &BTreeMap<u8, Condition>| {
            let arg = |&(index, op, value, two): &Condition| {
                json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two})
            };
            let args: Vec<_> = rule.values().map(arg).collect();
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args})
        };
        let entries: Vec<_> = rules.iter().map(entry).collect();
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries});
        let profile = serde_json::from_value(profile).unwrap();
        let Op::Install { program, .. } = &plan(&profile, &Host { arch: Arch::X86_64 }).unwrap()[0];
        let number = table::find("ioctl").unwrap().1.number(Arch::X86_64).unwrap();
        let theirs = theirs(number.into(), &rules);
        let (mut dice, values) = (Dice(seed | 1), interesting_values(&profile));
        for _ in 0..200 {
            let args = dice.args(Arch::X86_64, &values);
            let call = Call::new(Arch::X86_64, Arch::X86_64.audit(), number, args);
            prop_assert_eq!(run(&program.0, &call), run(&theirs, &call), "{:x?}", args);
        }
    }
}
