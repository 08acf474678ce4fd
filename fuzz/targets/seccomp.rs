//! Profile -> BPF, against the reference interpreter: a profile in JSON, or made of bytes.
#![no_main]

use arbitrary::Arbitrary;
use serde_json::{Value, json};

#[derive(Arbitrary, Debug)]
struct Profile {
    default: Action,
    architectures: Vec<Arch>,
    entries: Vec<Entry>,
    seed: u64,
}

#[derive(Arbitrary, Debug)]
struct Entry {
    names: Vec<Name>,
    action: Action,
    args: Vec<(u8, Op, u64, u64)>,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Read,
    Socket,
    Bind,
    Accept4,
    Socketcall,
    Ipc,
    Shmget,
    Personality,
    Ioctl,
    Clone,
    Other(String),
}

#[derive(Arbitrary, Debug)]
enum Action {
    Allow,
    Errno(Option<u16>),
    KillProcess,
    Kill,
    Trap,
    Log,
    Trace(Option<u16>),
    Notify,
}

#[derive(Arbitrary, Debug)]
enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Riscv64,
    Ppc64le,
    S390x,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

fn upper(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let word = text.split('(').next().unwrap_or_default();
    match word {
        "KillProcess" => "KILL_PROCESS".to_owned(),
        "MaskedEq" => "MASKED_EQ".to_owned(),
        word => word.to_uppercase(),
    }
}

fn action(action: &Action) -> (String, Option<u16>) {
    let errno = match action {
        Action::Errno(errno) | Action::Trace(errno) => *errno,
        _ => None,
    };
    (format!("SCMP_ACT_{}", upper(action)), errno)
}

fn entry(entry: &Entry) -> Value {
    let names = entry.names.iter().map(|name| match name {
        Name::Other(name) => name.clone(),
        name => format!("{name:?}").to_lowercase(),
    });
    let args = entry.args.iter().map(|(index, op, value, two)| {
        json!({"index": index % 7, "op": format!("SCMP_CMP_{}", upper(op)), "value": value, "valueTwo": two})
    });
    let (action, errno) = action(&entry.action);
    json!({"names": names.collect::<Vec<_>>(), "action": action, "errnoRet": errno, "args": args.collect::<Vec<_>>()})
}

fn json(profile: &Profile) -> Value {
    let (action, errno) = action(&profile.default);
    let architectures = profile.architectures.iter().map(|arch| format!("SCMP_ARCH_{}", upper(arch)));
    json!({"defaultAction": action, "defaultErrnoRet": errno,
        "architectures": architectures.collect::<Vec<_>>(),
        "syscalls": profile.entries.iter().map(entry).collect::<Vec<_>>()})
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (profile, seed) = match bytes.first() {
        Some(b'{') => (serde_json::from_slice(bytes).ok(), bytes.len() as u64),
        _ => {
            let Ok(profile) = Profile::arbitrary_take_rest(arbitrary::Unstructured::new(bytes)) else { return };
            (serde_json::from_value(json(&profile)).ok(), profile.seed)
        }
    };
    if let Some(profile) = profile {
        davit_seccomp::fuzzing::profile(&profile, seed);
    }
});
