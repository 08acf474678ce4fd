//! `davit update`

use anyhow::{Context, Result, anyhow, bail};
use lexopt::Parser;
use oci_spec::runtime::LinuxDeviceCgroup;
use runtime::command::{self, UpdateRequest};
use serde_json::{Value, json};

use super::{About, root};
use crate::args::{self, IdArgument, Word};
use crate::globals::Globals;
use crate::output::{self, Outcome};
use crate::page::Page;

pub(super) const PAGE: Page = Page {
    name: "update",
    summary: "change the limits of a container",
    usage: &["[OPTIONS] ID"],
    about: "\
        Changes the limits of a container: all that are given, or none of them. Options go before \
        what the file says. -1 is no limit; BYTES may end in k, m, g or t.",
    options: &[&[
        (
            "-r, --resources FILE",
            "limits as in linux.resources of config.json, of which any part may be missing; - is standard input. Device rules in it are left alone: engines send those of config.json every time",
        ),
        ("--memory BYTES", "memory limit"),
        ("--memory-reservation BYTES", "what reclaim leaves to the container"),
        ("--memory-swap BYTES", "memory and swap together"),
        ("--kernel-memory BYTES", "cgroup v1 only"),
        ("--kernel-memory-tcp BYTES", "cgroup v1 only"),
        ("--cpu-share N", "weight among others (1024 is usual)"),
        ("--cpu-quota N", "microseconds in each period"),
        ("--cpu-period N", "microseconds"),
        ("--cpu-burst N", "microseconds that may be saved up"),
        ("--cpu-rt-period N", "cgroup v1 only"),
        ("--cpu-rt-runtime N", "cgroup v1 only"),
        ("--cpu-idle N", "1: only when nobody else wants to run"),
        ("--cpuset-cpus LIST", "such as 0-3,7"),
        ("--cpuset-mems LIST", "memory nodes, in the same form"),
        ("--pids-limit N", "number of tasks"),
        ("--blkio-weight N", "10 to 1000"),
        (
            "--device-allow RULE",
            "as `c 10:229 rw`: b, c or a; numbers or *; of r, w and m (may be repeated)",
        ),
        ("--device-deny RULE", "the same (a later rule goes before an earlier one)"),
        ("--l3-cache-schema SCHEMA", "refused: not supported yet"),
        ("--mem-bw-schema SCHEMA", "refused: not supported yet"),
    ]],
};

/// How the value of an option is written.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Bytes,
    Text,
}

/// The options that are one limit each: its place in `linux.resources`.
const LIMITS: [(&str, &str, &str, Kind); 16] = [
    ("--blkio-weight", "blockIO", "weight", Kind::Number),
    ("--cpu-burst", "cpu", "burst", Kind::Number),
    ("--cpu-idle", "cpu", "idle", Kind::Number),
    ("--cpu-period", "cpu", "period", Kind::Number),
    ("--cpu-quota", "cpu", "quota", Kind::Number),
    ("--cpu-rt-period", "cpu", "realtimePeriod", Kind::Number),
    ("--cpu-rt-runtime", "cpu", "realtimeRuntime", Kind::Number),
    ("--cpu-share", "cpu", "shares", Kind::Number),
    ("--cpuset-cpus", "cpu", "cpus", Kind::Text),
    ("--cpuset-mems", "cpu", "mems", Kind::Text),
    ("--kernel-memory", "memory", "kernel", Kind::Bytes),
    ("--kernel-memory-tcp", "memory", "kernelTCP", Kind::Bytes),
    ("--memory", "memory", "limit", Kind::Bytes),
    ("--memory-reservation", "memory", "reservation", Kind::Bytes),
    ("--memory-swap", "memory", "swap", Kind::Bytes),
    ("--pids-limit", "pids", "limit", Kind::Number),
];

pub(super) fn run(parser: &mut Parser, globals: &Globals) -> Result<Outcome> {
    let mut id = IdArgument::default();
    let mut request = UpdateRequest::default();
    while let Some(word) = args::next(parser, &PAGE)? {
        match word {
            Word::Value(value) => id.take(value)?,
            Word::Option(option) => take(&mut request, &option, parser)?,
        }
    }
    let id = id.get()?;
    if request.resources.is_none() && request.limits.is_empty() && request.devices.is_empty() {
        bail!("nothing to change is given");
    }
    let warnings = command::update(&root(globals)?, &id, &request).with_context(|| About(id))?;
    output::warn(globals, &warnings);
    Ok(Outcome::Done)
}

fn take(request: &mut UpdateRequest, option: &str, parser: &mut Parser) -> Result<()> {
    match option {
        "--resources" | "-r" => request.resources = Some(args::path(parser, option)?),
        "--device-allow" | "--device-deny" => {
            let text = args::text(parser, option)?;
            let rule = device_rule(&text, option == "--device-allow");
            request.devices.push(rule.with_context(|| format!("{option} {text:?}"))?);
        }
        "--l3-cache-schema" | "--mem-bw-schema" => {
            if !args::text(parser, option)?.is_empty() {
                bail!("{option}: linux.intelRdt is not supported yet");
            }
        }
        other => {
            let limit = LIMITS.iter().find(|(name, ..)| *name == other);
            let (_, object, field, kind) = limit.ok_or_else(|| args::other(other))?;
            let text = args::text(parser, option)?;
            // To say nothing is to change nothing, as with the other runtimes.
            if !text.is_empty() {
                let value = value(&text, *kind).with_context(|| option.to_owned())?;
                request.limits.push((object, field, value));
            }
        }
    }
    Ok(())
}

fn value(text: &str, kind: Kind) -> Result<Value> {
    let number = |text: &str| -> Result<i64> {
        text.parse().map_err(|_| anyhow!("{text:?} is not a number"))
    };
    match kind {
        Kind::Text => Ok(json!(text)),
        Kind::Number => Ok(json!(number(text)?)),
        Kind::Bytes => {
            let lower = text.to_ascii_lowercase();
            let bare = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
            let unit = bare.chars().last().and_then(|last| "kmgt".find(last));
            let (digits, factor) = match unit {
                Some(power) => (bare.get(..bare.len() - 1), 1024_i64 << (10 * power)),
                None => (Some(bare), 1),
            };
            let bytes = scaled(digits.unwrap_or_default(), factor);
            Ok(json!(bytes.ok_or_else(|| anyhow!("{text:?} is no number of bytes"))?))
        }
    }
}

/// A decimal number, `1.5` too, times a factor; nothing where it is none or too large.
fn scaled(text: &str, factor: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| text.parse::<u32>().is_ok() && !text.starts_with('+');
    if !is_number(fraction) || (text.contains('.') && !is_number(whole)) {
        return None;
    }
    let part = format!("0.{fraction}").parse::<f64>().ok()? * factor as f64;
    whole.parse::<i64>().ok()?.checked_mul(factor)?.checked_add(part as i64)
}

/// `c 10:229 rw`, as cgroup v1 writes it, and as `docker run --device-cgroup-rule` takes it.
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
        let bytes = |text| value(text, Kind::Bytes).map(|value| value.as_i64().unwrap());
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
