//! Checks of config.json that serde does not make, in one pass over the text.
//!
//! serde reads an array as a struct, field by field: `"linux": []` would be an empty object.
//! oci-spec reads a missing field that the specification calls REQUIRED as 0 or false: a mapping
//! without `hostID` would map to root of the host. Unknown fields would be skipped at any depth,
//! without a warning.

use std::borrow::Cow;

use crate::config::schema::{DEVICE, Kind, Members};
use crate::error::{Error, Result};
use crate::nearest::nearest;

/// The length of a short string, in bytes.
const SHORT: usize = 32;

/// The maximum number of warnings about unknown members, and of letters of each member.
const MAX_WARNINGS: usize = 16;
const MAX_LETTERS: usize = 64;

/// The maximum depth of nesting.
const MAX_DEPTH: usize = 128;

/// Checks the text of an object with `members`; a text that is not JSON is left to the parser.
/// Returns a warning for each member that is unknown to the specification, which demands that it is
/// ignored.
///
/// # Errors
/// The first fault, with its field.
pub(crate) fn check(text: &[u8], members: &'static Members) -> Result<Vec<String>> {
    let Ok(text) = std::str::from_utf8(text) else { return Ok(Vec::new()) };
    let mut scanner = Scanner {
        open: Vec::new(),
        key: Cow::Borrowed(b""),
        kind: Kind::Object(members),
        unknown: Vec::new(),
    };
    let (mut before, mut at) = (None, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        at += 1;
        if *byte <= b' ' {
            // Half of an indented text is white space.
            continue;
        }
        match byte {
            b'"' => {
                let end = end_of_string(text, at);
                scanner.string(before, text.as_bytes().get(at..end).unwrap_or_default());
                at = end + 1;
            }
            b'[' => scanner.array(before)?,
            b'{' => scanner.object()?,
            b',' => scanner.next(),
            b']' | b'}' => scanner.close()?,
            b':' => {}
            _ => continue,
        }
        before = Some(*byte);
    }
    Ok(scanner.unknown)
}

/// The position of the quotation mark that ends the string whose content begins at `start`: the
/// first one with an even number of backslashes before it.
fn end_of_string(text: &str, start: usize) -> usize {
    // Most strings are short: the setup of a fast search costs more than it saves.
    let near = text.as_bytes().iter().skip(start).take(SHORT);
    match near.enumerate().find(|(_, byte)| matches!(byte, b'"' | b'\\')) {
        Some((length, b'"')) => start + length,
        _ => end_of_long_string(text, start),
    }
}

fn end_of_long_string(text: &str, start: usize) -> usize {
    let mut at = start;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('"')) {
        let quote = at + found;
        let string = text.as_bytes().get(start..quote).unwrap_or_default();
        if string.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0 {
            return quote;
        }
        at = quote + 1;
    }
    text.len()
}

/// An object or an array that is not closed yet.
struct Frame<'a> {
    /// Its key; for an entry of an array, that of the array.
    key: Cow<'a, [u8]>,
    /// The index of the current entry of an array; `None` for an object.
    index: Option<usize>,
    /// The kind of the object, or of the entries of the array.
    kind: Kind,
    /// The required members of an object.
    required: &'static [&'static str],
    /// The required members so far, as bits.
    seen: u8,
}

/// The state at one position of the text.
struct Scanner<'a> {
    open: Vec<Frame<'a>>,
    /// The last key.
    key: Cow<'a, [u8]>,
    /// The kind of its value.
    kind: Kind,
    unknown: Vec<String>,
}

impl<'a> Scanner<'a> {
    fn string(&mut self, before: Option<u8>, text: &'a [u8]) {
        let Some(open @ Frame { index: None, .. }) = self.open.last_mut() else { return };
        if before == Some(b':') {
            if matches!(open.kind, Kind::Object(members) if std::ptr::eq(members, &raw const DEVICE))
                && &*self.key == b"type"
                && text == b"p"
            {
                // A FIFO has no numbers.
                open.required = &[];
            }
            return;
        }
        self.key = unescaped(text);
        self.kind = match open.kind {
            Kind::Object(members) => {
                let required = open.required.iter().position(|name| name.as_bytes() == &*self.key);
                open.seen |= required.map_or(0, |place| 1 << place);
                let mut known = members.known.iter();
                match known.find(|(name, _)| name.as_bytes() == &*self.key) {
                    Some((_, kind)) => *kind,
                    None => {
                        self.note_unknown(members);
                        Kind::Value
                    }
                }
            }
            Kind::Map(kind) => *kind,
            Kind::List(_) | Kind::Value => Kind::Value,
        };
    }

