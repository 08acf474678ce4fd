//! Properties of config.json that several planners need.

use std::path::PathBuf;

use davit_namespaces::Kind;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

fn namespace(spec: &Spec, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    let list = spec.linux().as_ref()?.namespaces().as_ref()?;
    list.iter().find(|namespace| namespace.typ() == kind)
}

/// Whether the container has such a namespace of its own, new or joined.
pub(super) fn has(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    namespace(spec, kind).is_some()
}

/// Whether such a namespace is made for the container.
pub(super) fn is_new(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    namespace(spec, kind).is_some_and(|found| !found.path().as_ref().is_some_and(given))
}

/// The kinds of namespaces in which a container with this configuration differs from the runtime.
#[must_use]
pub fn kinds(spec: &Spec) -> Vec<Kind> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    list.into_iter().flatten().map(|namespace| Kind::from(namespace.typ())).collect()
}
