//! The resources of `update`: a file with a `linux.resources`, and single limits on top of it.

use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use super::json::{from_json, refuse_nul};
use super::{amend, duplicates, input, json_shape, schema};
use crate::error::{Error, Result, Within};

/// The largest file, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// The object in `linux.resources`, the field, the value.
pub(crate) type Limit = (&'static str, &'static str, Value);

/// Reads the resources and warnings about fields without effect. All parts of the file may be
/// missing; `-` is standard input.
///
/// # Errors
/// The first fault, with its field.
pub(crate) fn read(file: Option<&Path>, limits: &[Limit]) -> Result<(LinuxResources, Vec<String>)> {
    let (mut value, place, mut warnings) = match file {
        None => (Value::Object(Map::new()), String::new(), Vec::new()),
        Some(path) => {
            let place = format!("--resources {}", path.display());
            let (value, warnings) = object(path).within(|| &place)?;
            (value, place, warnings)
        }
    };
    for (object, field, limit) in limits {
        let Some(fields) = value.as_object_mut() else { break };
        let object = fields.entry(*object).or_insert(Value::Null);
        if object.is_null() {
            *object = Value::Object(Map::new());
        }
        if let Some(fields) = object.as_object_mut() {
            fields.insert((*field).to_owned(), limit.clone());
        }
    }
    amend::huge_page_limits(&mut value);
    amend::empty_pids(&mut value);
    let resources = from_json(value.to_string().as_bytes()).within(|| place)?;
    warnings.extend(davit_cgroups::warnings(Some(&resources)));
    Ok((resources, warnings))
}

fn object(path: &Path) -> Result<(Value, Vec<String>)> {
    let text = input::read_or_stdin(path)?;
    if text.len() > MAX_SIZE {
        return Err(Error::new("larger than 1 MiB"));
    }
    let warnings = json_shape::check(&text, &schema::RESOURCES)?;
    refuse_nul(&text)?;
    duplicates::refuse(&text)?;
    let value: Value = from_json(&text)?;
    if value.is_object() { Ok((value, warnings)) } else { Err(Error::new("is not an object")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources(text: &str, limits: &[Limit]) -> Result<(Value, usize)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (resources, warnings) = read(Some(file.path()), limits)?;
        Ok((serde_json::to_value(resources).unwrap(), warnings.len()))
    }

    #[test]
    fn parts_may_be_missing_and_options_go_on_top() {
        assert_eq!(
            resources(r#"{"cpu":{},"memory":null}"#, &[]).unwrap(),
            (json!({ "cpu": {} }), 0)
        );
        let limits = [("memory", "limit", json!(5)), ("pids", "limit", json!(7))];
        let huge = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}"#;
        assert_eq!(resources(huge, &[]).unwrap().0["hugepageLimits"][0]["limit"], json!(i64::MAX));
        let (resources, warnings) =
            resources(r#"{"memory":{"limit":1,"swap":9},"pids":null}"#, &limits).unwrap();
        assert_eq!(resources["memory"], json!({ "limit": 5, "swap": 9 }));
        assert_eq!((resources["pids"]["limit"].as_i64(), warnings), (Some(7), 0));
    }

    #[test]
    fn pids_without_a_limit_change_nothing() {
        assert_eq!(resources(r#"{"pids":{}}"#, &[]).unwrap(), (json!({}), 0));
    }

    #[test]
    fn fields_without_effect_are_warned_of() {
        let typo = r#"{"devices":[{"allow":false,"access":"rwm"}],"memroy":{"limit":1}}"#;
        assert_eq!(resources(typo, &[]).unwrap().1, 1);
        assert_eq!(resources(r#"{"devices":[]}"#, &[]).unwrap().1, 0);
        assert_eq!(resources(r#"{"pids":{"limit":0}}"#, &[]).unwrap().1, 1);
    }

    #[test]
    fn faults_have_their_place() {
        for (text, expected) in [
            (r#"{"memory":{"limit":"much"}}"#, "memory.limit: invalid type"),
            (r#"{"memory":[]}"#, "memory: is an array"),
            (r#"{"memory":{"limit":1,"limit":2}}"#, "duplicate field `limit`"),
            ("[]", "is an array"),
            ("7", "is not an object"),
            ("", "EOF"),
            (r#"{"cpu":{"cpus":"\u0000"}}"#, "cpu.cpus: contains a NUL"),
        ] {
            let error = resources(text, &[]).unwrap_err().to_string();
            assert!(error.starts_with("--resources ") && error.contains(expected), "{error}");
        }
    }
}