    fn note_unknown(&mut self, members: &'static Members) {
        let key: String = String::from_utf8_lossy(&self.key).chars().take(MAX_LETTERS).collect();
        let meant = nearest(&key, members.known.iter().map(|(name, _)| *name));
        let meant = meant.map_or(String::new(), |name| format!(" (did you mean {name:?}?)"));
        let place = self.member(&key);
        match self.unknown.len() {
            0..MAX_WARNINGS => self.unknown.push(format!("{place}: unknown field, ignored{meant}")),
            MAX_WARNINGS => self.unknown.push("more unknown fields, ignored".to_owned()),
            _ => {}
        }
    }

    fn array(&mut self, before: Option<u8>) -> Result<()> {
        let key = || String::from_utf8_lossy(&self.key);
        match (before, self.kind) {
            (None, _) => Err(Error::new("is an array, not an object")),
            (Some(b':'), Kind::Object(_) | Kind::Map(_)) => {
                let place = self.member(&key());
                Err(Error::new(format!("{place}: is an array, not an object")))
            }
            (Some(b':'), Kind::List(members)) => {
                self.push(Some(0), self.key.clone(), Kind::Object(members), &[])
            }
            (Some(b':'), Kind::Value) => self.push(Some(0), self.key.clone(), Kind::Value, &[]),
            // The specification has no array of arrays.
            _ => {
                let key = key();
                Err(Error::new(format!("expected an object, found an array (after {key:?})")))
            }
        }
    }

    fn object(&mut self) -> Result<()> {
        let (key, kind) = match self.open.last() {
            Some(Frame { index: Some(_), key, kind, .. }) => (key.clone(), *kind),
            _ => (self.key.clone(), self.kind),
        };
        match kind {
            Kind::Object(members) => self.push(None, key, kind, members.required),
            Kind::Map(_) => self.push(None, key, kind, &[]),
            Kind::List(_) | Kind::Value => self.push(None, key, Kind::Value, &[]),
        }
    }

