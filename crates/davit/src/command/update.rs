//! `davit update`

use anyhow::{Context, Result, anyhow, bail};
use davit_runtime::command::{self, UpdateRequest};
use lexopt::Parser;
use oci_spec::runtime::LinuxDeviceCgroup;
use serde_json::{Value, json};

use super::{ContainerContext, root};
use crate::args;
use crate::cli::option::{Setter, Table};
use crate::cli::{Argument, CommandSpec};
use crate::globals::Globals;
use crate::output::Outcome;

pub(super) static SPEC: CommandSpec = CommandSpec {
    name: "update",
    summary: "change the limits of a container",
    usage: &["[OPTIONS] ID"],
    about: "\
        Changes the limits of a container, all of those that are given or none. Options take \
        precedence over the file. -1 means no limit; BYTES may end in k, m, g or t.",
    arguments: &[Argument::Id],
    options: &OPTIONS,
};

static OPTIONS: Table<UpdateRequest> = &[&[
    (
        "-r, --resources",
        Setter::File(|all, path| all.resources = Some(path)),
        "file with limits in the form of linux.resources of config.json, of which any part may be \
         missing; - is standard input. Its device rules are ignored: engines always send those of \
         config.json",
    ),
    (
        "--memory",
        Setter::Text("BYTES", |all, text| limit(all, "memory", "limit", bytes, &text)),
        "limit of memory",
    ),
    (
        "--memory-reservation",
        Setter::Text("BYTES", |all, text| limit(all, "memory", "reservation", bytes, &text)),
        "soft limit: memory protected from reclaim",
    ),
    (
        "--memory-swap",
        Setter::Text("BYTES", |all, text| limit(all, "memory", "swap", bytes, &text)),
        "limit of memory and swap together",
    ),
    (
        "--kernel-memory",
        Setter::Text("BYTES", |all, text| limit(all, "memory", "kernel", bytes, &text)),
        "cgroup v1 only",
    ),
    (
        "--kernel-memory-tcp",
        Setter::Text("BYTES", |all, text| limit(all, "memory", "kernelTCP", bytes, &text)),
        "cgroup v1 only",
    ),
    (
        "--cpu-share",
        Setter::Text("N", |all, text| limit(all, "cpu", "shares", number, &text)),
        "relative CPU weight (1024 is the usual value)",
    ),
    (
        "--cpu-quota",
        Setter::Text("N", |all, text| limit(all, "cpu", "quota", number, &text)),
        "CPU time per period, in microseconds",
    ),
    (
        "--cpu-period",
        Setter::Text("N", |all, text| limit(all, "cpu", "period", number, &text)),
        "length of the period, in microseconds",
    ),
    (
        "--cpu-burst",
        Setter::Text("N", |all, text| limit(all, "cpu", "burst", number, &text)),
        "unused CPU time that may be accumulated, in microseconds",
    ),
    (
        "--cpu-rt-period",
        Setter::Text("N", |all, text| limit(all, "cpu", "realtimePeriod", number, &text)),
        "cgroup v1 only",
    ),
    (
        "--cpu-rt-runtime",
        Setter::Text("N", |all, text| limit(all, "cpu", "realtimeRuntime", number, &text)),
        "cgroup v1 only",
    ),
    (
        "--cpu-idle",
        Setter::Text("N", |all, text| limit(all, "cpu", "idle", number, &text)),
        "1: SCHED_IDLE, run only when the CPUs are otherwise idle",
    ),
    (
        "--cpuset-cpus",
        Setter::Text("LIST", |all, text| limit(all, "cpu", "cpus", list, &text)),
        "CPUs, such as 0-3,7",
    ),
    (
        "--cpuset-mems",
        Setter::Text("LIST", |all, text| limit(all, "cpu", "mems", list, &text)),
        "memory nodes, such as 0-1",
    ),
    (
        "--pids-limit",
        Setter::Text("N", |all, text| limit(all, "pids", "limit", number, &text)),
        "maximum number of tasks",
    ),
    (
        "--blkio-weight",
        Setter::Text("N", |all, text| limit(all, "blockIO", "weight", number, &text)),
        "relative I/O weight, 10 to 1000",
    ),
    (
        "--device-allow",
        Setter::Text("RULE", |all, text| rule(all, true, &text)),
        "device rule TYPE MAJOR:MINOR ACCESS, for example `c 10:229 rw` (repeatable)",
    ),
    (
        "--device-deny",
        Setter::Text("RULE", |all, text| rule(all, false, &text)),
        "as --device-allow; later rules override earlier ones",
    ),
    (
        "--l3-cache-schema",
        Setter::Text("SCHEMA", |_, text| schema(&text)),
        "not supported by update yet",
    ),
    (
        "--mem-bw-schema",
        Setter::Text("SCHEMA", |_, text| schema(&text)),
        "not supported by update yet",
    ),
]];

