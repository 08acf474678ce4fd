//! `linux.mountLabel`: the SELinux context of the file systems that are created for the container.

use std::ffi::CString;

use oci_spec::runtime::Spec;

use super::{Planner, string};
use crate::op::FsOption;
use crate::{Error, Host};

const FIELD: &str = "linux.mountLabel";

/// File systems whose files have labels from the policy, or none.
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Options that set a context explicitly.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// The value of `linux.mountLabel`.
pub(super) fn mount_label(spec: &Spec) -> Option<&str> {
    let label = spec.linux().as_ref()?.mount_label().as_deref()?;
    (!label.is_empty()).then_some(label)
}

/// A label of files has no effect without SELinux: it is left out, with a warning. (A label of the
/// process is refused then.)
pub(super) fn without_effect(spec: &Spec, host: &Host) -> Option<String> {
    let unused = mount_label(spec).is_some() && !host.selinux;
    unused.then(|| format!("{FIELD}: has no effect: this kernel has no SELinux"))
}

impl<'a> Planner<'a> {
    fn label(&self) -> Option<&'a str> {
        mount_label(self.spec).filter(|_| self.host.selinux)
    }

    pub(super) fn check_label(&self) -> Result<(), Error> {
        mount_label(self.spec).map_or(Ok(()), |label| string(FIELD, label).map(drop))
    }

    /// The label as an option of a new file system, unless that has one already.
    pub(super) fn context(
        &self,
        fstype: &str,
        settings: &[FsOption],
    ) -> Result<Option<FsOption>, Error> {
        let is_set = settings.iter().any(|setting| match setting {
            FsOption::Text(key, _) => CONTEXTS.iter().any(|name| name.as_bytes() == key.as_bytes()),
            FsOption::Flag(_) => false,
        });
        match self.label() {
            Some(label) if !is_set && !UNLABELLED.contains(&fstype) => {
                let key: CString = string(FIELD, self.host.mount_context.name())?;
                Ok(Some(FsOption::Text(key, string(FIELD, label)?)))
            }
            _ => Ok(None),
        }
    }
}

/// The option for mount(2), in quotes, because mount(2) splits at commas.
pub(super) fn quoted_option(setting: &FsOption) -> Vec<u8> {
    match setting {
        FsOption::Flag(name) => name.as_bytes().to_vec(),
        FsOption::Text(key, value) => [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat(),
    }
}
