//! `linux.cgroupsPath` -> one path below every mount point of the host.

use std::path::{Component, Path, PathBuf};

use crate::Error;

const FIELD: &str = "linux.cgroupsPath";

/// Where the container's cgroup stands below each mount point: a relative, clean, non-empty path.
///
/// Absolute and relative paths mean the same, as with crun: the root that a relative path starts
/// from is the runtime's to choose, and one that does not depend on where the runtime itself
/// happens to run gives the same place to every command. Without a path it is the container's id.
///
/// # Errors
/// `..`, the root itself, control characters, and the `slice:prefix:name` of the systemd driver.
pub(crate) fn below_mount(path: Option<&Path>, id: &str) -> Result<PathBuf, Error> {
    let path = match path {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => return Ok(PathBuf::from(id)),
    };
    let text = path.to_string_lossy();
    // The kernel refuses newlines in names (they would forge lines of /proc/PID/cgroup).
    if text.chars().any(char::is_control) {
        return Err(Error::value(FIELD, "control characters are not allowed"));
    }
    if !path.has_root() && text.split(':').count() == 3 {
        return Err(Error::value(
            FIELD,
            format!(
                "{text:?} is a systemd path (slice:prefix:name), which needs the systemd cgroup driver"
            ),
        ));
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return Err(Error::value(FIELD, "`..` is not allowed")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(Error::value(FIELD, "the root cgroup cannot belong to a container"));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_relative_and_absent_paths() {
        let at = |path: Option<&str>| below_mount(path.map(Path::new), "web").unwrap();
        assert_eq!(at(None), Path::new("web"));
        assert_eq!(at(Some("")), Path::new("web"));
        assert_eq!(at(Some("/a/b")), Path::new("a/b"));
        assert_eq!(at(Some("a/b")), Path::new("a/b"));
        assert_eq!(at(Some("//a/./b/")), Path::new("a/b"));
        assert_eq!(at(Some("/a:b:c")), Path::new("a:b:c"));
        assert_eq!(at(Some("a:b")), Path::new("a:b"));
    }

    #[test]
    fn refused_paths_name_the_field() {
        for (path, reason) in [
            ("/", "the root cgroup cannot belong to a container"),
            ("./", "the root cgroup cannot belong to a container"),
            ("../x", "`..` is not allowed"),
            ("/a/../../b", "`..` is not allowed"),
            ("a\nb", "control characters are not allowed"),
            ("a\0b", "control characters are not allowed"),
            (
                "system.slice:davit:web",
                "\"system.slice:davit:web\" is a systemd path (slice:prefix:name), which needs the \
                 systemd cgroup driver",
            ),
            (
                ":davit:web",
                "\":davit:web\" is a systemd path (slice:prefix:name), which needs the systemd \
                 cgroup driver",
            ),
        ] {
            let error = below_mount(Some(Path::new(path)), "web").unwrap_err();
            assert_eq!(error.to_string(), format!("linux.cgroupsPath: {reason}"));
        }
    }
}
