//! JSON into values, with the place of a fault: `linux.namespaces[2].type: unknown variant ...`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// Parses JSON.
///
/// # Errors
/// The first fault, with the field in which it is.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    // One look for UTF-8 at all of the text is cheaper than one at each string.
    let text = str::from_utf8(text).map_err(|error| not_utf8(text, error.valid_up_to()))?;
    serde_json::from_str(text).map_err(|error| {
        let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
        // The column of a wrong character includes it.
        let column = error.column().saturating_sub(error.is_syntax().into());
        let offset = lines.map(str::len).sum::<usize>() + column;
        at(text.as_bytes(), offset, &error.to_string())
    })
}

fn not_utf8(text: &[u8], offset: usize) -> Error {
    let before = text.get(..offset).unwrap_or_default();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let fault = format!("invalid unicode code point at line {line} column {column}");
    at(text, offset, &fault)
}

fn at(text: &[u8], offset: usize, fault: &str) -> Error {
    match place_at(text, offset) {
        place if place.is_empty() => Error::new(fault),
        place => Error::new(format!("{place}: {fault}")),
    }
}

/// Refuses a text with a NUL in a field: the kernel would end the string there.
///
/// # Errors
/// The field with the NUL.
pub(crate) fn refuse_nul(text: &[u8]) -> Result<()> {
    const ESCAPED: &[u8] = br"\u0000";
    // Few texts have a backslash.
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

/// The step from an open object or array to the value inside it that is being read.
enum Step {
    /// The member of an object with this name; `None` before its colon.
    Member(Option<String>),
    /// The entry of an array.
    Entry(usize),
}

/// The place of the value that ends at byte `offset` of a JSON text or contains it, or else of the
/// innermost object or array around it: `linux.uidMappings[1].size`. A parser stops behind a wrong
/// scalar or a closed object, and before a wrong object or array.
fn place_at(text: &[u8], offset: usize) -> String {
    let mut steps: Vec<Step> = Vec::new();
    let (mut last, mut at) = (&b""[..], 0);
    while let Some(byte) = text.get(at).filter(|_| at < offset) {
        let start = at;
        at += 1;
        match (byte, steps.last_mut()) {
            (b'"', _) => {
                at = end_of_string(text, at);
                last = text.get(start..at).unwrap_or_default();
            }
            (b':', Some(Step::Member(name))) => {
                *name = Some(serde_json::from_slice(last).unwrap_or_default());
            }
            (b',', Some(Step::Member(name))) => *name = None,
            (b',', Some(Step::Entry(index))) => *index += 1,
            (b'{', _) => steps.push(Step::Member(None)),
            (b'[', _) => steps.push(Step::Entry(0)),
            (b'}' | b']', _) => drop(steps.pop()),
            _ => {}
        }
    }
    steps.iter().fold(String::new(), |place, step| match step {
        Step::Member(None) => place,
        Step::Member(Some(name)) if place.is_empty() => name.clone(),
        Step::Member(Some(name)) => format!("{place}.{name}"),
        Step::Entry(index) => format!("{place}[{index}]"),
    })
}

/// Behind the quotation mark that ends the string whose inside begins at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;
    use serde_json::json;

    use super::*;
    use crate::config::file::SpecFile;

    /// The pointers to all values below `value`.
    fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| {
                pointers(item, format!("{at}/{index}"), found);
            }),
            Value::Object(fields) => fields.iter().for_each(|(name, item)| {
                pointers(item, format!("{at}/{}", name.replace('/', "~1")), found);
            }),
            _ => {}
        }
        found.push(at);
    }

    fn by_tracking(text: &str) -> Option<String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let parsed: std::result::Result<Spec, _> = serde_path_to_error::deserialize(&mut json);
        let error = parsed.err()?;
        let place = error.path().to_string();
        Some(match place.as_str() {
            "." => error.into_inner().to_string(),
            _ => format!("{place}: {}", error.into_inner()),
        })
    }

    /// The place that is found from line and column is the one that is found by tracking each step
    /// of the deserializer, for each value of a large file that another replaces.
    #[test]
    fn the_place_of_a_fault_is_that_of_its_field() {
        let file = include_str!("../../../../fuzz/corpus/config/many-fields.json");
        let mut file: Value = serde_json::from_str(file).unwrap();
        // Both are amended before they reach the parser again.
        *file.pointer_mut("/process/capabilities/bounding/1").unwrap() = json!("CAP_KILL");
        *file.pointer_mut("/process/scheduler/flags").unwrap() = json!([]);
        file.pointer_mut("/process").unwrap().as_object_mut().unwrap().remove("execCPUAffinity");
        let mut all = Vec::new();
        pointers(&file, String::new(), &mut all);
        let wrong =
            [json!("?"), json!(-7), json!(true), json!([{}]), json!({}), json!(1.5), json!([])];
        let (mut faults, mut different) = (0, Vec::new());
        // Two of them for each place.
        for (pointer, value) in all.iter().chain(&all).zip(wrong.iter().cycle()) {
            if *value == json!("?") && pointer.contains("capabilities/") {
                // Unknown ones are taken out before the parser reads them again.
                continue;
            }
            let mut changed = file.clone();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            let text = match value {
                Value::Bool(_) => serde_json::to_string_pretty(&changed).unwrap(),
                _ => changed.to_string(),
            };
            let ours = from_json::<SpecFile>(text.as_bytes()).err().map(|error| error.to_string());
            let theirs = by_tracking(&text);
            faults += usize::from(ours.is_some());
            if ours != theirs {
                different.push(format!("{pointer} {value}: {ours:?}, {theirs:?}"));
            }
        }
        assert!(faults > 300, "{faults}");
        assert!(different.is_empty(), "{}: {different:#?}", different.len());
    }

    #[test]
    fn a_text_that_ends_early_or_is_no_text_has_its_place() {
        let fault = |text: &[u8]| from_json::<Spec>(text).unwrap_err().to_string();
        assert_eq!(
            fault(b"{\n\"linux\": {\"seccomp\": {\"defaultAction\": nul"),
            "linux.seccomp.defaultAction: expected value at line 2 column 40"
        );
        assert!(fault(b"").starts_with("EOF while parsing a value"));
        assert_eq!(
            fault(b"{\"hostname\":\n\"a\xffb\"}"),
            "hostname: invalid unicode code point at line 2 column 3"
        );
        assert_eq!(fault(b"{\"a\xff\": 1}"), "invalid unicode code point at line 1 column 4");
    }
}
