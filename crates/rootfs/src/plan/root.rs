//! The source of the container's root, and how it becomes the root.

use std::path::{Path, PathBuf};

use davit_sys::mount::Attr;
use oci_spec::runtime::Hook;

use super::{Planner, path_string};
use crate::Error;
use crate::op::{Action, AttachPoint, Change, Op};
use crate::origin::{Origin, Subject};

/// Annotation: the root is a read-only overlay of these unpacked layer directories.
///
/// Topmost first, separated by `:`; absolute, or relative to the bundle. A colon or a backslash in
/// a directory's name is preceded by a backslash. `root.path` may then be absent or empty.
pub const LAYERS: &str = "run.davit.root.layers";
const LAYERS_FIELD: &str = r#"annotations["run.davit.root.layers"]"#;

/// Annotation: with `true` changes of the root are written to a tmpfs, and discarded at the end.
pub const EPHEMERAL: &str = "run.davit.root.ephemeral";
const EPHEMERAL_FIELD: &str = r#"annotations["run.davit.root.ephemeral"]"#;

impl Planner<'_> {
    pub(super) fn root(&mut self) -> Result<(), Error> {
        let path = self.root_path();
        let layers = self.layers()?;
        let ephemeral = self.ephemeral()?;
        self.attach_point = self.attach_point(path.as_deref())?;
        match (layers, path) {
            (Some(layers), _) if ephemeral || layers.len() > 1 => {
                self.overlay_root(LAYERS_FIELD, &layers, ephemeral)
            }
            // An overlay needs at least two directories; a single one needs no overlay.
            (Some(layers), _) => {
                let layer = layers.first().ok_or_else(|| Error::missing(LAYERS_FIELD))?;
                self.tree_root(LAYERS_FIELD, layer, true)
            }
            (None, Some(path)) if ephemeral => self.overlay_root("root.path", &[path], ephemeral),
            (None, Some(path)) => self.tree_root("root.path", &path, false),
            (None, None) => Err(Error::missing("root.path")),
        }
    }

    /// Whether the root is an overlay, in which the mounts below root.path are not visible.
    pub(super) fn has_overlay_root(&self) -> bool {
        !matches!((self.layers(), self.ephemeral()), (Ok(None), Ok(false)))
    }

    /// Plans the root without a mount namespace.
    pub(super) fn root_directory(&mut self) -> Result<(), Error> {
        let refuse = |field: &str| Err(Error::NoMountNamespace { field: field.to_owned() });
        if self.layers()?.is_some() {
            return refuse(LAYERS_FIELD);
        }
        if self.ephemeral()? {
            return refuse(EPHEMERAL_FIELD);
        }
        let path = self.root_path().ok_or_else(|| Error::missing("root.path"))?;
        let action = Action::RootDirectory(path_string("root.path", &path)?);
        self.build.push(Op::new(
            "root.path",
            Subject::Path(path.to_string_lossy().into_owned()),
            action,
        ));
        Ok(())
    }

    fn root_path(&self) -> Option<PathBuf> {
        let path = self.spec.root().as_ref()?.path();
        (!path.as_os_str().is_empty()).then(|| self.in_bundle(path))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.spec.annotations().as_ref()?.get(key).map(String::as_str)
    }

    fn layers(&self) -> Result<Option<Vec<PathBuf>>, Error> {
        let Some(text) = self.annotation(LAYERS) else { return Ok(None) };
        let names = split_layers(text);
        if names.iter().any(String::is_empty) {
            return Err(Error::invalid(LAYERS_FIELD, text, "has an empty directory name"));
        }
        Ok(Some(names.iter().map(|name| self.in_bundle(Path::new(name))).collect()))
    }

    fn ephemeral(&self) -> Result<bool, Error> {
        match self.annotation(EPHEMERAL) {
            None | Some("false") => Ok(self.host.ephemeral),
            Some("true") => Ok(true),
            Some(other) => Err(Error::invalid(EPHEMERAL_FIELD, other, "must be true or false")),
        }
    }

    /// Hooks that run before the root is entered expect it at `root.path`, and sources of later
    /// mounts may be below it. If the parent opens all sources and there is no such hook, that path
    /// is not needed, which the container's root user may be unable to reach.
    fn attach_point(&self, path: Option<&Path>) -> Result<AttachPoint, Error> {
        match path {
            Some(path) if !self.parent_opens || self.has_early_hooks() => {
                Ok(AttachPoint::Directory(path_string("root.path", path)?))
            }
            _ => Ok(AttachPoint::StackOnRoot),
        }
    }

    fn has_early_hooks(&self) -> bool {
        let some = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_some_and(|list| !list.is_empty());
        #[allow(deprecated)] // Engines still write `prestart`.
        let early = |hooks: &oci_spec::runtime::Hooks| {
            some(hooks.prestart()) || some(hooks.create_runtime()) || some(hooks.create_container())
        };
        self.spec.hooks().as_ref().is_some_and(early)
    }

    fn tree_root(&mut self, field: &'static str, path: &Path, layer: bool) -> Result<(), Error> {
        let subject = Subject::Path(path.to_string_lossy().into_owned());
        let origin = Origin { field: field.into(), subject };
        let path = path_string(field, path)?;
        let recursive = !layer;
        let source = self.source(origin.clone(), path, recursive, self.parent_opens);
        let at = self.attach_point.clone();
        let mut changes = Vec::new();
        if self.parent_opens {
            changes.push(self.initial_change(recursive));
        }
        if layer {
            changes.push(Change { set: Attr::RDONLY.bits(), ..Change::default() });
        }
        let action = Action::Root { source, recursive, at, changes };
        self.build.push(Op { origin, action });
        Ok(())
    }

    fn overlay_root(
        &mut self,
        field: &'static str,
        layers: &[PathBuf],
        ephemeral: bool,
    ) -> Result<(), Error> {
        let names: Vec<String> =
            layers.iter().map(|layer| layer.to_string_lossy().into_owned()).collect();
        let layers = layers.iter().map(|layer| path_string(field, layer));
        let action = Action::RootOverlay {
            layers: layers.collect::<Result<_, _>>()?,
            ephemeral,
            userxattr: self.host.user_namespace,
            at: self.attach_point.clone(),
        };
        self.build.push(Op::new(field, Subject::Layers(names), action));
        Ok(())
    }

    pub(super) fn enter_root(&mut self) -> Result<(), Error> {
        if !self.host.no_pivot {
            self.enter.insert(0, Op::new("root", Subject::Nothing, Action::Pivot));
            return Ok(());
        }
        let mut first = Vec::new();
        // After chroot(2) the host's procfs and sysfs are still mounted, and would satisfy the
        // kernel's check that a user namespace may mount a procfs (mount_too_revealing).
        for path in &self.host.proc_and_sys {
            let action = Action::CoverHostMount(path_string("--no-pivot", path)?);
            first.push(Op::new(
                "--no-pivot",
                Subject::Path(path.to_string_lossy().into_owned()),
                action,
            ));
        }
        let move_to_root = self.attach_point != AttachPoint::StackOnRoot;
        first.push(Op::new("root", Subject::Nothing, Action::Chroot { move_to_root }));
        self.enter.splice(0..0, first);
        Ok(())
    }

    pub(super) fn read_only_root(&mut self) {
        if self.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            self.enter.push(Op::new("root.readonly", Subject::Nothing, Action::ReadOnlyRoot));
        }
    }
}

/// Splits at colons that are not preceded by a backslash.
fn split_layers(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        let plain = match first {
            ':' => {
                names.push(String::new());
                continue;
            }
            '\\' => rest.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(name) = names.last_mut() {
            name.push(plain);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_split_at_colons_that_have_no_backslash() {
        assert_eq!(split_layers(r"/a:b\:c:/d\\"), ["/a", "b:c", r"/d\"]);
        assert_eq!(split_layers("/a::/b"), ["/a", "", "/b"]);
    }
}
