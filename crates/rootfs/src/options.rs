//! The options of one mount: the table of the specification (config.md, "Linux mount options").

use davit_sys::mount::Attr;
use oci_spec::runtime::Mount;

use crate::Propagation;

/// Options of a superblock that are the same for every file system.
pub(crate) const SYNC: u8 = 1;
pub(crate) const DIRSYNC: u8 = 2;
pub(crate) const MAND: u8 = 4;
pub(crate) const LAZYTIME: u8 = 8;
/// These two have no name in fsconfig(2): mount(2) must set them.
pub(crate) const IVERSION: u8 = 16;
pub(crate) const SILENT: u8 = 32;

/// All options of one mount, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) plain: Attributes,
    /// Attributes of the mount and all below it.
    pub(crate) recursive: Attributes,
    /// [`SYNC`] and so on, and the index of the option that set one last.
    pub(crate) superblock: u8,
    pub(crate) superblock_at: Option<usize>,
    /// `bind` is false, `rbind` is true.
    pub(crate) bind: Option<bool>,
    pub(crate) remount: bool,
    /// The propagation, and whether it is for the mounts below too.
    pub(crate) propagation: Option<(Propagation, bool)>,
    pub(crate) copy_up: bool,
    /// `idmap` (false) or `ridmap` (true, with the mounts below).
    pub(crate) idmap: Option<bool>,
    /// The maps that such an option names, with its index in `options`: `idmap=uids=...;gids=...`.
    pub(crate) id_maps: Option<(usize, String)>,
    /// Options for the file system, each with its index in `options`.
    pub(crate) data: Vec<(usize, String)>,
}

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Attributes {
    fn add(&mut self, edit: Edit) {
        match edit {
            Edit::Set(attr) => {
                self.set |= attr.bits();
                self.clear &= !attr.bits();
            }
            Edit::Clear(attr) => {
                self.set &= !attr.bits();
                self.clear |= attr.bits();
            }
            // All bits of the access time must be cleared to set one of them.
            Edit::Atime(attr) => {
                self.clear |= Attr::ATIME.bits();
                self.set = self.set & !Attr::ATIME.bits() | attr.bits();
            }
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Both, with precedence for `later`.
    pub(crate) fn then(self, later: Self) -> Self {
        Self {
            set: self.set & !later.clear | later.set,
            clear: self.clear & !later.set | later.clear,
        }
    }
}

#[derive(Clone, Copy)]
enum Edit {
    Set(Attr),
    Clear(Attr),
    Atime(Attr),
}

/// An attribute by its name; `r` before the name makes it recursive.
fn edit(name: &str) -> Option<Edit> {
    Some(match name {
        "ro" => Edit::Set(Attr::RDONLY),
        "rw" => Edit::Clear(Attr::RDONLY),
        "nosuid" => Edit::Set(Attr::NOSUID),
        "suid" => Edit::Clear(Attr::NOSUID),
        "nodev" => Edit::Set(Attr::NODEV),
        "dev" => Edit::Clear(Attr::NODEV),
        "noexec" => Edit::Set(Attr::NOEXEC),
        "exec" => Edit::Clear(Attr::NOEXEC),
        "nodiratime" => Edit::Set(Attr::NODIRATIME),
        "diratime" => Edit::Clear(Attr::NODIRATIME),
        "nosymfollow" => Edit::Set(Attr::NOSYMFOLLOW),
        "symfollow" => Edit::Clear(Attr::NOSYMFOLLOW),
        "noatime" => Edit::Atime(Attr::NOATIME),
        "strictatime" => Edit::Atime(Attr::STRICTATIME),
        // Without any of the three, access times are updated as with relatime.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => Edit::Atime(Attr::NONE),
        _ => return None,
    })
}

fn propagation(name: &str) -> Option<Propagation> {
    Some(match name {
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "private" => Propagation::Private,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

/// One of the eight forms of propagation, and whether it is the recursive one.
pub(crate) fn propagation_mode(name: &str) -> Option<(Propagation, bool)> {
    let plain = propagation(name).map(|propagation| (propagation, false));
    let recursive = || Some((propagation(name.strip_prefix('r')?)?, true));
    plain.or_else(recursive)
}

/// `idmap` or `ridmap` (true), and the maps behind the `=`, if any.
pub(crate) fn idmap(option: &str) -> Option<(bool, &str)> {
    let (name, maps) = option.split_once('=').unwrap_or((option, ""));
    match name {
        "idmap" => Some((false, maps)),
        "ridmap" => Some((true, maps)),
        _ => None,
    }
}

fn superblock(name: &str) -> Option<(u8, bool)> {
    Some(match name {
        "sync" => (SYNC, true),
        "async" => (SYNC, false),
        "dirsync" => (DIRSYNC, true),
        "mand" => (MAND, true),
        "nomand" => (MAND, false),
        "lazytime" => (LAZYTIME, true),
        "nolazytime" => (LAZYTIME, false),
        "iversion" => (IVERSION, true),
        "noiversion" => (IVERSION, false),
        "silent" => (SILENT, true),
        "loud" => (SILENT, false),
        _ => return None,
    })
}

impl Options {
    /// Parses the options of a mount. Unknown ones are for the file system.
    pub(crate) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for (index, option) in options.iter().enumerate() {
            parsed.add(index, option);
        }
        parsed
    }

    fn add(&mut self, index: usize, option: &str) {
        match option {
            "" | "defaults" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            _ => match idmap(option) {
                Some((recursive, maps)) => {
                    self.idmap = Some(recursive || self.idmap == Some(true));
                    if !maps.is_empty() {
                        self.id_maps = Some((index, maps.to_owned()));
                    }
                }
                None => self.add_from_tables(index, option),
            },
        }
    }

    fn add_from_tables(&mut self, index: usize, option: &str) {
        // The plain table first, because of "ro" and "rw".
        if let Some(edit) = edit(option) {
            self.plain.add(edit);
        } else if let Some(edit) = option.strip_prefix('r').and_then(edit) {
            self.recursive.add(edit);
        } else if let Some(mode) = propagation_mode(option) {
            self.propagation = Some(mode);
        } else if let Some((flag, on)) = superblock(option) {
            self.superblock = self.superblock & !flag | if on { flag } else { 0 };
            self.superblock_at = if on { Some(index) } else { self.superblock_at };
        } else {
            self.data.push((index, option.to_owned()));
        }
    }

    /// Whether a mount with these options is a bind mount.
    pub(crate) fn is_bind(&self, mount: &Mount) -> bool {
        self.bind.is_some() || mount.typ().as_deref() == Some("bind")
    }

    /// The attributes of a single mount: recursive ones apply to it too.
    pub(crate) fn single(&self) -> Attributes {
        self.plain.then(self.recursive)
    }
}

/// Splits the options of a file system at commas, as mount(2) does: not at commas after a backslash
/// or in double quotes (of an SELinux context), nor before a digit, because of `mpol=bind:0,2` of
/// tmpfs (mm/shmem.c).
pub(crate) fn split_data(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted && !is_digit(text, at + 1) => {
                parts.extend(text.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(begin..));
    parts.retain(|part| !part.is_empty());
    parts
}

fn is_digit(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(u8::is_ascii_digit)
}

/// The names of superblock flags.
pub(crate) fn superblock_names(bits: u8) -> Vec<&'static str> {
    let names = [
        (SYNC, "sync"),
        (DIRSYNC, "dirsync"),
        (MAND, "mand"),
        (LAZYTIME, "lazytime"),
        (IVERSION, "iversion"),
    ];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
}
