//! How the operation reads, and how it crosses.

use crate::{Arch, FilterSummary, Host, Op, Program, plan};

fn op(json: serde_json::Value) -> Op {
    let profile = serde_json::from_value(json).unwrap();
    plan(&profile, &Host { arch: Arch::X86_64 }).unwrap().remove(0)
}

#[test]
fn the_filter_of_podman_is_one_line() {
    let profile = super::podman::profile();
    let line = plan(&profile, &Host { arch: Arch::X86_64 }).unwrap()[0].to_string();
    assert_eq!(
        line,
        "seccomp filter: 230 instructions, default errno 38 (ENOSYS), 428 syscalls, architectures \
         SCMP_ARCH_X86_64,SCMP_ARCH_X86,SCMP_ARCH_X32, flags spec_allow, skipped unknown syscalls syscall"
    );
}

#[test]
fn skipped_parts_are_displayed() {
    let op = op(serde_json::json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS", "flags": [],
        "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS"],
        "syscalls": [{"names": ["read", "frobnicate", "frobnicate"], "action": "SCMP_ACT_ALLOW"}],
    }));
    assert_eq!(
        op.to_string(),
        "seccomp filter: 10 instructions, default kill process, 1 syscalls, architectures SCMP_ARCH_X86_64, no \
         flags, skipped architectures SCMP_ARCH_AARCH64,SCMP_ARCH_MIPS, skipped unknown syscalls frobnicate"
    );
}

#[test]
fn flags_are_those_of_the_profile() {
    let flags = |json: &str| {
        let profile = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{json}}}"#);
        let profile = serde_json::from_str(&profile).unwrap();
        let ops = plan(&profile, &Host { arch: Arch::X86_64 });
        ops.map(|ops| match ops[0] {
            Op::Install { flags, .. } => flags,
        })
    };
    assert_eq!(flags(""), Ok(4));
    assert_eq!(flags(r#","flags":[]"#), Ok(0));
    assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC"]"#), Ok(3));
    let notify =
        r#","listenerPath":"/s","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]"#;
    assert_eq!(flags(notify), Ok(8 | 4));
    let all = r#","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    // A listener and TSYNC together want TSYNC_ESRCH (seccomp(2)).
    assert_eq!(flags(&format!("{notify}{all}")), Ok(8 | 1 | 16 | 32));
    let refused = flags(r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#).unwrap_err();
    assert!(refused.to_string().starts_with("linux.seccomp.flags: "));
}

#[test]
fn the_program_is_serialised_as_bytes_without_the_summary() {
    let Op::Install { flags, program, .. } =
        op(serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let json = serde_json::to_value(Op::Install {
        flags,
        program: program.clone(),
        send_via: None,
        summary: FilterSummary { syscalls: 7, ..FilterSummary::default() },
    })
    .unwrap();
    assert!(json["Install"].get("summary").is_none());
    let bytes = json["Install"]["program"].as_array().unwrap();
    assert_eq!(bytes.len(), 8 * program.0.len());
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
    let deserializer = serde::de::value::BytesDeserializer::<serde::de::value::Error>::new(&bytes);
    assert_eq!(serde::Deserialize::deserialize(deserializer), Ok(program));
    let short = serde::de::value::BytesDeserializer::<serde::de::value::Error>::new(&bytes[1..]);
    assert!(<Program as serde::Deserialize>::deserialize(short).is_err());
}
