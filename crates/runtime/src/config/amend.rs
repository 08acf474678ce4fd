//! The differences between the specification (and runc) and oci-spec in what a text may contain.
//! A text that oci-spec refuses is read as a JSON value, amended, and read again.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::duplicates;
use super::json::from_json;
use super::json_shape;
use super::schema::{Kind, Members};
use crate::error::{Error, Result};

/// Reads a text that was refused with `error` again, without members that are null and with the
/// changes of `amend`, which returns whether there are any.
///
/// # Errors
/// `error`, if there is nothing to amend; else the first fault of the amended text.
pub(super) fn read_amended<T: DeserializeOwned>(
    text: &[u8],
    members: &'static Members,
    error: Error,
    amend: impl FnOnce(&mut Value) -> bool,
) -> Result<T> {
    duplicates::refuse(text)?;
    let Ok(mut value) = from_json::<Value>(text) else { return Err(error) };
    let nulls = drop_nulls(&mut value, members)?;
    match amend(&mut value) | nulls {
        true => from_json(value.to_string().as_bytes()),
        false => Err(error),
    }
}

/// Amends config.json; returns whether anything changed.
pub(super) fn config(config: &mut Value, warnings: &mut Vec<String>) -> bool {
    config.get_mut("process").is_some_and(|value| process(value, warnings))
        | config.pointer_mut("/linux/resources").is_some_and(huge_page_limits)
}

/// Amends a process: unknown capabilities are dropped, with the warning that the specification
/// demands. Returns whether anything changed.
pub(super) fn process(process: &mut Value, warnings: &mut Vec<String>) -> bool {
    let before = warnings.len();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let unknown =
                name.as_str().filter(|name| davit_privileges::capability::number(name).is_none());
            if let Some(name) = unknown {
                warnings.push(format!("process.capabilities.{set}: unknown capability {name:?}"));
            }
            unknown.is_none()
        });
    }
    scheduler_flags(process) | (warnings.len() > before)
}

/// Two flags have other names in oci-spec.
fn scheduler_flags(process: &mut Value) -> bool {
    let mut changed = false;
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = name.into();
        changed = true;
    }
    changed
}

/// Limits of huge pages have 64 bits in the specification and 63 in oci-spec. Larger ones are the
/// same to the kernel, which counts pages in a long (page_counter_memparse).
pub(super) fn huge_page_limits(resources: &mut Value) -> bool {
    let limits = resources.get_mut("hugepageLimits").and_then(Value::as_array_mut);
    let mut changed = false;
    for limit in limits.into_iter().flatten().filter_map(|entry| entry.get_mut("limit")) {
        if limit.as_u64().is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            *limit = i64::MAX.into();
            changed = true;
        }
    }
    changed
}

/// Drops `pids` without a limit from `linux.resources`: oci-spec would read a limit of 0. By the
/// specification (1.3) it is no limit, and containerd writes it.
pub(super) fn empty_pids(resources: &mut Value) -> bool {
    let is_empty = |pids: &Value| {
        pids.as_object().is_some_and(|pids| pids.get("limit").is_none_or(Value::is_null))
    };
    let empty = resources.get("pids").is_some_and(is_empty);
    if let Some(resources) = resources.as_object_mut().filter(|_| empty) {
        resources.remove("pids");
    }
    empty
}

/// Drops the members that are null: Go, in which most engines are written, writes null for absent.
/// A required member is then missing. Entries with names of the user's choice stay: as objects
/// without members, as Go reads them; other values are left to be refused.
///
/// # Errors
/// A required member that is null, as missing.
fn drop_nulls(value: &mut Value, members: &'static Members) -> Result<bool> {
    let dropped = drop_nulls_below(value, Kind::Object(members));
    if dropped {
        json_shape::check(value.to_string().as_bytes(), members)?;
    }
    Ok(dropped)
}

fn drop_nulls_below(value: &mut Value, kind: Kind) -> bool {
    match (kind, value) {
        (Kind::Object(members), Value::Object(object)) => {
            let before = object.len();
            object.retain(|name, value| !value.is_null() || !members.knows(name));
            let mut dropped = object.len() < before;
            for (name, kind) in members.known {
                dropped |=
                    object.get_mut(*name).is_some_and(|value| drop_nulls_below(value, *kind));
            }
            dropped
        }
        (Kind::List(members), Value::Array(list)) => {
            let drop = |value| drop_nulls_below(value, Kind::Object(members));
            list.iter_mut().map(drop).fold(false, |any, dropped| any | dropped)
        }
        (Kind::Map(kind), Value::Object(map)) => {
            let drop = |value: &mut Value| match kind {
                Kind::Object(_) if value.is_null() => {
                    *value = json!({});
                    true
                }
                kind => drop_nulls_below(value, *kind),
            };
            map.values_mut().map(drop).fold(false, |any, dropped| any | dropped)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{CONFIG, PROCESS};

    #[test]
    fn null_is_absent() {
        let mut value = json!({
            "process": { "env": null, "user": { "uid": null } }, "hooks": null,
            "mounts": [{ "destination": "/a", "type": null }],
            "linux": { "timeOffsets": { "boottime": null }, "netDevices": { "eth0": { "name": null }, "eth1": null } },
        });
        assert!(drop_nulls(&mut value, &CONFIG).unwrap());
        let left = json!({
            "process": { "user": {} }, "mounts": [{ "destination": "/a" }],
            "linux": { "timeOffsets": { "boottime": {} }, "netDevices": { "eth0": {}, "eth1": {} } },
        });
        assert_eq!(value, left);
        assert!(!drop_nulls(&mut value, &CONFIG).unwrap());
    }

    #[test]
    fn null_is_no_value_of_a_member_with_a_name_of_the_users_choice() {
        let mut value = json!({ "annotations": { "a": null }, "linux": { "sysctl": { "b": null } }, "x": null });
        assert!(!drop_nulls(&mut value, &CONFIG).unwrap());
    }

    #[test]
    fn a_required_member_must_not_be_null() {
        let mut value = json!({ "rlimits": [{ "type": "RLIMIT_CPU", "soft": 1, "hard": null }] });
        let error = drop_nulls(&mut value, &PROCESS).unwrap_err();
        assert_eq!(error.to_string(), "rlimits[0]: missing field `hard`");
    }
}
