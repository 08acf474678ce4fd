//! Display of operations, for `davit explain` and error messages.

use std::ffi::CStr;
use std::fmt;

use davit_sys::mount::Attr;

use crate::op::{
    Action, AttachPoint, Change, Device, Filesystem, FsOption, IdMaps, Layer, NewNode, Op, Source,
    Target,
};
use crate::origin::Field;

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin.field != Field::default() {
            write!(f, "{} ", self.origin.field)?;
        }
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MapIds { recursive, maps, .. } => id_maps(f, *recursive, maps),
            Self::MakeNodes { slot, nodes } => new_nodes(f, *slot, nodes),
            Self::AttachNodes { slot } => write!(f, "attach slot {slot} over \"/\""),
            Self::DetachNodes { slot } => write!(f, "detach slot {slot}"),
            Self::CloneSource { path, recursive, slot } => {
                write!(f, "copy mount {}{} into slot {slot}", Quoted(path), recursively(*recursive))
            }
            Self::SetPropagation(propagation) => write!(f, "all mounts become {propagation}"),
            Self::Root { source, recursive, at, changes } => {
                write!(f, "root {source}{} -> {at}{}", recursively(*recursive), Changes(changes))
            }
            Self::RootOverlay { layers, ephemeral, at, .. } => {
                f.write_str("root overlay of ")?;
                let top = ephemeral.then_some("a new tmpfs".to_owned());
                let below = layers.iter().map(|layer| Quoted(layer).to_string());
                let all: Vec<String> = top.into_iter().chain(below).collect();
                write!(f, "{} -> {at}", all.join(" over "))
            }
            Self::RootDirectory(path) => write!(f, "root directory {}", Quoted(path)),
            Self::Bind { .. }
            | Self::Mount { .. }
            | Self::Overlay { .. }
            | Self::LegacyMount { .. }
            | Self::Remount { .. } => self.fmt_mount(f),
            Self::Unmount(target) => write!(f, "unmount {target}"),
            Self::Symlink { .. } | Self::Node { .. } | Self::BindNode { .. } => self.fmt_node(f),
            Self::Console { size, .. } => {
                f.write_str("new terminal -> \"/dev/console\"")?;
                size.map_or(Ok(()), |(rows, columns)| write!(f, " {rows} x {columns}"))
            }
            Self::Terminal { size, .. } => {
                f.write_str("new terminal")?;
                size.map_or(Ok(()), |(rows, columns)| write!(f, " {rows} x {columns}"))
            }
            Self::CoverHostMount(path) => write!(f, "unmount or cover {}", Quoted(path)),
            Self::Pivot => f.write_str("pivot_root, detach the old root"),
            Self::Chroot { .. } => f.write_str("chroot"),
            Self::ReadOnlyMount(path) => write!(f, "mount {} becomes read-only", Quoted(path)),
            Self::Mask(path) => write!(f, "mask {}", Quoted(path)),
            Self::ReadOnlyPath(path) => write!(f, "{} becomes read-only", Quoted(path)),
            Self::ReadOnlyRoot => f.write_str("the root becomes read-only"),
            Self::SetRootPropagation { propagation, recursive } => {
                write!(f, "the root{} becomes {propagation}", recursively(*recursive))
            }
        }
    }
}

impl Action {
    fn fmt_mount(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { source, recursive, target, changes, .. } => {
                let kind = if *recursive { "rbind" } else { "bind" };
                write!(f, "{kind} {source} -> {target}{}", Changes(changes))
            }
            Self::Mount { filesystem, target, changes } => {
                write!(f, "{filesystem} -> {target}")?;
                write!(
                    f,
                    "{}",
                    OptionList(&option_list(filesystem.attributes, &filesystem.settings))
                )?;
                write!(f, "{}", Changes(changes))
            }
            Self::Overlay { overlay, target, changes } => {
                let layers: Vec<String> = overlay.layers.iter().map(Layer::to_string).collect();
                write!(f, "overlay of {} -> {target}", layers.join(" over "))?;
                write!(f, "{}", OptionList(&option_list(overlay.attributes, &overlay.settings)))?;
                write!(f, "{}", Changes(changes))
            }
            Self::LegacyMount { fstype, source, flags, data, target, changes } => {
                write!(f, "{} {} -> {target}", fstype.to_string_lossy(), Quoted(source))?;
                write!(f, " flags {flags:#x} {}{}", Quoted(data), Changes(changes))
            }
            Self::Remount { target, settings, changes } => {
                let settings = settings.as_deref().unwrap_or_default();
                write!(
                    f,
                    "remount {target}{}{}",
                    OptionList(&option_list(0, settings)),
                    Changes(changes)
                )
            }
            _ => Ok(()),
        }
    }

    fn fmt_node(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symlink { directory, name, points_to, .. } => {
                write!(f, "link {} -> {}", Path(directory, name), Quoted(points_to))
            }
            Self::Node { directory, name, device, mode, uid, gid } => {
                write!(f, "{device} {} mode {mode:04o}", Path(directory, name))?;
                if (*uid, *gid) != (0, 0) {
                    write!(f, " owner {uid}:{gid}")?;
                }
                Ok(())
            }
            Self::BindNode { made, source, directory, name, device } => {
                let path = Path(directory, name);
                write!(f, "bind {device} ")?;
                match made {
                    Some((slot, node)) => write!(f, "{} of slot {slot}", node.to_string_lossy())?,
                    None => write!(f, "{}", Quoted(source))?,
                }
                write!(f, " -> {path} nosuid,noexec")
            }
            _ => Ok(()),
        }
    }
}

