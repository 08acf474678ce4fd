//! `update`: other limits for a container that lives, all of them or none.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde_json::{Map, Value};

use super::undertaking::explain;
use super::{LOCK, pause};
use crate::bundle;
use crate::error::{Error, Result, Within};
use crate::id::Id;
use crate::record::{Entry, Root};
use crate::state::Status;
use crate::strict;

/// The most that is read from standard input, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// What the command line says.
#[derive(Debug, Default)]
pub struct UpdateRequest {
    /// The file with a `linux.resources`, of which each part may be missing; `-` is standard input.
    pub resources: Option<PathBuf>,
    /// Single limits on top of it: the object in `linux.resources`, the field, the value.
    pub limits: Vec<(&'static str, &'static str, Value)>,
    /// Device rules, after those that hold.
    pub devices: Vec<LinuxDeviceCgroup>,
}

/// Changes the limits of a container. Returns what was not applied though it was given.
///
/// # Errors
/// The limit that cannot be had; then the others are as they were, or the message says which are not.
pub fn update(root: &Root, id: &Id, request: &UpdateRequest) -> Result<Vec<String>> {
    let (resources, warnings) = resources(request)?;
    let entry = root.get(id)?;
    let _lock = entry.lock(LOCK)?;
    let record = entry.record()?;
    Status::of_living(&record)?;
    let cgroup = pause::cgroup(&record)?;
    let layout = cgroups::Layout::discover().within(|| "cgroups")?;
    let current = cgroups::Current::read(cgroup)?;
    let path = cgroup.members.first().map(|member| member.path.as_path()).unwrap_or(Path::new(""));
    let mut ops = cgroups::plan_update(&resources, path, cgroup.unit.as_ref(), &layout, current)?;
    if request.devices.is_empty() {
        apply(&ops)?;
        return Ok(warnings);
    }
    let config = entry.kept()?.base()?.devices;
    let mut before = entry.device_rules()?;
    // Last: these alone cannot be put back.
    let devices = cgroups::plan_device_update(&config, &before, &request.devices, path, &layout)?;
    ops.extend(devices);
    apply(&ops)?;
    before.extend(request.devices.iter().cloned());
    note(&entry, &before)?;
    Ok(warnings)
}

fn note(entry: &Entry, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    entry.write_device_rules(rules).map_err(|error| error.hint("the device rules hold already"))
}

fn apply(ops: &[cgroups::Op]) -> Result<()> {
    cgroups::update(ops).map_err(|unfinished| {
        let failure = unfinished.failure;
        let op = ops.get(failure.op);
        let error = explain(op, &failure.error, &unfinished.said);
        let hint = error.advice().map(str::to_owned);
        let changed: Vec<String> =
            unfinished.changed.iter().map(|path| path.display().to_string()).collect();
        let left = (!changed.is_empty())
            .then(|| format!("changed, and not put back: {}", changed.join(", ")));
        let hints: Vec<String> = hint.into_iter().chain(left).collect();
        if hints.is_empty() { error } else { error.hint(hints.join("; ")) }
    })
}

/// What is asked for, and warnings about what of it is left alone.
fn resources(request: &UpdateRequest) -> Result<(LinuxResources, Vec<String>)> {
    let (mut value, place) = match &request.resources {
        None => (Value::Object(Map::new()), String::new()),
        Some(path) => {
            let place = format!("--resources {}", path.display());
            (object(path).within(|| &place)?, place)
        }
    };
    for (object, field, limit) in &request.limits {
        let Some(fields) = value.as_object_mut() else { break };
        let object = fields.entry(*object).or_insert(Value::Null);
        if object.is_null() {
            *object = Value::Object(Map::new());
        }
        if let Some(fields) = object.as_object_mut() {
            fields.insert((*field).to_owned(), limit.clone());
        }
    }
    let text = value.to_string();
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_str(&text);
    let parsed: std::result::Result<LinuxResources, _> =
        serde_ignored::deserialize(&mut json, |path| unknown.push(bundle::tidy(&path.to_string())));
    let resources = match parsed {
        Ok(resources) => resources,
        // Once more, for the place of the fault.
        Err(_) => bundle::from_json(text.as_bytes()).within(|| place)?,
    };
    let mut warnings: Vec<String> =
        unknown.iter().map(|field| format!("{field}: is not known, and ignored")).collect();
    if resources.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        // Engines send those of config.json with every update, and helpers of theirs (for GPUs)
        // have added rules since, which must stay.
        let words = "devices: left as they are: --device-allow and --device-deny change them";
        warnings.push(words.to_owned());
    }
    Ok((resources, warnings))
}

fn object(path: &Path) -> Result<Value> {
    let text = bundle::read_or_stdin(path)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(Error::new("larger than 1 MiB"));
    }
    strict::check(&text)?;
    bundle::refuse_nul(&text)?;
    let value: Value = bundle::from_json(&text)?;
    if value.is_object() { Ok(value) } else { Err(Error::new("is not an object")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str, limits: &[(&'static str, &'static str, Value)]) -> Result<(Value, usize)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let request = UpdateRequest {
            resources: Some(file.path().to_owned()),
            limits: limits.to_vec(),
            devices: Vec::new(),
        };
        let (resources, warnings) = resources(&request)?;
        Ok((serde_json::to_value(resources).unwrap(), warnings.len()))
    }

    #[test]
    fn parts_may_be_missing_and_options_go_on_top() {
        assert_eq!(read(r#"{"cpu":{},"memory":null}"#, &[]).unwrap(), (json!({ "cpu": {} }), 0));
        let limits = [("memory", "limit", json!(5)), ("pids", "limit", json!(7))];
        let (resources, warnings) =
            read(r#"{"memory":{"limit":1,"swap":9},"pids":null}"#, &limits).unwrap();
        assert_eq!(resources["memory"], json!({ "limit": 5, "swap": 9 }));
        assert_eq!((resources["pids"]["limit"].as_i64(), warnings), (Some(7), 0));
    }

    #[test]
    fn what_is_left_alone_is_said() {
        let devices = r#"{"devices":[{"allow":false,"access":"rwm"}],"memroy":{"limit":1}}"#;
        assert_eq!(read(devices, &[]).unwrap().1, 2);
        assert_eq!(read(r#"{"devices":[]}"#, &[]).unwrap().1, 0);
    }

    #[test]
    fn faults_have_their_place() {
        for (text, expected) in [
            (r#"{"memory":{"limit":"much"}}"#, "memory.limit: invalid type"),
            (r#"{"memory":[]}"#, "memory: is an array"),
            ("[]", "is an array"),
            ("7", "is not an object"),
            ("", "EOF"),
            (r#"{"cpu":{"cpus":"\u0000"}}"#, "cpu.cpus: contains a NUL"),
        ] {
            let error = read(text, &[]).unwrap_err().to_string();
            assert!(error.starts_with("--resources ") && error.contains(expected), "{error}");
        }
    }
}
