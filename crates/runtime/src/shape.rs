//! Arrays where the specification has objects. serde takes an array for a struct, field by field
//! in an order that nobody means: `"linux": []` would be an empty object. And depth: what is skipped
//! as unknown would be skipped at any.

use crate::error::{Error, Result};

/// Keys of the specification whose value is an object with fields.
const OBJECTS: [&str; 31] = [
    "blockIO",
    "capabilities",
    "consoleSize",
    "cpu",
    "execCPUAffinity",
    "hooks",
    "intelRdt",
    "ioPriority",
    "linux",
    "memory",
    "memoryPolicy",
    "annotations",
    "network",
    "personality",
    "pids",
    "process",
    "rdma",
    "resources",
    "root",
    "scheduler",
    "seccomp",
    "sysctl",
    "timeOffsets",
    "unified",
    "user",
    "monotonic",
    "boottime",
    "netDevices",
    "vm",
    "solaris",
    "windows",
];

/// The deepest nesting that is read.
const DEPTH: usize = 128;

/// Refuses an array that stands for an object, and too deep a nesting, in one pass over the text. Whether the text is JSON
/// at all is not looked at here.
///
/// # Errors
/// What is wrong, with its key where there is one.
pub(crate) fn check(text: &[u8]) -> Result<()> {
    let mut before = None;
    let mut depth = 0usize;
    let mut key: &[u8] = &[];
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => {
                let length = string_length(tail);
                key = tail.get(..length).unwrap_or(tail);
                rest = tail.get(length + 1..).unwrap_or_default();
            }
            b'[' => refuse(before, key)?,
            _ => {}
        }
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return Err(Error::new(format!("is nested deeper than {DEPTH} levels")));
        }
        before = Some(*byte);
    }
    Ok(())
}

/// The bytes of a string up to its closing quotation mark.
fn string_length(text: &[u8]) -> usize {
    let mut rest = text;
    // Most of a text is in strings, and hardly any of it is one of these two.
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        if rest.get(plain) == Some(&b'"') {
            return text.len() - rest.len() + plain;
        }
        rest = rest.get(plain + 2..).unwrap_or_default();
    }
    text.len()
}

fn refuse(before: Option<u8>, key: &[u8]) -> Result<()> {
    match before {
        Some(b':') if OBJECTS.iter().any(|object| object.as_bytes() == key) => {
            let key = String::from_utf8_lossy(key);
            Err(Error::new(format!("{key}: is an array, not an object")))
        }
        Some(b':') => Ok(()),
        None => Err(Error::new("is an array, not an object")),
        // The specification has no array of arrays.
        Some(_) => {
            let key = String::from_utf8_lossy(key);
            Err(Error::new(format!("an array (after {key:?}) stands where an object belongs")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_objects() {
        for good in [
            r#"{"linux": {"namespaces": [{"type": "pid"}]}}"#,
            r#"{"process": {"args": ["a\"linux\":[", "b\\"], "env": []}}"#,
            "{}",
            "",
            r#"{"a": ""#,
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("[]", "is an array, not an object"),
            (r#"{"linux" : [ ]}"#, "linux: is an array, not an object"),
            (r#"{"mounts": [["/a"]]}"#, "an array (after \"mounts\")"),
            (r#"{"mounts": [{"options": []}, []]}"#, "an array (after \"options\")"),
        ] {
            let error = check(bad.as_bytes()).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}
