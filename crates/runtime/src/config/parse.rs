//! A text into a configuration, or into a part of it that another command reads.

use oci_spec::runtime::{Mount, Process, Spec};
use serde::Deserialize;
use serde_json::Value;

use super::blank::blank;
use super::file::{ProcessFile, SpecFile};
use super::json::{from_json, refuse_nul};
use super::{amend, json_shape, schema};
use crate::error::{Error, Result};

/// The members of config.json that are for other platforms.
const OTHER_PLATFORMS: [&str; 5] = ["solaris", "windows", "vm", "zos", "freebsd"];

/// Parses config.json. Unknown capabilities and unknown fields become warnings.
///
/// # Errors
/// The first fault, with its field.
pub(crate) fn config(text: &[u8]) -> Result<(Box<Spec>, Vec<String>)> {
    let mut warnings = json_shape::check(text, &schema::CONFIG)?;
    refuse_nul(text)?;
    let file: SpecFile = from_json(text).or_else(|error| {
        let amend = |value: &mut Value| amend::config(value, &mut warnings);
        amend::read_amended(text, &schema::CONFIG, error, amend)
    })?;
    let mut spec = file.into_spec()?;
    add_linux(&mut spec, text)?;
    drop_empty_pids(&mut spec, text)?;
    Ok((spec, warnings))
}

/// Parses the file of `exec --process`, with warnings as of [`config`].
///
/// # Errors
/// The first fault, with its field.
pub(crate) fn process(text: &[u8]) -> Result<(Process, Vec<String>)> {
    let mut warnings = json_shape::check(text, &schema::PROCESS)?;
    refuse_nul(text)?;
    let file: ProcessFile = from_json(text).or_else(|error| {
        let amend = |value: &mut Value| amend::process(value, &mut warnings);
        amend::read_amended(text, &schema::PROCESS, error, amend)
    })?;
    Ok((file.into_process()?, warnings))
}

/// Parses the file of `mounts`: the list alone, as crun reads it, or as a member of an object.
///
/// # Errors
/// The first fault, with its field.
pub(crate) fn mounts(mut text: Vec<u8>) -> Result<(Vec<Mount>, Vec<String>)> {
    #[derive(Deserialize)]
    struct Section {
        mounts: Vec<Mount>,
    }
    if text.trim_ascii_start().starts_with(b"[") {
        text = [b"{\"mounts\":", text.as_slice(), b"}"].concat();
    }
    let warnings = json_shape::check(&text, &schema::CONFIG)?;
    refuse_nul(&text)?;
    let section: Section = from_json(&text)
        .or_else(|error| amend::read_amended(&text, &schema::CONFIG, error, |_| false))?;
    Ok((section.mounts, warnings))
}

/// Adds an empty `linux`: a container without namespaces, limits and masked paths.
///
/// # Errors
/// The configuration is one of another platform.
fn add_linux(spec: &mut Spec, text: &[u8]) -> Result<()> {
    if spec.linux().is_some() {
        return Ok(());
    }
    let value: Value = from_json(text)?;
    let other =
        OTHER_PLATFORMS.iter().find(|name| value.get(name).is_some_and(|value| !value.is_null()));
    if let Some(other) = other {
        let reason = format!("not a configuration for a Linux container: it has {other:?} instead");
        return Err(Error::new(format!("linux: is missing: {reason}")));
    }
    spec.set_linux(Some(blank()?));
    Ok(())
}

/// Takes `pids` without a limit out of a configuration that was read from `text`.
fn drop_empty_pids(spec: &mut Spec, text: &[u8]) -> Result<()> {
    let linux = spec.linux_mut().as_mut();
    let Some(resources) = linux.and_then(|linux| linux.resources_mut().as_mut()) else {
        return Ok(());
    };
    if resources.pids().is_some_and(|pids| pids.limit() == 0) {
        let mut value: Value = from_json(text)?;
        if value.pointer_mut("/linux/resources").is_some_and(amend::empty_pids) {
            resources.set_pids(None);
        }
    }
    Ok(())
}

