//! The bundle: config.json, read once and parsed, every fault with its place in the file.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use oci_spec::runtime::Spec;
use serde::Deserialize;
use serde_json::{Value, json};
use sys::During;

use crate::error::{Error, Result, Within};
use crate::strict;

/// The largest config.json that is read, in bytes.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// A bundle whose config.json could be read.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, absolute.
    pub directory: PathBuf,
    /// Its config.json.
    pub spec: Box<Spec>,
    /// What the file asks for and nobody can give, or nobody knows.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `directory`; `config` replaces the path of its config.json.
    ///
    /// # Errors
    /// A file that is not there, not regular or too large; JSON that is not a spec, with its path.
    pub fn load(directory: &Path, config: Option<&Path>) -> Result<Self> {
        let directory =
            sys::path::canonical(directory).within(|| format!("bundle {}", directory.display()))?;
        let path = match config {
            Some(config) => config.to_owned(),
            None => directory.join("config.json"),
        };
        let text = read(&path);
        // That config.json was found in it says as much.
        if (text.is_err() || config.is_some()) && !directory.is_dir() {
            return Err(Error::new(format!("bundle {}: not a directory", directory.display())));
        }
        let text = text.within(|| path.display().to_string())?;
        let (spec, warnings) = parse(&text).within(|| path.display().to_string())?;
        Ok(Self { directory, spec, warnings })
    }
}

/// Reads a JSON file that a user names: regular, of limited size. A FIFO does not hang.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    read_regular(&openat(AT_FDCWD, path, flags, Mode::empty()).during("open")?)
}

/// The same, where `-` is standard input.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_or_stdin(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return read(path);
    }
    let mut text = Vec::new();
    std::io::stdin().take(MAX_SIZE as u64 + 1).read_to_end(&mut text).during("read")?;
    if text.len() > MAX_SIZE { Err(too_large()) } else { Ok(text) }
}

fn too_large() -> Error {
    Error::new(format!("larger than {} MiB", MAX_SIZE / 1024 / 1024))
}

/// Reads an open file: regular, and of at most [`MAX_SIZE`] bytes.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_regular(file: &OwnedFd) -> Result<Vec<u8>> {
    let stat = fstat(file).during("fstat")?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::new("not a regular file"));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > MAX_SIZE {
        return Err(too_large());
    }
    match sys::file::read_rest(file, size, MAX_SIZE) {
        Err(sys::Error { errno: Errno::EFBIG, .. }) => Err(too_large()),
        read => Ok(read?),
    }
}

/// Parses config.json. What is unknown to this program's tables but allowed by the spec (a
/// capability of a newer kernel) becomes a warning.
fn parse(text: &[u8]) -> Result<(Box<Spec>, Vec<String>)> {
    strict::check(text)?;
    refuse_nul(text)?;
    match from_json(text) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(error) => mended(text)?.ok_or(error),
    }
}

/// Parses the process specification of `exec --process`.
///
/// # Errors
/// The first fault, with its place.
pub(crate) fn parse_process(text: &[u8]) -> Result<oci_spec::runtime::Process> {
    strict::check_process(text)?;
    refuse_nul(text)?;
    from_json(text).or_else(|error| {
        // The same leniency as for config.json, of which this is a part.
        let Ok(process) = serde_json::from_slice::<Value>(text) else { return Err(error) };
        let Some(mended) = mend(json!({ "process": process })) else { return Err(error) };
        let process = mended.0.get("process").map(ToString::to_string).unwrap_or_default();
        from_json(process.as_bytes())
    })
}

/// Parses JSON, naming the field at fault: `linux.namespaces[2].type: unknown variant ...`.
///
/// # Errors
/// The first fault.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T> {
    // Only a text that was refused is read a second time, for the place of its fault. One look for
    // UTF-8 at all of it is cheaper than one at each string.
    let parsed = std::str::from_utf8(text).ok().and_then(|text| serde_json::from_str(text).ok());
    parsed.map_or_else(|| from_faulty_json(text), Ok)
}

#[cold]
#[inline(never)]
fn from_faulty_json<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match path.as_str() {
            "." => Error::new(cause.to_string()),
            path => Error::new(format!("{path}: {cause}")),
        }
    })?;
    json.end().map_err(|error| Error::new(error.to_string()))?;
    Ok(parsed)
}

/// No field may hold a NUL: the kernel would cut the string there.
///
/// # Errors
/// The field that does.
pub(crate) fn refuse_nul(text: &[u8]) -> Result<()> {
    const ESCAPED: &[u8] = br"\u0000";
    // Hardly any text has a backslash.
    if !text.contains(&b'\\') || !text.windows(ESCAPED.len()).any(|window| window == ESCAPED) {
        return Ok(());
    }
    let value: Value = from_json(text)?;
    match find_nul(&value, String::new()) {
        Some(path) => Err(Error::new(format!("{path}: contains a NUL byte"))),
        None => Ok(()),
    }
}

