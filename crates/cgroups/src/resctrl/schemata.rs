//! Lines of a `schemata` file: `RESOURCE:DOMAIN=LIMIT;DOMAIN=LIMIT`.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxIntelRdt;

use super::{Error, field};

/// Limits that are written with one write(2).
pub(super) struct Wanted {
    /// Their field.
    pub(super) field: &'static str,
    /// The lines, each with its newline.
    pub(super) lines: String,
}

/// The limits to write, in order: `schemata` last, as the specification says.
pub(super) fn wanted(rdt: &LinuxIntelRdt) -> Result<Vec<Wanted>, Error> {
    let mut wanted = Vec::new();
    let cache = rdt.l3_cache_schema().as_deref().filter(|text| !text.is_empty());
    let bandwidth = rdt.mem_bw_schema().as_deref().filter(|text| !text.is_empty());
    let cache_lines: Vec<_> = cache.into_iter().flat_map(str::lines).collect();
    let wrong = |line: &&&str| !is_limit(line);
    if let Some(line) = cache_lines.iter().find(wrong) {
        return Err(field("l3CacheSchema", format!("{line:?} is not a line of limits")));
    }
    if bandwidth.is_some_and(|line| !line.starts_with("MB:") || line.contains('\n')) {
        return Err(field("memBwSchema", "is not one line that begins with \"MB:\""));
    }
    // `memBwSchema` takes precedence over a bandwidth in `l3CacheSchema`.
    let cache = cache_lines.iter().filter(|line| bandwidth.is_none() || !line.starts_with("MB:"));
    let lines: String = cache.copied().chain(bandwidth).map(with_newline).collect();
    if !lines.is_empty() {
        let field = if cache_lines.is_empty() { "memBwSchema" } else { "l3CacheSchema" };
        wanted.push(Wanted { field, lines });
    }
    let lines = rdt.schemata().as_deref().unwrap_or_default();
    let wrong = |line: &String| line.contains('\n') || !is_limit(line);
    if let Some(index) = lines.iter().position(wrong) {
        return Err(field(format!("schemata[{index}]"), "is not one line of limits"));
    }
    if !lines.is_empty() {
        let lines = lines.iter().map(|line| with_newline(line)).collect();
        wanted.push(Wanted { field: "schemata", lines });
    }
    Ok(wanted)
}

fn is_limit(line: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(resource, limits)| !resource.is_empty() && !limits.is_empty())
}

fn with_newline(line: &str) -> String {
    format!("{line}\n")
}

/// Checks that a group has these limits.
pub(super) fn compare(wanted: &Wanted, present: &str) -> Result<(), Error> {
    let present = limits(present);
    for ((resource, domain), limit) in limits(&wanted.lines) {
        let has = match present.get(&(resource, domain)) {
            Some(has) if *has == limit => continue,
            Some(has) => format!("{resource}:{domain}={has}"),
            None => "no such limit".to_owned(),
        };
        let reason = format!("{resource}:{domain}={limit} is requested, but the group has {has}");
        return Err(field(wanted.field, reason));
    }
    Ok(())
}

/// The limits by resource and domain, without the blanks and zeroes with which the kernel pads
/// them.
fn limits(text: &str) -> BTreeMap<(&str, &str), &str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let each = lines.flat_map(|(resource, rest)| {
        let limits = rest.split(';').filter_map(|limit| limit.split_once('='));
        limits.map(move |(domain, limit)| {
            let limit = limit.trim().trim_start_matches('0');
            ((resource.trim(), domain.trim()), if limit.is_empty() { "0" } else { limit })
        })
    });
    each.collect()
}