    fn push(
        &mut self,
        index: Option<usize>,
        key: Cow<'a, [u8]>,
        kind: Kind,
        required: &'static [&'static str],
    ) -> Result<()> {
        if self.open.len() == MAX_DEPTH {
            return Err(Error::new(format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Frame { key, index, kind, required, seen: 0 });
        Ok(())
    }

    fn next(&mut self) {
        if let Some(Frame { index: Some(index), .. }) = self.open.last_mut() {
            *index += 1;
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some(Frame { required, seen, .. }) = self.open.last() else { return Ok(()) };
        let mut names = required.iter().enumerate();
        if let Some((_, name)) = names.find(|(place, _)| seen & (1 << place) == 0) {
            return Err(Error::new(format!("{}: missing field `{name}`", self.path())));
        }
        self.open.pop();
        Ok(())
    }

    /// The path of a member of the current object.
    fn member(&self, key: &str) -> String {
        match self.path() {
            path if path.is_empty() => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// `linux.uidMappings[1]`
    fn path(&self) -> String {
        let mut path = String::new();
        for (outer, inner) in self.open.iter().zip(self.open.iter().skip(1)) {
            match outer.index {
                Some(index) => path.push_str(&format!("[{index}]")),
                None if path.is_empty() => path.push_str(&String::from_utf8_lossy(&inner.key)),
                None => path.push_str(&format!(".{}", String::from_utf8_lossy(&inner.key))),
            }
        }
        path
    }
}

/// A key without escapes, as serde compares it.
fn unescaped(key: &[u8]) -> Cow<'_, [u8]> {
    if !key.contains(&b'\\') {
        return key.into();
    }
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(key.into(), |key| key.into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{CONFIG, PROCESS, RESOURCES};

    fn fault(text: &str) -> String {
        check(text.as_bytes(), &CONFIG).unwrap_err().to_string()
    }

    #[test]
    fn objects_are_objects() {
        for good in [
            r#"{"linux": {"namespaces": [{"type": "pid"}]}}"#,
            r#"{"process": {"args": ["a\"linux\":[", "b\\"], "env": []}}"#,
            "{}",
            "",
            r#"{"a": ""#,
            r#"{"a": "\\\\", "b": "\\\"[", "c": "\\"#,
            "]}",
        ] {
            assert!(check(good.as_bytes(), &CONFIG).is_ok(), "{good}");
        }
        for (bad, message) in [
            ("[]", "is an array, not an object"),
            (r#"{"linux" : [ ]}"#, "linux: is an array, not an object"),
            (r#"{"l\u0069nux": []}"#, "linux: is an array, not an object"),
            (r#"{"linux": {"resources": {"rdma": []}}}"#, "linux.resources.rdma: is an array"),
            (
                r#"{"mounts": [{}, {"uidMappings": [{"size": 1, "x": []}]}]}"#,
                "mounts[1].uidMappings[0]: missing",
            ),
            (r#"{"mounts": [["/a"]]}"#, "expected an object, found an array (after \"mounts\")"),
            (
                r#"{"mounts": [{"options": []}, []]}"#,
                "expected an object, found an array (after \"options\")",
            ),
        ] {
            assert!(fault(bad).starts_with(message), "{}", fault(bad));
        }
    }

    #[test]
    fn a_missing_member_is_named_with_its_path() {
        for good in [
            "{}",
            r#"{"linux": {}, "process": null, "x": [1]}"#,
            r#"{"linux": {"devices": [{"type": "p", "path": "/dev/fifo"}]}}"#,
            r#"{"linux": {"resources": {"devices": [{"type": "p", "allow": false}]}}}"#,
            r#"{"windows": {"devices": [{"id": "x"}]}, "rlimits": [{}]}"#,
        ] {
            assert!(check(good.as_bytes(), &CONFIG).is_ok(), "{good}");
        }
        for (bad, message) in [
            (
                r#"{"linux": {"uidMappings": [{"containerID": 0, "size": 1}]}}"#,
                "linux.uidMappings[0]: missing field `hostID`",
            ),
            (
                r#"{"linux": {"uidM\u0061ppings": [{"containerID": 0, "size": 1}]}}"#,
                "linux.uidMappings[0]: missing field `hostID`",
            ),
            (
                r#"{"linux": {"devices": [{"type": "c", "path": "/dev/x", "major": 1}]}}"#,
                "linux.devices[0]: missing field `minor`",
            ),
            (
                r#"{"mounts": [{"options": ["a", "b"]}, {"gidMappings": [{"size": 1}]}]}"#,
                "mounts[1].gidMappings[0]: missing field `containerID`",
            ),
            (
                r#"{"linux": {"resources": {"devices": [{"allow": true}, {"type": "p"}]}}}"#,
                "linux.resources.devices[1]: missing field `allow`",
            ),
            (
                r#"{"process": {"rlimits": [{"hard": 1}]}}"#,
                "process.rlimits[0]: missing field `soft`",
            ),
            (
                r#"{"process": {"consoleSize": {"height": 1}}}"#,
                "process.consoleSize: missing field `width`",
            ),
        ] {
            assert_eq!(fault(bad), message);
        }
        let fault = check(br#"{"rlimits": [{"soft": 1}]}"#, &PROCESS).unwrap_err().to_string();
        assert_eq!(fault, "rlimits[0]: missing field `hard`");
    }

    #[test]
    fn unknown_members_are_named_with_the_nearest_known_name() {
        let text = r#"{"proces": {"x": 1}, "annotations": {"a": "b"}, "windows": {"x": {"y": 1}},
            "linux": {"resources": {"memry": {"limit": 1}, "rdma": {"mlx": {"hcaHandels": 1}},
            "unified": {"memory.high": "1"}}, "sysctl": {"a.b": "1"},
            "seccomp": {"syscalls": [{"names": []}, {"nmes": [], "zz": 1}]}}}"#;
        assert_eq!(
            check(text.as_bytes(), &CONFIG).unwrap(),
            [
                "proces: unknown field, ignored (did you mean \"process\"?)",
                "linux.resources.memry: unknown field, ignored (did you mean \"memory\"?)",
                "linux.resources.rdma.mlx.hcaHandels: unknown field, ignored (did you mean \"hcaHandles\"?)",
                "linux.seccomp.syscalls[1].nmes: unknown field, ignored (did you mean \"names\"?)",
                "linux.seccomp.syscalls[1].zz: unknown field, ignored",
            ]
        );
        let text = br#"{"memory": {"limt": 1}, "Pids": null}"#;
        assert_eq!(check(text, &RESOURCES).unwrap().len(), 2);
    }

    /// All members in the table are read by oci-spec.
    #[test]
    fn the_table_is_that_of_oci_spec() {
        fn sample(kind: Kind) -> serde_json::Value {
            match kind {
                Kind::Value => serde_json::Value::Null,
                Kind::Object(members) => object(members),
                Kind::List(members) => vec![object(members)].into(),
                Kind::Map(kind) => serde_json::json!({ "any": sample(*kind) }),
            }
        }
        fn object(members: &Members) -> serde_json::Value {
            members.known.iter().map(|(name, kind)| ((*name).to_owned(), sample(*kind))).collect()
        }
        let text = object(&CONFIG).to_string();
        let mut unknown = Vec::new();
        let mut json = serde_json::Deserializer::from_str(&text);
        let track = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        let _: std::result::Result<oci_spec::runtime::Spec, _> =
            serde_ignored::deserialize(&mut json, track);
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn depth_has_an_end() {
        assert!(check(r#"{"a":"#.repeat(MAX_DEPTH).as_bytes(), &CONFIG).is_ok());
        assert!(fault(&r#"{"a":"#.repeat(MAX_DEPTH + 1)).contains("nested deeper"));
    }
}