/// The process of a container that is created without one. It can never be started, and init has
/// no capabilities until the container is deleted.
pub(crate) fn no_process() -> Result<Process> {
    let mut process: Process = blank()?;
    process.set_cwd("/".into()).set_capabilities(Some(blank()?)).set_no_new_privileges(Some(true));
    Ok(process)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(text: &str) -> String {
        config(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn faults_are_named_by_their_place() {
        for (text, expected) in [
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"x"}]}}"#,
                "linux.namespaces[1].type",
            ),
            (r#"{"process":{"cwd":"/","user":{"uid":-1}}}"#, "process.user.uid"),
            (r#"{"hostname":"a\u0000b"}"#, "hostname: contains a NUL byte"),
            (r#"{"mounts":[{"destination":"/a","options":["\u0000"]}]}"#, "mounts[0].options[0]"),
            (r#"{"ociVersion":"1.0.0","ociVersion":"1.0.0"}"#, "duplicate field"),
            // Nor is an amended text allowed to have it.
            (
                r#"{"ociVersion":"1.0.0","hostname":"a","hostname":"b","process":{"cwd":"/","user":null}}"#,
                "duplicate field `hostname`",
            ),
            (r#"{"ociVersion":"1.0.0"} x"#, "trailing characters"),
            ("[]", "is an array"),
            (r#"{"linux":[]}"#, "linux: is an array"),
            ("", "EOF"),
            (r#"{"ociVersion":"1.0.0""#, "EOF while parsing an object"),
        ] {
            assert!(fault(text).contains(expected), "{text}: {}", fault(text));
        }
        assert!(fault(&r#"{"a":"#.repeat(200)).contains("nested deeper"));
        assert!(config(b"{\"hostname\":\"\xff\"}").is_err());
    }

    #[test]
    fn the_members_of_other_platforms_are_not_read() {
        let text = r#"{"ociVersion":"1.0.0","linux":{},"vm":{},"windows":{"layerFolders":7}}"#;
        assert!(config(text.as_bytes()).is_ok());
    }

    #[test]
    fn an_escaped_backslash_is_not_a_nul() {
        assert!(config(br#"{"ociVersion":"1.0.0","hostname":"a\\u0000"}"#).is_ok());
    }

    #[test]
    fn unknown_capabilities_warn() {
        let text = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NEW"]}}}"#;
        let (spec, warnings) = config(text.as_bytes()).unwrap();
        assert_eq!(warnings, ["process.capabilities.bounding: unknown capability \"CAP_NEW\""]);
        assert!(spec.process().as_ref().unwrap().capabilities().is_some());
    }

    #[test]
    fn the_scheduler_flags_of_the_specification_are_read() {
        let process = r#"{"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":"SCHED_OTHER",
            "flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN",
            "SCHED_FLAG_UTIL_CLAMP_MAX"]}}"#;
        let flags = |process: &oci_spec::runtime::Process| {
            process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len()
        };
        assert_eq!(flags(&super::process(process.as_bytes()).unwrap().0), 7);
        let (spec, warnings) =
            config(format!(r#"{{"ociVersion":"1.0.0","process":{process}}}"#).as_bytes()).unwrap();
        assert_eq!(flags(spec.process().as_ref().unwrap()), 7);
        assert_eq!(warnings.len(), 0);
        let unknown = process.replace("RECLAIM", "X");
        let error = super::process(unknown.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("scheduler.flags[1]: unknown variant"), "{error}");
    }

    #[test]
    fn an_empty_list_of_processors_is_none() {
        let process = br#"{"cwd":"/","user":{"uid":0,"gid":0},
            "execCPUAffinity":{"initial":"0","final":""}}"#;
        let (process, _) = super::process(process).unwrap();
        let affinity = process.exec_cpu_affinity().as_ref().unwrap();
        assert_eq!(affinity.initial().as_deref(), Some("0"));
        assert_eq!(*affinity.cpu_affinity_final(), None);
    }

    #[test]
    fn limits_of_huge_pages_have_64_bits() {
        let spec = |limit: &str| {
            let limit = format!(r#"{{"pageSize":"2MB","limit":{limit}}}"#);
            let resources = format!(r#"{{"hugepageLimits":[{limit}]}}"#);
            config(
                format!(r#"{{"ociVersion":"1.0.0","linux":{{"resources":{resources}}}}}"#)
                    .as_bytes(),
            )
        };
        for largest in ["9223372036854775807", "9223372036854775808", "18446744073709551615"] {
            let (spec, warnings) = spec(largest).unwrap();
            let linux = serde_json::to_value(spec.linux()).unwrap();
            let limit = linux.pointer("/resources/hugepageLimits/0/limit").unwrap();
            assert_eq!((limit.as_i64(), warnings.len()), (Some(i64::MAX), 0), "{largest}");
        }
        assert!(spec("18446744073709551616").is_err());
    }

    #[test]
    fn pids_without_a_limit_are_absent() {
        for (pids, left) in [
            (json!({}), false),
            (json!({ "limit": null }), false),
            (json!({ "limit": 0 }), true),
            (json!({ "limit": 5 }), true),
        ] {
            let text = json!({ "ociVersion": "1.3.0", "linux": { "resources": { "pids": pids } } });
            let (spec, _) = config(text.to_string().as_bytes()).unwrap();
            let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
            assert_eq!(resources.pids().is_some(), left, "{text}");
        }
    }

    #[test]
    fn unknown_fields_are_listed() {
        let text = br#"{"ociVersion":"1.0.0","linux":{"rootfsPropogation":"x"},"nope":1}"#;
        let (_, warnings) = config(text).unwrap();
        assert!(warnings[0].starts_with("linux.rootfsPropogation: unknown field"), "{warnings:?}");
        assert_eq!(warnings.len(), 2);
    }
}