fn find_nul(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| find_nul(item, format!("{path}[{index}]")))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if key.contains('\0') { Some(inner) } else { find_nul(item, inner) }
        }),
        _ => None,
    }
}

/// Reads the file again with what the library is stricter about than the specification or runc:
/// unknown capabilities go, with the warning that the spec wants; a process without a user is root's.
fn mended(text: &[u8]) -> Result<Option<(Box<Spec>, Vec<String>)>> {
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return Ok(None) };
    let Some((value, warnings)) = mend(value) else { return Ok(None) };
    from_json(value.to_string().as_bytes()).map(|spec| Some((spec, warnings)))
}

/// The value without what is in the library's way, and what that was; `None` where nothing is.
fn mend(mut value: Value) -> Option<(Value, Vec<String>)> {
    let mut warnings = Vec::new();
    let sets = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let unknown =
                name.as_str().filter(|name| privileges::capability::number(name).is_none());
            if let Some(name) = unknown {
                warnings.push(format!("process.capabilities.{set}: unknown capability {name:?}"));
            }
            unknown.is_none()
        });
    }
    if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut)
        && !process.contains_key("user")
    {
        process.insert("user".to_owned(), json!({ "uid": 0, "gid": 0 }));
        warnings.push("process.user: is missing, uid and gid 0 are taken".to_owned());
    }
    let respelt = value.get_mut("process").is_some_and(respell);
    (respelt || !warnings.is_empty()).then_some((value, warnings))
}

/// Writes what the specification spells otherwise than the library as the library reads it, and
/// says whether there was any.
fn respell(process: &mut Value) -> bool {
    let mut respelt = false;
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let spelling = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = spelling.into();
        respelt = true;
    }
    // An empty list is as good as none.
    let lists = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut);
    for list in lists.into_iter().flat_map(|lists| lists.values_mut()) {
        if list.as_str() == Some("") {
            *list = Value::Null;
            respelt = true;
        }
    }
    respelt
}

/// Fields of config.json that the spec does not know: they are ignored, as it demands, and shown
/// by `explain`.
///
/// # Errors
/// JSON that is not a spec.
pub(crate) fn unknown_fields(text: &[u8]) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(text);
    let _: std::result::Result<Spec, _> =
        serde_ignored::deserialize(&mut json, |path| unknown.push(tidy(&path.to_string())));
    Ok(unknown)
}

/// serde_ignored writes `?` where an Option is entered.
pub(crate) fn tidy(path: &str) -> String {
    path.split('.').filter(|part| *part != "?").collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
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
            (r#"{"ociVersion":"1.0.0"} x"#, "trailing characters"),
            ("[]", "is an array"),
            (r#"{"linux":[]}"#, "linux: is an array"),
            ("", "EOF"),
        ] {
            assert!(fault(text).contains(expected), "{text}: {}", fault(text));
        }
        assert!(fault(&r#"{"a":"#.repeat(200)).contains("nested deeper"));
        assert!(parse(b"{\"hostname\":\"\xff\"}").is_err());
    }

    #[test]
    fn an_escaped_backslash_is_no_nul() {
        assert!(parse(br#"{"ociVersion":"1.0.0","hostname":"a\\u0000"}"#).is_ok());
    }

    #[test]
    fn unknown_capabilities_warn() {
        let text = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NEW"]}}}"#;
        let (spec, warnings) = parse(text.as_bytes()).unwrap();
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
        assert_eq!(flags(&parse_process(process.as_bytes()).unwrap()), 7);
        let (spec, warnings) =
            parse(format!(r#"{{"ociVersion":"1.0.0","process":{process}}}"#).as_bytes()).unwrap();
        assert_eq!(flags(spec.process().as_ref().unwrap()), 7);
        assert_eq!(warnings.len(), 0);
        let unknown = process.replace("RECLAIM", "X");
        let error = parse_process(unknown.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("scheduler.flags[1]: unknown variant"), "{error}");
    }

    #[test]
    fn an_empty_list_of_processors_is_none() {
        let process = br#"{"cwd":"/","user":{"uid":0,"gid":0},
            "execCPUAffinity":{"initial":"0","final":""}}"#;
        let process = parse_process(process).unwrap();
        let affinity = process.exec_cpu_affinity().as_ref().unwrap();
        assert_eq!(affinity.initial().as_deref(), Some("0"));
        assert_eq!(*affinity.cpu_affinity_final(), None);
    }

    #[test]
    fn unknown_fields_are_listed() {
        let text = br#"{"ociVersion":"1.0.0","linux":{"rootfsPropogation":"x"},"nope":1}"#;
        assert_eq!(unknown_fields(text).unwrap(), ["linux.rootfsPropogation", "nope"]);
    }
}
