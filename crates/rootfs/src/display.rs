//! Operations as lines of a story, for `davit explain`.

use std::ffi::CStr;
use std::fmt;

use sys::mount::Attr;

use crate::op::{
    Action, Change, Device, Filesystem, Layer, Op, Place, Propagation, Setting, Source, Target,
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
            Self::MapIds { recursive, uids, gids, .. } => {
                let list = |lines: &str| lines.trim_end().replace('\n', ", ");
                f.write_str(if *recursive { "ridmap" } else { "idmap" })?;
                write!(f, " uids {}; gids {}", list(uids), list(gids))
            }
            Self::CloneSource { path, recursive, slot } => {
                write!(f, "copy mount {}{} into slot {slot}", Quoted(path), deep(*recursive))
            }
            Self::Contain(propagation) => write!(f, "all mounts become {propagation}"),
            Self::Root { source, recursive, at, changes } => {
                write!(f, "root {source}{} -> {at}{}", deep(*recursive), Changes(changes))
            }
            Self::RootOverlay { layers, ephemeral, at, .. } => {
                f.write_str("root overlay of ")?;
                let top = ephemeral.then_some("a new tmpfs".to_owned());
                let below = layers.iter().map(|layer| Quoted(layer).to_string());
                let all: Vec<String> = top.into_iter().chain(below).collect();
                write!(f, "{} -> {at}", all.join(" over "))
            }
            Self::RootDirectory(path) => write!(f, "root {} as it is", Quoted(path)),
            Self::Bind { source, recursive, target, changes, .. } => {
                let kind = if *recursive { "rbind" } else { "bind" };
                write!(f, "{kind} {source} -> {target}{}", Changes(changes))
            }
            Self::Mount { filesystem, target, changes } => {
                write!(f, "{filesystem} -> {target}")?;
                write!(f, "{}", Words(&words(filesystem.attributes, &filesystem.settings)))?;
                write!(f, "{}", Changes(changes))
            }
            Self::Overlay { overlay, target, changes } => {
                let layers: Vec<String> = overlay.layers.iter().map(Layer::to_string).collect();
                write!(f, "overlay of {} -> {target}", layers.join(" over "))?;
                write!(f, "{}", Words(&words(overlay.attributes, &overlay.settings)))?;
                write!(f, "{}", Changes(changes))
            }
            Self::OldMount { fstype, source, flags, data, target, changes } => {
                write!(f, "{} {} -> {target}", fstype.to_string_lossy(), Quoted(source))?;
                write!(f, " flags {flags:#x} {}{}", Quoted(data), Changes(changes))
            }
            Self::Remount { target, settings, changes } => {
                let settings = settings.as_deref().unwrap_or_default();
                write!(f, "remount {target}{}{}", Words(&words(0, settings)), Changes(changes))
            }
            Self::Unmount(target) => write!(f, "unmount {target}"),
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
            Self::BindNode { source, directory, name, device } => {
                write!(f, "bind {device} {} -> {}", Quoted(source), Path(directory, name))
            }
            Self::Console { size, .. } => {
                f.write_str("new terminal -> \"/dev/console\"")?;
                size.map_or(Ok(()), |(rows, columns)| write!(f, " {rows} x {columns}"))
            }
            Self::Terminal { size, .. } => {
                f.write_str("new terminal")?;
                size.map_or(Ok(()), |(rows, columns)| write!(f, " {rows} x {columns}"))
            }
            Self::Hide(path) => write!(f, "hide {}", Quoted(path)),
            Self::Pivot => f.write_str("pivot_root, and let go of the old root"),
            Self::Chroot { .. } => f.write_str("chroot"),
            Self::ReadOnlyMount(path) => write!(f, "mount {} becomes read-only", Quoted(path)),
            Self::Mask(path) => write!(f, "mask {}", Quoted(path)),
            Self::ReadOnlyPath(path) => write!(f, "{} becomes read-only", Quoted(path)),
            Self::ReadOnlyRoot => f.write_str("the root becomes read-only"),
            Self::Propagate { propagation, recursive } => {
                write!(f, "the root{} becomes {propagation}", deep(*recursive))
            }
        }
    }
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

fn deep(recursive: bool) -> &'static str {
    if recursive { " with what is below" } else { "" }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => Quoted(path).fmt(f),
            Self::Slot(slot) => write!(f, "slot {slot}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => Quoted(path).fmt(f),
            Self::OverRoot => f.write_str("over \"/\""),
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
        if self.copy_up { f.write_str(" with a copy of what is there") } else { Ok(()) }
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

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Slave => "slave",
            Self::Private => "private",
            Self::Unbindable => "unbindable",
        })
    }
}

impl fmt::Display for Setting {
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
struct Words<'a>(&'a [String]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " {}", self.0.join(",")) }
    }
}

struct Changes<'a>(&'a [Change]);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.0 {
            let mut words = attribute_words(change.set, change.clear);
            words.extend(change.propagation.map(|propagation| propagation.to_string()));
            let recursive = if change.recursive { "r" } else { "" };
            let words: Vec<String> =
                words.iter().map(|word| format!("{recursive}{word}")).collect();
            Words(&words).fmt(f)?;
        }
        Ok(())
    }
}

fn words(attributes: u64, settings: &[Setting]) -> Vec<String> {
    let mut words = attribute_words(attributes, 0);
    words.extend(settings.iter().map(Setting::to_string));
    words
}

/// Attributes in the words of an option list.
fn attribute_words(set: u64, clear: u64) -> Vec<String> {
    let mut words = Vec::new();
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
            words.push(on.to_owned());
        } else if clear & attr.bits() != 0 {
            words.push(off.to_owned());
        }
    }
    let atime = Attr::from_bits(set & Attr::ATIME.bits());
    if atime == Attr::NOATIME {
        words.push("noatime".to_owned());
    } else if atime == Attr::STRICTATIME {
        words.push("strictatime".to_owned());
    } else if clear & Attr::ATIME.bits() != 0 {
        words.push("relatime".to_owned());
    }
    words
}
