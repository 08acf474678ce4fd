//! The annotations of config.json that change what davit does. All others are only passed on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use davit_rootfs::ContextType;

use crate::error::{Error, Result};
use crate::hook::HookOutput;

/// The file with more options for CRIU, as of runc and crun.
const CRIU_CONFIG: &str = "org.criu.config";
const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
const MOUNT_CONTEXT_TYPE: &str = "run.oci.mount_context_type";

/// The seccomp agent, where `linux.seccomp.listenerPath` names none.
pub(crate) const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";

/// Every annotation that changes what is done, in alphabetical order; `docs/annotations.md` has
/// the same list. An engine that lets its users write annotations must know all of them.
pub(crate) const KNOWN: [&str; 10] = [
    CRIU_CONFIG,
    davit_cgroups::SYSTEMD_PROPERTY,
    davit_rootfs::EPHEMERAL,
    davit_rootfs::LAYERS,
    DELEGATE_CGROUP,
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_GROUPS,
    MOUNT_CONTEXT_TYPE,
    SECCOMP_RECEIVER,
];

/// The annotations that are not read by a leaf crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotations {
    /// The process keeps the supplementary groups of the runtime's caller.
    pub(crate) keep_groups: bool,
    /// The mount option for `linux.mountLabel`.
    pub(crate) mount_context: ContextType,
    /// The log files of hooks.
    pub(crate) hook_output: HookOutput,
    /// The sub-cgroup that is delegated to the container.
    pub(crate) delegate: Option<String>,
}

impl Annotations {
    /// Reads the annotations.
    ///
    /// # Errors
    /// An invalid value, with the annotation's name.
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

/// The log files of hooks of a container that exists, whose annotations were checked before.
pub(crate) fn hook_output(annotations: &BTreeMap<String, String>) -> HookOutput {
    let path = |name: &str| annotations.get(name).map(PathBuf::from);
    HookOutput { stdout: path(HOOKS_STDOUT), stderr: path(HOOKS_STDERR) }
}

/// Whether an existing container has a delegated sub-cgroup.
pub(crate) fn delegates(annotations: &BTreeMap<String, String>) -> bool {
    annotations.contains_key(DELEGATE_CGROUP)
}

/// The files with options for CRIU, where the annotation names none.
const CRIU_CONFIGS: [&str; 2] = ["/etc/criu/davit.conf", "/etc/criu/runc.conf"];

/// The file with more options for CRIU: that of the annotation (none if it is empty), or the first
/// of the usual ones that exists.
pub(crate) fn criu_config(annotations: &BTreeMap<String, String>) -> Option<String> {
    match annotations.get(CRIU_CONFIG) {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => CRIU_CONFIGS.iter().find(|path| Path::new(path).exists()).map(ToString::to_string),
    }
}

/// The path of an annotation in config.json.
pub(crate) fn field(name: &str) -> String {
    format!("annotations[{name:?}]")
}

/// The path of the annotation for the sub-cgroup.
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

    /// One name; crun accepts a slash before it.
    fn cgroup_name(self) -> Result<String> {
        match self.value.strip_prefix('/').unwrap_or(self.value) {
            "" | "." | ".." => self.refused("is not the name of a cgroup"),
            name if name.contains(['/', '\0']) => self.refused("must be one name"),
            // Such names are reserved for files of the kernel (cgroups(7)).
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
    fn each_annotation_is_read() {
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
    fn an_invalid_value_is_refused_by_name() {
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
