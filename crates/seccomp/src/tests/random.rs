//! Random profiles and calls.

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Arch, table};

/// ArchRules that meet often enough for entries to collide; also both ways to a call, and x32's own
/// numbers.
const CROWDED: [&str; 10] = [
    "read",
    "socket",
    "bind",
    "accept4",
    "socketcall",
    "ipc",
    "shmget",
    "personality",
    "ioctl",
    "clone",
];

fn action() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    prop_oneof![
        4 => Just(("SCMP_ACT_ALLOW", None)),
        3 => prop::option::of(1u32..4).prop_map(|errno| ("SCMP_ACT_ERRNO", errno)),
        1 => Just(("SCMP_ACT_KILL_PROCESS", None)),
        1 => Just(("SCMP_ACT_KILL", None)),
        1 => Just(("SCMP_ACT_TRAP", None)),
        1 => Just(("SCMP_ACT_LOG", None)),
        1 => prop::option::of(0u32..3).prop_map(|message| ("SCMP_ACT_TRACE", message)),
    ]
}

fn value(wide: bool) -> BoxedStrategy<u64> {
    let narrow = prop_oneof![0u64..4, Just(u64::from(u32::MAX)), any::<u32>().prop_map(u64::from)];
    match wide {
        false => narrow.boxed(),
        true => prop_oneof![
            3 => narrow,
            1 => (0u64..3, 0u64..3).prop_map(|(high, low)| high << 32 | low),
            1 => any::<u64>(),
        ]
        .boxed(),
    }
}

fn arg(wide: bool) -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0usize..6, value(wide), value(wide), op).prop_map(|(index, value, value_two, op)| {
        json!({"index": index, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{op}")})
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(CROWDED.to_vec()).prop_map(str::to_owned),
        6 => (0..table::rows().len()).prop_map(|index| table::rows()[index].name.to_owned()),
        1 => Just("no_such_call".to_owned()),
    ]
}

fn entry(wide: bool) -> impl Strategy<Value = Value> {
    let args = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(arg(wide), 1..4),
    ];
    (prop::collection::vec(name(), 1..12), action(), args).prop_map(
        |(names, (action, errno), args)| match errno {
            Some(errno) => {
                json!({"names": names, "action": action, "errnoRet": errno, "args": args})
            }
            None => json!({"names": names, "action": action, "args": args}),
        },
    )
}

/// A host, and a profile for it. Values stay below 32 bits unless `wide`.
pub(crate) fn profile(wide: bool) -> impl Strategy<Value = (Arch, LinuxSeccomp)> {
    let host = prop_oneof![3 => Just(Arch::X86_64), 1 => prop::sample::select(Arch::ALL.to_vec())];
    let archs = prop::sample::subsequence(Arch::ALL.to_vec(), 0..=8);
    (host, archs, action(), prop::collection::vec(entry(wide), 0..14)).prop_map(
        |(host, archs, (action, errno), entries)| {
            let archs: Vec<&str> = archs.iter().map(|arch| arch.name()).collect();
            let mut profile = json!({
                "defaultAction": action, "architectures": archs, "syscalls": entries,
            });
            if let Some(errno) = errno {
                profile["defaultErrnoRet"] = json!(errno);
            }
            // No program of the host's own kind is x32.
            let host = if host == Arch::X32 { Arch::X86_64 } else { host };
            (host, serde_json::from_value(profile).unwrap())
        },
    )
}

/// Entries for one call that overlap, with an errno each: what is returned tells which one was
/// tried first. One condition each, and no masks: with more, libseccomp 2.5.4 loses rules, or
/// itself in an endless loop. Nor an upper and a lower bound that meet: it tries them together.
pub(crate) fn overlapping() -> impl Strategy<Value = LinuxSeccomp> {
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT"]);
    let entries = prop::collection::vec((0usize..3, 0u64..6, op), 2..6);
    let meet = |&(index, value, op): &(usize, u64, &str), entries: &[(usize, u64, &str)]| {
        let other = if op == "LT" { "GE" } else { "GT" };
        matches!(op, "LT" | "LE") && entries.contains(&(index, value, other))
    };
    let apart = move |entries: &Vec<_>| !entries.iter().any(|entry| meet(entry, entries));
    entries.prop_filter("bounds meet", apart).prop_map(|entries| {
        let entry = |(errno, (index, value, op)): (u32, (usize, u64, &str))| {
            let arg = json!({"index": index, "value": value, "op": format!("SCMP_CMP_{op}")});
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [arg]})
        };
        let entries: Vec<Value> = (10..).zip(entries).map(entry).collect();
        serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries})).unwrap()
    })
}
