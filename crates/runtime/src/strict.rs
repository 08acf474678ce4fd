//! What serde overlooks in config.json, in one pass over the text. It takes an array for a struct, field by field in an
//! order that nobody means: `"linux": []` would be an empty object. What the specification calls REQUIRED the library
//! takes for 0 or false where it is missing: a mapping without `hostID` would be one onto the host's root. And what is
//! skipped as unknown would be skipped at any depth.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Whether the specification has an object with fields below this key.
const fn is_object(key: &[u8]) -> bool {
    matches!(
        key,
        b"blockIO"
            | b"capabilities"
            | b"consoleSize"
            | b"cpu"
            | b"execCPUAffinity"
            | b"hooks"
            | b"intelRdt"
            | b"ioPriority"
            | b"linux"
            | b"memory"
            | b"memoryPolicy"
            | b"annotations"
            | b"network"
            | b"personality"
            | b"pids"
            | b"process"
            | b"rdma"
            | b"resources"
            | b"root"
            | b"scheduler"
            | b"seccomp"
            | b"sysctl"
            | b"timeOffsets"
            | b"unified"
            | b"user"
            | b"monotonic"
            | b"boottime"
            | b"netDevices"
            | b"vm"
            | b"solaris"
            | b"windows"
    )
}

/// What something must have itself, an object or each of a list: by the object that it belongs to, and its key.
const fn required(owner: &[u8], key: &[u8]) -> &'static [&'static str] {
    match (owner, key) {
        (b"process", b"consoleSize") => &["height", "width"],
        (b"process", b"rlimits") => &["soft", "hard"],
        (b"process", b"ioPriority") => &["class", "priority"],
        (b"mounts" | b"linux", b"uidMappings" | b"gidMappings") => MAPPING,
        (b"linux", b"devices") | (b"blockIO", b"weightDevice") => DEVICE,
        (b"resources", b"devices") => &["allow"],
        (b"resources", b"hugepageLimits") => &["pageSize", "limit"],
        (
            b"blockIO",
            b"throttleReadBpsDevice"
            | b"throttleWriteBpsDevice"
            | b"throttleReadIOPSDevice"
            | b"throttleWriteIOPSDevice",
        ) => THROTTLE,
        (b"network", b"priorities") => &["name", "priority"],
        _ => &[],
    }
}

const MAPPING: &[&str] = &["containerID", "hostID", "size"];
const DEVICE: &[&str] = &["major", "minor"];
const THROTTLE: &[&str] = &["major", "minor", "rate"];

/// What is a short string, in bytes.
const SHORT: usize = 32;

/// The deepest nesting that is read.
const DEPTH: usize = 128;

/// Refuses what serde would take. Whether the text is JSON at all is not looked at here.
///
/// # Errors
/// What is wrong, with its place.
pub(crate) fn check(text: &[u8]) -> Result<()> {
    walk(text, "")
}

/// The same of a file for `exec --process`, which is a part of config.json.
///
/// # Errors
/// What is wrong, with its place.
pub(crate) fn check_process(text: &[u8]) -> Result<()> {
    walk(text, "process")
}

fn walk(text: &[u8], name: &'static str) -> Result<()> {
    let Ok(text) = std::str::from_utf8(text) else { return Ok(()) };
    let mut place = Place { open: Vec::new(), key: name.as_bytes().into() };
    let (mut before, mut at) = (None, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        at += 1;
        if *byte <= b' ' {
            // Half of what people read is indentation.
            continue;
        }
        match byte {
            b'"' => {
                let end = end_of_string(text, at);
                place.string(before, text.as_bytes().get(at..end).unwrap_or_default());
                at = end + 1;
            }
            b'[' => place.array(before)?,
            b'{' => place.object()?,
            b',' => place.next(),
            b']' | b'}' => place.close()?,
            b':' => {}
            _ => continue,
        }
        before = Some(*byte);
    }
    Ok(())
}

/// Where the string that begins at `start` has its last quotation mark: one that no odd number of backslashes
/// stands before.
fn end_of_string(text: &str, start: usize) -> usize {
    // Most are short: what is prepared to search a long text quickly takes longer than that.
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
struct Open<'a> {
    /// Its key; that of its array, for an object in one.
    key: Cow<'a, [u8]>,
    /// In an array, how many entries came before.
    index: Option<usize>,
    /// What an object must have.
    required: &'static [&'static str],
    /// Which of that have come, by bits.
    seen: u8,
}

