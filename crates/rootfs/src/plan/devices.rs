//! Device nodes, and the links that every `/dev` has.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::{Planner, clean, split, string};
use crate::Error;
use crate::op::{Action, Device, Op, Rule, Target};
use crate::origin::{Field, Subject};

/// What the specification wants in every container: name, major, minor.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in every `/dev`; `ptmx` is the only one that may not stay what the image has.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

const LARGEST_MAJOR: u32 = (1 << 12) - 1;
const LARGEST_MINOR: u32 = (1 << 20) - 1;

/// One node to be made.
struct Node {
    field: Field,
    path: String,
    device: Device,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Planner<'_> {
    pub(super) fn devices(&mut self) -> Result<(), Error> {
        // The host's own /dev, mounted over the container's: it is complete, and not ours.
        if self.host_dev_is_mounted() {
            return Ok(());
        }
        let linux = self.spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.devices().as_ref());
        let listed: Vec<Node> =
            listed.into_iter().flatten().enumerate().map(node).collect::<Result<_, _>>()?;
        let defaults = DEFAULT.iter().filter(|(path, ..)| listed.iter().all(|n| n.path != *path));
        for (path, major, minor) in defaults {
            let device = Device::Character(*major, *minor);
            let path = (*path).to_owned();
            let field = Field::from("default device");
            self.device(&Node { field, path, device, mode: 0o666, uid: 0, gid: 0 })?;
        }
        listed.iter().try_for_each(|node| self.device(node))?;
        LINKS.iter().try_for_each(|(name, points_to)| self.link(name, points_to))
    }

    fn host_dev_is_mounted(&self) -> bool {
        self.spec.mounts().iter().flatten().any(|mount| {
            let binds = |option: &String| option == "bind" || option == "rbind";
            let bind = mount.typ().as_deref() == Some("bind")
                || mount.options().iter().flatten().any(binds);
            bind && clean(&mount.destination().to_string_lossy()) == "/dev"
        })
    }

    fn device(&mut self, node: &Node) -> Result<(), Error> {
        let (directory, name) = split(&node.path);
        let directory = directory_target(node.field, directory)?;
        let name = string(node.field, name)?;
        let device = node.device;
        // mknod(2) in a user namespace is EPERM, but for FIFOs.
        let action = if self.host.user_namespace && device != Device::Fifo {
            if !self.own_mounts {
                return Err(Error::NoMountNamespace { field: node.field.into() });
            }
            let source = string(node.field, node.path.as_str())?;
            Action::BindNode { source, directory, name, device }
        } else {
            let Node { mode, uid, gid, .. } = *node;
            Action::Node { directory, name, device, mode, uid, gid }
        };
        self.build.push(Op::new(node.field, Subject::Path(node.path.clone()), action));
        Ok(())
    }

    fn link(&mut self, name: &str, points_to: &str) -> Result<(), Error> {
        let field = Field::from("default");
        let action = Action::Symlink {
            directory: directory_target(field, "/dev")?,
            name: string(field, name)?,
            points_to: string(field, points_to)?,
            replace: name == "ptmx",
        };
        self.build.push(Op::new(field, Subject::Path(["/dev/", name].concat()), action));
        Ok(())
    }
}

fn node((index, device): (usize, &LinuxDevice)) -> Result<Node, Error> {
    let field = Field::entry("linux.devices", index);
    let path = device.path().to_string_lossy();
    if !path.starts_with('/') || clean(&path) == "/" {
        return Err(Error::invalid(
            field.member("path"),
            path,
            "must be an absolute path of a file",
        ));
    }
    let major = || number(field, "major", device.major(), LARGEST_MAJOR);
    let minor = || number(field, "minor", device.minor(), LARGEST_MINOR);
    // Both are required but for a FIFO; the library gives 0 for what is not there.
    let numbered = !matches!(device.typ(), LinuxDeviceType::P | LinuxDeviceType::A);
    if numbered && (device.major(), device.minor()) == (0, 0) {
        return Err(Error::missing(field.member("major")));
    }
    // Some engines leave the bits of the file type in.
    let mode = match device.file_mode() {
        Some(mode) if mode > 0o177_777 => {
            return Err(Error::invalid(
                field.member("fileMode"),
                mode.to_string(),
                "is no mode of a file",
            ));
        }
        mode => mode.unwrap_or(0o666) & 0o7777,
    };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => Device::Character(major()?, minor()?),
        LinuxDeviceType::B => Device::Block(major()?, minor()?),
        LinuxDeviceType::P => Device::Fifo,
        LinuxDeviceType::A => {
            return Err(Error::invalid(field.member("type"), "a", "must be c, b, u or p"));
        }
    };
    let owner = |name: &'static str, id: Option<u32>| match id {
        // -1 means "leave it" to chown(2).
        Some(u32::MAX) => Err(Error::invalid(field.member(name), "4294967295", "is no valid id")),
        id => Ok(id.unwrap_or(0)),
    };
    Ok(Node {
        path: clean(&path),
        device: kind,
        mode,
        uid: owner("uid", device.uid())?,
        gid: owner("gid", device.gid())?,
        field,
    })
}

/// A `/dev` that is a link would put the nodes somewhere else (CVE-2026-41579).
fn directory_target(field: Field, path: &str) -> Result<Target, Error> {
    let in_dev = path == "/dev" || path.starts_with("/dev/");
    let rule = if in_dev { Rule::NoLinks } else { Rule::OutsideProc };
    Ok(Target { path: string(field, path)?, rule })
}

fn number(field: Field, name: &'static str, value: i64, largest: u32) -> Result<u32, Error> {
    let number = u32::try_from(value).ok().filter(|number| *number <= largest);
    number
        .ok_or_else(|| Error::invalid(field.member(name), value.to_string(), "is no device number"))
}
