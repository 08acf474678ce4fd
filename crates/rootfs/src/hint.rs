//! Advice for the user, by operation and errno.
//!
//! A hint may read facts from the host: hints are only needed by the runtime after a failure.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::stat;

use crate::facts::{Ids, Obstacle, obstacle, obstacle_in_root, type_of};
use crate::op::{Action, Filesystem, FsOption, Op, Overlay, Source, Target};

/// What is known about a failure beyond its errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The field of another operation that caused the failure.
    pub blamed: Option<String>,
    /// Advice or explanation.
    pub text: String,
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self { blamed: None, text }
    }
}

/// The hint for a failure of one of `ops`, if there is one.
#[must_use]
pub fn hint(ops: &[Op], failed: usize, errno: Errno, ids: &Ids) -> Option<Hint> {
    let op = ops.get(failed)?;
    let plan = Plan { ops, failed, ids };
    match &op.action {
        Action::CloneSource { path, .. } => source(path, errno, ids).map(Hint::from),
        Action::MapIds { tree, .. } => plan.unmappable(*tree, errno).map(Hint::from),
        Action::Root { source: Source::Path(path), .. } | Action::RootDirectory(path) => {
            source(path, errno, ids).map(Hint::from)
        }
        Action::Root { .. } => plan.attach_point(errno).map(Hint::from),
        Action::RootOverlay { layers, .. } => {
            layers.iter().find_map(|layer| source(layer, errno, ids)).map(Hint::from)
        }
        Action::Bind { source: from, target, .. } => plan.bind(from, target, errno),
        Action::BindNode { made: None, source: path, directory, .. } => source(path, errno, ids)
            .map(|text| {
                format!("{text}; in this user namespace the host's node is bind mounted").into()
            })
            .or_else(|| plan.destination(directory, errno)),
        Action::Mount { filesystem, target, .. } => new_filesystem(filesystem, errno, ids)
            .map(Hint::from)
            .or_else(|| plan.destination(target, errno)),
        Action::Overlay { overlay, target, .. } => of_overlay(overlay, errno, ids)
            .map(Hint::from)
            .or_else(|| plan.destination(target, errno)),
        Action::LegacyMount { fstype, target, .. } => {
            unknown_type(fstype, errno).map(Hint::from).or_else(|| plan.destination(target, errno))
        }
        Action::Symlink { directory, .. }
        | Action::Node { directory, .. }
        | Action::BindNode { directory, .. } => plan.destination(directory, errno),
        Action::Console { .. } | Action::Terminal { .. } => plan.terminal(errno).map(Hint::from),
        _ => None,
    }
}

/// A path of the host that could not be used.
fn source(path: &CStr, errno: Errno, ids: &Ids) -> Option<String> {
    let path = as_path(path);
    match (errno, obstacle(path, ids)?) {
        (Errno::ENOENT, Obstacle::Missing(part)) => {
            Some(format!("the source is missing: {} is not there on the host", part.display()))
        }
        (Errno::ENOENT, Obstacle::Dangling(link, to)) => Some(format!(
            "the source is missing: {} is a symbolic link to {}, which is not there on the host",
            link.display(),
            to.display()
        )),
        (Errno::ENOTDIR, Obstacle::NotDirectory(part)) => {
            Some(format!("the source: {} is not a directory of the host", part.display()))
        }
        (Errno::ELOOP, Obstacle::Link(link)) => {
            Some(format!("the source: the symbolic link {} leads to itself", link.display()))
        }
        (Errno::EACCES, Obstacle::NoAccess(directory)) => Some(directory.describe(ids)),
        _ => None,
    }
}

/// A type that the kernel does not have.
fn unknown_type(fstype: &CStr, errno: Errno) -> Option<String> {
    let name = fstype.to_string_lossy();
    (errno == Errno::ENODEV && !is_known(&name)).then(|| {
        format!(
            "this kernel has no file system type {name:?} (/proc/filesystems): perhaps a module must \
             be loaded; to mount a directory of the host use the option bind"
        )
    })
}