/// Where in the text one is.
struct Place<'a> {
    open: Vec<Open<'a>>,
    /// The last key.
    key: Cow<'a, [u8]>,
}

impl<'a> Place<'a> {
    fn string(&mut self, before: Option<u8>, text: &'a [u8]) {
        let Some(open @ Open { index: None, .. }) = self.open.last_mut() else { return };
        if before != Some(b':') {
            self.key = unescaped(text);
            let place = open.required.iter().position(|name| name.as_bytes() == &*self.key);
            open.seen |= place.map_or(0, |place| 1 << place);
        } else if open.required == DEVICE && &*self.key == b"type" && text == b"p" {
            // A FIFO has no numbers.
            open.required = &[];
        }
    }

    fn array(&mut self, before: Option<u8>) -> Result<()> {
        let key = || String::from_utf8_lossy(&self.key);
        match before {
            Some(b':') if !is_object(&self.key) => self.push(Some(0), self.key.clone(), &[]),
            Some(b':') => Err(Error::new(format!("{}: is an array, not an object", key()))),
            None => Err(Error::new("is an array, not an object")),
            // The specification has no array of arrays.
            Some(_) => {
                let key = key();
                Err(Error::new(format!("an array (after {key:?}) stands where an object belongs")))
            }
        }
    }

    fn object(&mut self) -> Result<()> {
        let (key, owner) = match self.open.as_slice() {
            [.., owner, Open { index: Some(_), key, .. }] => (key.clone(), Some(owner)),
            [.., owner] => (self.key.clone(), Some(owner)),
            [] => (self.key.clone(), None),
        };
        let required = owner.map_or(&[][..], |owner| required(&owner.key, &key));
        self.push(None, key, required)
    }

    fn push(
        &mut self,
        index: Option<usize>,
        key: Cow<'a, [u8]>,
        required: &'static [&'static str],
    ) -> Result<()> {
        if self.open.len() == DEPTH {
            return Err(Error::new(format!("is nested deeper than {DEPTH} levels")));
        }
        self.open.push(Open { key, index, required, seen: 0 });
        Ok(())
    }

    fn next(&mut self) {
        if let Some(Open { index: Some(index), .. }) = self.open.last_mut() {
            *index += 1;
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some(Open { required, seen, .. }) = self.open.last() else { return Ok(()) };
        let mut names = required.iter().enumerate();
        if let Some((_, name)) = names.find(|(place, _)| seen & (1 << place) == 0) {
            return Err(Error::new(format!("{}: missing field `{name}`", self.path())));
        }
        self.open.pop();
        Ok(())
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

/// A key as serde compares it.
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

    fn fault(text: &str) -> String {
        check(text.as_bytes()).unwrap_err().to_string()
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
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("[]", "is an array, not an object"),
            (r#"{"linux" : [ ]}"#, "linux: is an array, not an object"),
            (r#"{"l\u0069nux": []}"#, "linux: is an array, not an object"),
            (r#"{"mounts": [["/a"]]}"#, "an array (after \"mounts\")"),
            (r#"{"mounts": [{"options": []}, []]}"#, "an array (after \"options\")"),
        ] {
            assert!(fault(bad).starts_with(message), "{}", fault(bad));
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        for good in [
            "{}",
            r#"{"linux": {}, "process": null, "x": [1]}"#,
            r#"{"linux": {"devices": [{"type": "p", "path": "/dev/fifo"}]}}"#,
            r#"{"linux": {"resources": {"devices": [{"type": "p", "allow": false}]}}}"#,
            r#"{"windows": {"devices": [{"id": "x"}]}, "rlimits": [{}]}"#,
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
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
        let fault = check_process(br#"{"rlimits": [{"soft": 1}]}"#).unwrap_err().to_string();
        assert_eq!(fault, "rlimits[0]: missing field `hard`");
    }

    #[test]
    fn depth_has_an_end() {
        assert_eq!(check(r#"{"a":"#.repeat(DEPTH).as_bytes()), Ok(()));
        assert!(fault(&r#"{"a":"#.repeat(DEPTH + 1)).contains("nested deeper"));
    }
}
