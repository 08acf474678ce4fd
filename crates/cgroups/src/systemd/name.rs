//! `linux.cgroupsPath` for systemd: `slice:prefix:name` -> a unit, and the path of its cgroup.

use std::path::{Path, PathBuf};

use crate::Error;

const FIELD: &str = "linux.cgroupsPath";

/// Maximum length of a unit name.
const MAX_LENGTH: usize = 255;

/// The root of all slices.
const ROOT_SLICE: &str = "-.slice";

/// The default prefix.
const PREFIX: &str = "davit";

/// A container's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The slice that it belongs to.
    pub(super) slice: String,
    /// Its name: that of a scope, or of a slice if `name` ends with ".slice".
    pub(super) unit: String,
    /// The path of its cgroup below the manager's.
    pub(super) path: PathBuf,
}

/// The unit of a container: by default `davit-ID.scope`, in `system.slice` or `user.slice`.
pub(super) fn named(path: Option<&Path>, id: &str, user: bool) -> Result<Named, Error> {
    let refuse = |reason: String| Err(Error::value(FIELD, reason));
    let text = match path.map(Path::to_str) {
        None => "",
        Some(Some(text)) => text,
        Some(None) => return refuse("is not UTF-8".to_owned()),
    };
    let (slice, prefix, name) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [""] => ("", PREFIX, id),
        [slice, prefix, name] => (*slice, *prefix, *name),
        _ => {
            return refuse(format!(
                "{text:?} is not slice:prefix:name, which the systemd cgroup driver needs"
            ));
        }
    };
    if name.is_empty() {
        return refuse(format!("{text:?} has no unit: slice:prefix:name has an empty name"));
    }
    match (name.ends_with(".slice"), slice, user) {
        (true, slice, _) => new_slice(slice, name),
        (false, "", true) => scope("user.slice", prefix, name),
        (false, "", false) => scope("system.slice", prefix, name),
        (false, slice, _) => scope(slice, prefix, name),
    }
}

/// The name of a slice contains those of its parents.
fn new_slice(above: &str, name: &str) -> Result<Named, Error> {
    let parent = match name.trim_end_matches(".slice").rsplit_once('-') {
        Some((above, _)) => format!("{above}.slice"),
        None => ROOT_SLICE.to_owned(),
    };
    let reason = match expand(name) {
        Some(_) if !above.is_empty() && above != parent => {
            format!("the slice {name:?} is in {parent:?}, not in {above:?}")
        }
        Some(path) if !path.as_os_str().is_empty() => {
            return Ok(Named { slice: parent, unit: name.to_owned(), path });
        }
        _ => format!("{name:?} is not the name of a slice"),
    };
    Err(Error::value(FIELD, reason))
}

fn scope(slice: &str, prefix: &str, name: &str) -> Result<Named, Error> {
    let unit = match prefix {
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    let reason = match expand(slice) {
        None => format!("{slice:?} is not the name of a slice"),
        Some(_) if !is_valid(&unit) => format!(
            "{unit:?} is not the name of a unit: at most {MAX_LENGTH} letters, digits and :_.\\@-"
        ),
        Some(above) => {
            return Ok(Named { slice: slice.to_owned(), path: above.join(&unit), unit });
        }
    };
    Err(Error::value(FIELD, reason))
}

/// `a-b.slice` -> `a.slice/a-b.slice`; the root slice is the manager's cgroup.
fn expand(slice: &str) -> Option<PathBuf> {
    if slice == ROOT_SLICE {
        return Some(PathBuf::new());
    }
    let stem = slice.strip_suffix(".slice")?;
    if !is_valid(slice) || stem.contains('@') || stem.split('-').any(str::is_empty) {
        return None;
    }
    let dashes = stem.match_indices('-').filter_map(|(at, _)| stem.get(..at));
    Some(dashes.chain([stem]).map(|part| format!("{part}.slice")).collect())
}

fn is_valid(unit: &str) -> bool {
    unit.len() <= MAX_LENGTH
        && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
        && !unit.starts_with(['.', '@'])
}

/// The path of a unit's object on the bus.
pub(super) fn object(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (index, byte) in unit.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if index > 0 => path.push(char::from(byte)),
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(byte)),
            byte => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_unit_in_its_slice() {
        for (path, slice, unit, expected) in [
            (None, "system.slice", "davit-web.scope", "system.slice/davit-web.scope"),
            (Some(""), "system.slice", "davit-web.scope", "system.slice/davit-web.scope"),
            (
                Some("machine.slice:libpod:12ab"),
                "machine.slice",
                "libpod-12ab.scope",
                "machine.slice/libpod-12ab.scope",
            ),
            (Some(":runc:a"), "system.slice", "runc-a.scope", "system.slice/runc-a.scope"),
            (
                Some("a-b-c.slice::x"),
                "a-b-c.slice",
                "x.scope",
                "a.slice/a-b.slice/a-b-c.slice/x.scope",
            ),
            (Some("-.slice:p:x"), "-.slice", "p-x.scope", "p-x.scope"),
            (Some("a.slice:p:a-b.slice"), "a.slice", "a-b.slice", "a.slice/a-b.slice"),
            (Some(":p:a-b.slice"), "a.slice", "a-b.slice", "a.slice/a-b.slice"),
            (Some("-.slice::top.slice"), "-.slice", "top.slice", "top.slice"),
        ] {
            let named = named(path.map(Path::new), "web", false).unwrap();
            assert_eq!((named.slice.as_str(), named.unit.as_str()), (slice, unit), "{path:?}");
            assert_eq!(named.path, Path::new(expected), "{path:?}");
        }
        assert_eq!(named(None, "web", true).unwrap().slice, "user.slice");
    }

    #[test]
    fn wrong_forms_are_refused() {
        for (path, reason) in [
            ("/a/b", "\"/a/b\" is not slice:prefix:name"),
            ("a", "is not slice:prefix:name"),
            ("a:b", "is not slice:prefix:name"),
            ("a:b:c:d", "is not slice:prefix:name"),
            ("system.slice:davit:", "has an empty name"),
            ("system:davit:web", "\"system\" is not the name of a slice"),
            ("a--b.slice:davit:web", "\"a--b.slice\" is not the name of a slice"),
            ("-a.slice:davit:web", "is not the name of a slice"),
            ("a/b.slice:davit:web", "is not the name of a slice"),
            (".slice:davit:web", "is not the name of a slice"),
            ("../x.slice:davit:web", "is not the name of a slice"),
            ("a.slice:davit:we/b", "is not the name of a unit"),
            ("a.slice:davit:w b", "is not the name of a unit"),
            ("a.slice:davit:b-c.slice", "\"b-c.slice\" is in \"b.slice\", not in \"a.slice\""),
            (":davit:-.slice", "is not the name of a slice"),
        ] {
            let error = named(Some(Path::new(path)), "web", false).unwrap_err().to_string();
            assert!(error.starts_with(FIELD) && error.contains(reason), "{path}: {error}");
        }
        assert!(named(None, &"x".repeat(300), false).is_err());
        assert!(named(None, "a+b", false).is_err());
    }

    #[test]
    fn objects_have_escaped_names() {
        let expected = "/org/freedesktop/systemd1/unit/_312_2da_5fb_2escope";
        assert_eq!(object("12-a_b.scope"), expected);
    }
}