fn is_known(fstype: &str) -> bool {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().any(|line| line.split_whitespace().next_back() == Some(fstype))
}

fn new_filesystem(wanted: &Filesystem, errno: Errno, ids: &Ids) -> Option<String> {
    if let Some(text) = unknown_type(&wanted.fstype, errno) {
        return Some(text);
    }
    let device = wanted.source.as_deref().filter(|source| source.to_bytes().starts_with(b"/"));
    match errno {
        Errno::ENOENT => source(device?, errno, ids),
        Errno::ENOTBLK => Some(
            "the source is not a block device: an image in a file needs a loop device (losetup(8))"
                .to_owned(),
        ),
        Errno::EINVAL => wanted.settings.iter().find_map(|setting| unmapped_id(setting, ids)),
        _ => None,
    }
}

/// An option with an owner that is not mapped in the user namespace.
fn unmapped_id(setting: &FsOption, ids: &Ids) -> Option<String> {
    let FsOption::Text(name, value) = setting else { return None };
    let id = value.to_str().ok()?.parse().ok()?;
    let (mapped, field) = match name.to_bytes() {
        b"uid" => (ids.uid_outside(id), "linux.uidMappings"),
        b"gid" => (ids.gid_outside(id), "linux.gidMappings"),
        _ => return None,
    };
    let name = name.to_string_lossy();
    mapped
        .is_none()
        .then(|| format!("{name}={id}: {field} does not map {id}; map it, or leave the option out"))
}

fn of_overlay(overlay: &Overlay, errno: Errno, ids: &Ids) -> Option<String> {
    let layers = overlay.layers.iter().map(|layer| layer.path.as_c_str());
    let text = |wanted: &str| {
        overlay.settings.iter().find_map(|setting| match setting {
            FsOption::Text(name, value) if name.to_bytes() == wanted.as_bytes() => {
                Some(value.as_c_str())
            }
            _ => None,
        })
    };
    let (upper, work) = (text("upperdir"), text("workdir"));
    if let Some(text) = layers.chain(upper).chain(work).find_map(|path| source(path, errno, ids)) {
        return Some(text);
    }
    let (upper, work) = (as_path(upper?), as_path(work?));
    let device = |path: &Path| stat(path).ok().map(|stat| stat.st_dev);
    match errno {
        Errno::EINVAL | Errno::EXDEV if device(upper) != device(work) => Some(format!(
            "upperdir and workdir are on two file systems ({} and {}), but must be on one",
            type_of(upper).unwrap_or_default(),
            type_of(work).unwrap_or_default()
        )),
        Errno::EINVAL if upper.starts_with(work) || work.starts_with(upper) => {
            Some("upperdir and workdir must be two directories, neither below the other".into())
        }
        Errno::EINVAL => type_of(upper).map(|fstype| {
            format!("upperdir is on a file system of type {fstype}, which may not support one")
        }),
        _ => None,
    }
}

/// The operations, of which those before the failed one tell the present mounts.
struct Plan<'a> {
    ops: &'a [Op],
    failed: usize,
    ids: &'a Ids,
}

