//! The rules for a configuration that belong to no single part of the container.

use oci_spec::runtime::{Hook, Process, Spec};

use crate::error::{Error, Result};

/// Checks a configuration. The process is required if the container starts at once (`run`).
///
/// # Errors
/// The first field that breaks one.
pub(crate) fn check(spec: &Spec, start_at_once: bool) -> Result<()> {
    version(spec.version())?;
    if spec.root().is_none() {
        return Err(Error::new("root: is missing"));
    }
    match spec.process() {
        Some(process) => check_process(process, "process")?,
        None if start_at_once => return Err(Error::new("process: is missing")),
        // REQUIRED only when `start` is called (config.md, "Process").
        None => {}
    }
    if spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::new("annotations: a key is empty"));
    }
    hooks(spec)
}

/// A runtime of 1.x runs every configuration of 1.x (spec.md, "semantic versioning").
fn version(version: &str) -> Result<()> {
    let refused = |reason: &str| Err(Error::new(format!("ociVersion: {version:?} {reason}")));
    if version.is_empty() {
        return Err(Error::new("ociVersion: is missing"));
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<Option<u64>> = core.split('.').map(number).collect();
    match parts.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => refused("is not supported: davit implements 1.3.0"),
        _ => refused("is not a semantic version"),
    }
}

fn number(part: &str) -> Option<u64> {
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

/// Checks a process, of config.json or of `exec --process`; `field` is its place.
///
/// # Errors
/// The first field that cannot be applied.
pub(crate) fn check_process(process: &Process, field: &str) -> Result<()> {
    let wrong = |name: &str, reason: &str| Err(Error::new(format!("{field}.{name}: {reason}")));
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => return wrong("args", "is empty: there is nothing to execute"),
        Some(program) if program.is_empty() => return wrong("args[0]", "is an empty string"),
        Some(_) => {}
    }
    if !process.cwd().is_absolute() {
        let cwd = process.cwd().display().to_string();
        return wrong("cwd", &format!("{cwd:?} is not an absolute path"));
    }
    for (index, entry) in process.env().iter().flatten().enumerate() {
        if entry.find('=').is_none_or(|at| at == 0) {
            return wrong(&format!("env[{index}]"), &format!("{entry:?} is not NAME=VALUE"));
        }
    }
    davit_privileges::affinity::Affinity::of(process)?;
    oom_score(process, field)
}

fn oom_score(process: &Process, field: &str) -> Result<()> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Error::new(format!("{field}.oomScoreAdj: {score} is not within -1000..=1000")))
        }
        _ => Ok(()),
    }
}

fn hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    for (name, list) in [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (index, hook) in list.iter().flatten().enumerate() {
            check_hook(hook).map_err(|error| error.within(format!("hooks.{name}[{index}]")))?;
        }
    }
    Ok(())
}

fn check_hook(hook: &Hook) -> Result<()> {
    if !hook.path().is_absolute() {
        let path = hook.path().display().to_string();
        return Err(Error::new(format!("path: {path:?} is not an absolute path")));
    }
    match hook.timeout() {
        Some(timeout) if timeout <= 0 => {
            Err(Error::new(format!("timeout: {timeout} is not greater than zero")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(path: &[&str], value: Value) -> String {
        let change = path.iter().rev().fold(value, |value, key| json!({ *key: value }));
        let mut spec = json!({
            "ociVersion": "1.3.0", "root": { "path": "rootfs" }, "linux": {}, "hooks": {},
            "process": { "cwd": "/", "args": ["sh"], "user": { "uid": 0, "gid": 0 } },
        });
        fn deep(into: &mut Value, change: Value) {
            match change {
                Value::Object(change) if into.is_object() => {
                    for (key, value) in change {
                        deep(
                            into.as_object_mut().unwrap().entry(key).or_insert(Value::Null),
                            value,
                        );
                    }
                }
                change => *into = change,
            }
        }
        deep(&mut spec, change);
        match check(&serde_json::from_value(spec).unwrap(), true) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        for (path, value, expected) in [
            (vec!["ociVersion"], json!("1.0.2-dev"), "ok"),
            (vec!["ociVersion"], json!("1.9.0+x"), "ok"),
            (vec!["ociVersion"], json!("2.0.0"), "ociVersion: \"2.0.0\" is not supported"),
            (vec!["ociVersion"], json!("1.x"), "ociVersion: \"1.x\" is not a semantic version"),
            (vec!["ociVersion"], json!(""), "ociVersion: is missing"),
            (vec!["process", "args"], json!([]), "process.args: is empty"),
            (vec!["process", "cwd"], json!("x"), "process.cwd: \"x\" is not an absolute path"),
            (
                vec!["process", "env"],
                json!(["A=1", "B"]),
                "process.env[1]: \"B\" is not NAME=VALUE",
            ),
            (vec!["process", "oomScoreAdj"], json!(1001), "process.oomScoreAdj: 1001"),
            (
                vec!["hooks", "poststop"],
                json!([{ "path": "x" }]),
                "hooks.poststop[0]: path: \"x\" is not an absolute path",
            ),
            (
                vec!["hooks", "prestart"],
                json!([{ "path": "/x", "timeout": 0 }]),
                "hooks.prestart[0]: timeout: 0 is not greater than zero",
            ),
        ] {
            let verdict = with(&path, value);
            assert!(verdict.starts_with(expected), "{path:?}: {verdict}");
        }
    }
}
