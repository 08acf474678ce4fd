//! `linux.cgroupsPath` -> one path below each mount point of the host.

use std::path::{Component, Path, PathBuf};

use crate::{Error, Fault};

const FIELD: &str = "linux.cgroupsPath";

/// The path of the container's cgroup below each mount point: relative, normalized and not empty.
///
/// Absolute and relative paths mean the same, as in crun: the specification lets the runtime choose
/// what a relative path is relative to, and the mount point is the same for every command, whatever
/// cgroup it runs in. The default is the container's id.
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

/// The parent directories of the cgroup at `path`, from the mount point down: their
/// `cgroup.subtree_control` decides which controllers it has.
pub(crate) fn parents(mountpoint: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut levels: Vec<PathBuf> =
        mountpoint.join(path).ancestors().skip(1).map(Path::to_path_buf).collect();
    levels.truncate(path.components().count());
    levels.reverse();
    levels.into_iter()
}

/// Checks a path below the mount points that was read from a record: only such as `below_mount`
/// returns are valid.
///
/// # Errors
/// [`Fault::Stored`]: the root, an empty or absolute path, `.`, `..`, control characters.
pub fn check_path(path: &Path) -> Result<(), Fault> {
    let wrong = |reason| Err(Fault::Stored { path: path.to_owned(), reason });
    match below_mount(Some(path), "") {
        Err(Error::Value { reason, .. }) => wrong(reason),
        Err(other) => wrong(other.to_string()),
        // Compared as text: `Path` ignores `.` and repeated slashes in comparisons.
        Ok(clean) if clean.as_os_str() != path.as_os_str() || clean.as_os_str().is_empty() => {
            wrong("is not a clean path below the root cgroup".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_paths_are_checked_like_planned_ones() {
        for good in ["web", "a/b", "system.slice/davit-web.scope", "..."] {
            check_path(Path::new(good)).unwrap();
        }
        for bad in ["", ".", "/", "..", "a/..", "../a", "/a", "./a", "a/./b", "a/", "a//b", "a\nb"]
        {
            assert!(check_path(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

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
