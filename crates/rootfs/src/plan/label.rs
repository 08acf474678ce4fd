//! `linux.mountLabel`: the SELinux context of the file systems that are made for the container.

use std::ffi::CString;

use oci_spec::runtime::Spec;

use super::{Planner, string};
use crate::op::Setting;
use crate::{Error, Host};

const FIELD: &str = "linux.mountLabel";

/// File systems whose files have labels of the policy's own, or none at all.
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Options that choose a context already.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// What `linux.mountLabel` says.
pub(super) fn asked(spec: &Spec) -> Option<&str> {
    let label = spec.linux().as_ref()?.mount_label().as_deref()?;
    (!label.is_empty()).then_some(label)
}

/// A label of files protects nothing by itself: where no SELinux reads it, it is left out, which is
/// said. (A label of the process would: without SELinux it is refused.)
pub(super) fn without_effect(spec: &Spec, host: &Host) -> Option<String> {
    let in_vain = asked(spec).is_some() && !host.selinux;
    in_vain.then(|| format!("{FIELD}: has no effect: this kernel has no SELinux"))
}

impl<'a> Planner<'a> {
    fn label(&self) -> Option<&'a str> {
        asked(self.spec).filter(|_| self.host.selinux)
    }

    pub(super) fn check_label(&self) -> Result<(), Error> {
        asked(self.spec).map_or(Ok(()), |label| string(FIELD, label).map(drop))
    }

    /// The label as an option of a new file system, unless that chooses its own.
    pub(super) fn context(
        &self,
        fstype: &str,
        settings: &[Setting],
    ) -> Result<Option<Setting>, Error> {
        let chosen = settings.iter().any(|setting| match setting {
            Setting::Text(key, _) => CONTEXTS.iter().any(|name| name.as_bytes() == key.as_bytes()),
            Setting::Flag(_) => false,
        });
        match self.label() {
            Some(label) if !chosen && !UNLABELLED.contains(&fstype) => {
                let key: CString = string(FIELD, self.host.mount_context.name())?;
                Ok(Some(Setting::Text(key, string(FIELD, label)?)))
            }
            _ => Ok(None),
        }
    }
}

/// The same for mount(2), which splits its options at commas: a label may have some.
pub(super) fn quoted_option(setting: &Setting) -> Vec<u8> {
    match setting {
        Setting::Flag(name) => name.as_bytes().to_vec(),
        Setting::Text(key, value) => [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat(),
    }
}