fn id_maps(f: &mut fmt::Formatter<'_>, recursive: bool, maps: &IdMaps) -> fmt::Result {
    let list = |lines: &str| lines.trim_end().replace('\n', ", ");
    f.write_str(if recursive { "ridmap" } else { "idmap" })?;
    match maps {
        IdMaps::Lines { uids, gids } => write!(f, " uids {}; gids {}", list(uids), list(gids)),
        IdMaps::Namespace(_) => f.write_str(" of the joined user namespace"),
    }
}

fn new_nodes(f: &mut fmt::Formatter<'_>, slot: u16, nodes: &[NewNode]) -> fmt::Result {
    write!(f, "create in a tmpfs in slot {slot}:")?;
    for (index, NewNode { device, mode, uid, gid }) in nodes.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(f, "{comma} {device} mode {mode:04o} owner {uid}:{gid}")?;
    }
    Ok(())
}

struct Quoted<'a>(&'a CStr);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.to_string_lossy())
    }
}

struct Path<'a>(&'a Target, &'a CStr);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.0.path.to_string_lossy();
        let path = format!("{}/{}", directory.trim_end_matches('/'), self.1.to_string_lossy());
        write!(f, "{path:?}")
    }
}

fn recursively(recursive: bool) -> &'static str {
    if recursive { " recursively" } else { "" }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(path) => write!(f, "{} of the new root", Quoted(path)),
            Self::Path(path) => Quoted(path).fmt(f),
            Self::Slot(slot) => write!(f, "slot {slot}"),
        }
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => Quoted(path).fmt(f),
            Self::StackOnRoot => f.write_str("over \"/\""),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(&self.path).fmt(f)
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fstype.to_string_lossy())?;
        if self.copy_up { f.write_str(" with a copy of the covered directory") } else { Ok(()) }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.data_only {
            f.write_str("data of ")?;
        }
        Quoted(&self.path).fmt(f)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(major, minor) => write!(f, "char {major}:{minor}"),
            Self::Block(major, minor) => write!(f, "block {major}:{minor}"),
            Self::Fifo => f.write_str("fifo"),
        }
    }
}

impl fmt::Display for FsOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(&name.to_string_lossy()),
            Self::Text(name, value) => {
                write!(f, "{}={}", name.to_string_lossy(), value.to_string_lossy())
            }
        }
    }
}

/// ` a,b,c`, or nothing.
struct OptionList<'a>(&'a [String]);

impl fmt::Display for OptionList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " {}", self.0.join(",")) }
    }
}

struct Changes<'a>(&'a [Change]);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.0 {
            let mut names = attribute_names(change.set, change.clear);
            names.extend(change.propagation.map(|propagation| propagation.to_string()));
            let recursive = if change.recursive { "r" } else { "" };
            let names: Vec<String> =
                names.iter().map(|name| format!("{recursive}{name}")).collect();
            OptionList(&names).fmt(f)?;
        }
        Ok(())
    }
}

fn option_list(attributes: u64, settings: &[FsOption]) -> Vec<String> {
    let mut names = attribute_names(attributes, 0);
    names.extend(settings.iter().map(FsOption::to_string));
    names
}

/// The names of attributes as mount options.
fn attribute_names(set: u64, clear: u64) -> Vec<String> {
    let mut names = Vec::new();
    let flags = [
        (Attr::RDONLY, "ro", "rw"),
        (Attr::NOSUID, "nosuid", "suid"),
        (Attr::NODEV, "nodev", "dev"),
        (Attr::NOEXEC, "noexec", "exec"),
        (Attr::NODIRATIME, "nodiratime", "diratime"),
        (Attr::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    for (attr, on, off) in flags {
        if set & attr.bits() != 0 {
            names.push(on.to_owned());
        } else if clear & attr.bits() != 0 {
            names.push(off.to_owned());
        }
    }
    let atime = Attr::from_bits(set & Attr::ATIME.bits());
    if atime == Attr::NOATIME {
        names.push("noatime".to_owned());
    } else if atime == Attr::STRICTATIME {
        names.push("strictatime".to_owned());
    } else if clear & Attr::ATIME.bits() != 0 {
        names.push("relatime".to_owned());
    }
    names
}