/// Adds one limit, by its path in `linux.resources`. An empty value changes nothing, as with other
/// runtimes.
fn limit(
    request: &mut UpdateRequest,
    object: &'static str,
    field: &'static str,
    read: fn(&str) -> Result<Value>,
    text: &str,
) -> Result<()> {
    if !text.is_empty() {
        request.limits.push((object, field, read(text)?));
    }
    Ok(())
}

fn rule(request: &mut UpdateRequest, allow: bool, text: &str) -> Result<()> {
    request.devices.push(device_rule(text, allow).with_context(|| format!("{text:?}"))?);
    Ok(())
}

fn schema(text: &str) -> Result<()> {
    match text {
        "" => Ok(()),
        _ => bail!("changing linux.intelRdt with update is not supported yet (create supports it)"),
    }
}

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut request = UpdateRequest::default();
    let id = args::id_and_options(parser, OPTIONS, &mut request)?;
    if request.resources.is_none() && request.limits.is_empty() && request.devices.is_empty() {
        bail!("no limits given: use --resources or one of the limit options");
    }
    command::update(&root(globals)?, &id, &request).with_context(|| ContainerContext(id))?;
    Ok(Outcome::Done)
}

fn list(text: &str) -> Result<Value> {
    Ok(json!(text))
}

fn number(text: &str) -> Result<Value> {
    let number: i64 = text.parse().map_err(|_| anyhow!("{text:?} is not a number"))?;
    Ok(json!(number))
}

fn bytes(text: &str) -> Result<Value> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let unit = bare.chars().last().and_then(|last| "kmgt".find(last));
    let (digits, factor) = match unit {
        Some(power) => (bare.get(..bare.len() - 1), 1024_i64 << (10 * power)),
        None => (Some(bare), 1),
    };
    let bytes = scaled(digits.unwrap_or_default(), factor);
    Ok(json!(bytes.ok_or_else(|| anyhow!("{text:?} is not a size in bytes, such as 64m"))?))
}

/// A decimal number, such as `1.5`, times a factor; `None` if it is invalid or too large.
fn scaled(text: &str, factor: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    if !is_number(fraction) || (text.contains('.') && !is_number(whole)) {
        return None;
    }
    let part = format!("0.{fraction}").parse::<f64>().ok()? * factor as f64;
    whole.parse::<i64>().ok()?.checked_mul(factor)?.checked_add(part as i64)
}

/// Parses a rule such as `c 10:229 rw`, in the format of cgroup v1 and of `docker run
/// --device-cgroup-rule`.
fn device_rule(text: &str, allow: bool) -> Result<LinuxDeviceCgroup> {
    let wrong = || anyhow!("is not a rule such as \"c 10:229 rw\"");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words.as_slice() else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(-1),
        text => args::strict_number(text).map(i64::from),
    };
    let rule = json!({
        "allow": allow, "type": kind, "major": number(major)?, "minor": number(minor)?,
        "access": access
    });
    serde_json::from_value(rule).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let bytes = |text| super::bytes(text).map(|value| value.as_i64().unwrap());
        for (text, expected) in [
            ("0", 0),
            ("-1", -1),
            ("4096", 4096),
            ("4096b", 4096),
            ("64k", 65536),
            ("64K", 65536),
            ("64m", 64 << 20),
            ("1MiB", 1 << 20),
            ("2GB", 2 << 30),
            ("1t", 1 << 40),
            ("1.5g", 3 << 29),
            ("0.25k", 256),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "k",
            "1.5.g",
            "1.",
            ".5",
            "-1.5",
            "1.+5",
            "1kk",
            "x",
            "99999999999t",
            " 1",
            "1 m",
            "mb",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_those_of_cgroup_v1() {
        let rule = device_rule("c 10:* rw", true).unwrap();
        assert_eq!((rule.allow(), rule.major(), rule.minor()), (true, Some(10), Some(-1)));
        assert_eq!(rule.access().as_deref(), Some("rw"));
        for bad in ["", "c", "c 10 rw", "c 10:x rw", "z 1:1 r", "c 1:1 r w", "c -1:1 r"] {
            assert!(device_rule(bad, true).is_err(), "{bad}");
        }
    }
}
