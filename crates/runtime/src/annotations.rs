//! The annotations of config.json that mean something to davit. All others are only passed on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rootfs::ContextType;

use crate::error::{Error, Result};

const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";

/// Every annotation that changes what is done, in alphabetical order; `docs/annotations.md` has
/// the same list. Whoever lets strangers write annotations must know all of them.
pub const KNOWN: [&str; 9] = [
    cgroups::SYSTEMD_PROPERTY,
    rootfs::EPHEMERAL,
    rootfs::LAYERS,
    DELEGATE_CGROUP,
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_GROUPS,
    MOUNT_CONTEXT_TYPE,
    crate::plan::RECEIVER,
];

/// Those of them that are no leaf crate's own.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotations {
    /// The supplementary groups of the runtime's caller stay.
    pub(crate) keep_groups: bool,
    /// The option as which the mounts get `linux.mountLabel`.
    pub(crate) mount_context: ContextType,
    /// Where hooks print to.
    pub(crate) hook_output: HookOutput,
    /// The sub-cgroup for the container's own use.
    pub(crate) delegate: Option<String>,
}

/// Files that get what hooks print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HookOutput {
    pub(crate) stdout: Option<PathBuf>,
    pub(crate) stderr: Option<PathBuf>,
}

impl Annotations {
    /// Reads them.
    ///
    /// # Errors
    /// A value that means nothing, with the annotation's name.
    pub(crate) fn of(all: &Option<HashMap<String, String>>) -> Result<Self> {
        let Some(all) = all else { return Ok(Self::default()) };
        let value = |name: &'static str| all.get(name).map(|value| Value { name, value });
        Ok(Self {
            keep_groups: value(KEEP_GROUPS).map(Value::switch).transpose()?.unwrap_or_default(),
            mount_context: value(MOUNT_CONTEXT_TYPE)
                .map(Value::context_type)
                .transpose()?
                .unwrap_or_default(),
            hook_output: HookOutput {
                stdout: value(HOOKS_STDOUT).map(Value::path).transpose()?,
                stderr: value(HOOKS_STDERR).map(Value::path).transpose()?,
            },
            delegate: value(DELEGATE_CGROUP).map(Value::cgroup_name).transpose()?,
        })
    }
}

impl HookOutput {
    /// Those of a container that exists, whose annotations were read before.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Self {
        let path = |name: &str| annotations.get(name).map(PathBuf::from);
        Self { stdout: path(HOOKS_STDOUT), stderr: path(HOOKS_STDERR) }
    }
}

/// Whether a container that exists has a sub-cgroup of its own.
pub(crate) fn delegates(annotations: &BTreeMap<String, String>) -> bool {
    annotations.contains_key(DELEGATE_CGROUP)
}

/// The annotation's place in config.json.
pub(crate) fn field(name: &str) -> String {
    format!("annotations[{name:?}]")
}

/// The place of the annotation that makes a sub-cgroup.
pub(crate) fn delegate_field() -> String {
    field(DELEGATE_CGROUP)
}

struct Value<'a> {
    name: &'static str,
    value: &'a str,
}

impl Value<'_> {
    fn refused<T>(&self, reason: &str) -> Result<T> {
        Err(Error::new(format!("{}: {:?}: {reason}", field(self.name), self.value)))
    }

    fn switch(self) -> Result<bool> {
        match self.value {
            "1" => Ok(true),
            "0" => Ok(false),
            _ => self.refused("must be 1 or 0"),
        }
    }

    fn context_type(self) -> Result<ContextType> {
        let found = ContextType::ALL.into_iter().find(|kind| kind.name() == self.value);
        match found {
            Some(kind) => Ok(kind),
            None => self.refused("must be context, fscontext, defcontext or rootcontext"),
        }
    }

    fn path(self) -> Result<PathBuf> {
        match Path::new(self.value) {
            _ if self.value.contains('\0') => self.refused("contains a NUL byte"),
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => self.refused("is not an absolute path"),
        }
    }

    /// One name; crun's users write a slash before it.
    fn cgroup_name(self) -> Result<String> {
        match self.value.strip_prefix('/').unwrap_or(self.value) {
            "" | "." | ".." => self.refused("is not the name of a cgroup"),
            name if name.contains(['/', '\0']) => self.refused("must be one name"),
            // The kernel's own files would be in the way (cgroups(7)).
            name if name.starts_with("cgroup.") => self.refused("is a name of the kernel's"),
            name => Ok(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Annotations> {
        Annotations::of(&Some(HashMap::from([(name.to_owned(), value.to_owned())])))
    }

    #[test]
    fn each_means_what_it_says() {
        assert_eq!(Annotations::of(&None).unwrap(), Annotations::default());
        assert_eq!(read("org.example", "x").unwrap(), Annotations::default());
        assert!(read(KEEP_GROUPS, "1").unwrap().keep_groups);
        assert!(!read(KEEP_GROUPS, "0").unwrap().keep_groups);
        for kind in ContextType::ALL {
            assert_eq!(read(MOUNT_CONTEXT_TYPE, kind.name()).unwrap().mount_context, kind);
        }
        let output = read(HOOKS_STDOUT, "/log").unwrap().hook_output;
        assert_eq!(output, HookOutput { stdout: Some("/log".into()), stderr: None });
        for name in ["init", "/init"] {
            assert_eq!(read(DELEGATE_CGROUP, name).unwrap().delegate.as_deref(), Some("init"));
        }
    }

    #[test]
    fn a_value_that_means_nothing_is_refused_by_name() {
        for (name, values) in [
            (KEEP_GROUPS, &["", "true", "2"][..]),
            (MOUNT_CONTEXT_TYPE, &["", "Context", "seclabel"]),
            (HOOKS_STDOUT, &["", "log", "/a\0b"]),
            (HOOKS_STDERR, &["", "./log"]),
            (DELEGATE_CGROUP, &["", "/", ".", "..", "/..", "a/b", "//a", "cgroup.procs"]),
        ] {
            for value in values {
                let error = read(name, value).unwrap_err().to_string();
                assert!(error.starts_with(&field(name)), "{value:?}: {error}");
            }
        }
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(KNOWN.is_sorted());
    }
}