impl Plan<'_> {
    fn bind(&self, from: &Source, target: &Target, errno: Errno) -> Option<Hint> {
        if let Source::Path(path) = from
            && let Some(text) = source(path, errno, self.ids)
        {
            return Some(text.into());
        }
        self.destination(target, errno).or_else(|| {
            (errno == Errno::ENOTDIR).then(|| {
                "a file can only be bind mounted on a file, and a directory on a directory"
                    .to_owned()
                    .into()
            })
        })
    }

    /// A path in the container that could not be opened or created.
    fn destination(&self, target: &Target, errno: Errno) -> Option<Hint> {
        let path = as_path(&target.path);
        if let Some(cover) = self.cover(path) {
            let what = cover.origin.to_string();
            return match errno {
                Errno::EROFS => Some(format!(
                    "the destination is missing: {} is not there in {what}, which is read-only",
                    path.display()
                )),
                Errno::ENOENT | Errno::EPERM | Errno::EACCES => Some(format!(
                    "the destination is missing: {} is not there in {what}, and cannot be created",
                    path.display()
                )),
                _ => None,
            }
            .map(Hint::from);
        }
        let (origin, root) = self.root()?;
        let obstacle = obstacle_in_root(&root, path, self.ids);
        match (errno, obstacle?) {
            (Errno::ENOTDIR, Obstacle::NotDirectory(part)) => Some(
                format!("the destination: {} is not a directory", part.display()).into(),
            ),
            (Errno::ELOOP, Obstacle::Link(link)) => Some(
                format!("the destination: {} is a symbolic link that leads to itself, or into procfs", link.display()).into(),
            ),
            (Errno::ENOENT | Errno::EPERM | Errno::EROFS | Errno::EACCES, Obstacle::Link(link)) => Some(
                format!("the destination: the target of the symbolic link {} is not there, and cannot be created", link.display()).into(),
            ),
            (Errno::EROFS, Obstacle::Missing(part)) => Some(
                format!(
                    "the destination is missing: {} is not there in the root, whose file system is read-only",
                    part.display()
                )
                .into(),
            ),
            (Errno::EACCES, Obstacle::NoAccess(directory)) => {
                Some(Hint { blamed: Some(origin), text: directory.describe(self.ids) })
            }
            _ => None,
        }
    }

    /// The last mount on this path, or on a parent of it.
    fn cover(&self, path: &Path) -> Option<&Op> {
        let before = self.ops.get(..self.failed)?;
        before.iter().rev().find(|op| match &op.action {
            Action::Bind { target, .. }
            | Action::Mount { target, .. }
            | Action::Overlay { target, .. }
            | Action::LegacyMount { target, .. } => path.starts_with(as_path(&target.path)),
            _ => false,
        })
    }

    /// The root's path on the host, unless it is an overlay.
    fn root(&self) -> Option<(String, PathBuf)> {
        self.ops.iter().find_map(|op| match &op.action {
            Action::Root { .. } | Action::RootDirectory(_) => {
                Some((op.origin.to_string(), PathBuf::from(op.origin.path()?)))
            }
            _ => None,
        })
    }

    /// The directory on which the root is attached.
    fn attach_point(&self, errno: Errno) -> Option<String> {
        let (_, root) = self.root()?;
        match (errno, obstacle(&root, self.ids)?) {
            (Errno::EACCES, Obstacle::NoAccess(directory)) => Some(directory.describe(self.ids)),
            _ => None,
        }
    }

    /// The tree whose ids could not be mapped.
    fn unmappable(&self, tree: u16, errno: Errno) -> Option<String> {
        let path = self.ops.iter().find_map(|op| match &op.action {
            Action::CloneSource { path, slot, .. } if *slot == tree => Some(as_path(path)),
            _ => None,
        })?;
        let fstype = type_of(path)?;
        let path = path.display();
        match errno {
            Errno::EINVAL => Some(format!(
                "{path} is on a file system of type {fstype}, which this kernel cannot mount with mapped ids"
            )),
            Errno::EPERM => Some(format!(
                "{path} is on a file system of type {fstype}: only root of the user namespace that it was mounted in may map its ids"
            )),
            _ => None,
        }
    }

    fn terminal(&self, errno: Errno) -> Option<String> {
        let devpts = Path::new("/dev/pts");
        let cover = self.cover(devpts).map(|op| as_path_of(op) == Some(devpts));
        match (errno, cover) {
            (Errno::ENOENT | Errno::ENOTTY, None | Some(false)) => Some(
                "a terminal needs a mount of type devpts on /dev/pts, which the container does not have"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn as_path_of(op: &Op) -> Option<&Path> {
    match &op.action {
        Action::Bind { target, .. }
        | Action::Mount { target, .. }
        | Action::LegacyMount { target, .. } => Some(as_path(&target.path)),
        _ => None,
    }
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}
