//! Device nodes, and the default symbolic links of `/dev`.

use std::ffi::CString;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::{Planner, clean, split, string};
use crate::Error;
use crate::op::{Action, Device, LookupPolicy, NewNode, Op, Target};
use crate::origin::{Field, Subject};

/// The devices that the specification requires in every container: path, major, minor.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in `/dev`; only `ptmx` replaces an existing file of the image.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// One node to create.
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
        let linux = self.spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.devices().as_ref());
        let listed: Vec<Node> =
            listed.into_iter().flatten().enumerate().map(node).collect::<Result<_, _>>()?;
        let is_ours = |path: &str| !self.is_hosts(path);
        let listed: Vec<Node> = listed.into_iter().filter(|node| is_ours(&node.path)).collect();
        if self.is_hosts("/dev") {
            return self.listed(&listed);
        }
        let defaults = DEFAULT.iter().filter(|(path, ..)| listed.iter().all(|n| n.path != *path));
        for (path, major, minor) in defaults {
            let device = Device::Character(*major, *minor);
            let path = (*path).to_owned();
            let field = Field::from("default device");
            self.device(&Node { field, path, device, mode: 0o666, uid: 0, gid: 0 }, None)?;
        }
        self.listed(&listed)?;
        LINKS.iter().try_for_each(|(name, points_to)| self.link(name, points_to))
    }

    /// Whether a path is in a /dev of the host that is mounted over the container's: nothing is
    /// created there.
    pub(super) fn is_hosts(&self, path: &str) -> bool {
        let in_dev = path == "/dev" || path.starts_with("/dev/");
        in_dev && (self.host_dev_is_mounted() || self.on_devtmpfs("/dev")) || self.on_devtmpfs(path)
    }

    fn host_dev_is_mounted(&self) -> bool {
        self.spec.mounts().iter().flatten().any(|mount| {
            let binds = |option: &String| option == "bind" || option == "rbind";
            let bind = mount.typ().as_deref() == Some("bind")
                || mount.options().iter().flatten().any(binds);
            let remount = mount.options().iter().flatten().any(|option| option == "remount");
            bind && !remount && clean(&mount.destination().to_string_lossy()) == "/dev"
        })
    }

    /// The devices of config.json. In a user namespace the runtime creates the nodes beforehand,
    /// with the configured mode and owner, also those that the host does not have; if it cannot,
    /// the host's nodes are bind mounted.
    fn listed(&mut self, nodes: &[Node]) -> Result<(), Error> {
        let made = nodes.iter().filter(|node| node.device != Device::Fifo);
        let made: Vec<NewNode> = made
            .map(|&Node { device, mode, uid, gid, .. }| {
                let (uid, gid) = self.owner_outside(uid, gid);
                NewNode { device, mode, uid, gid }
            })
            .collect();
        let outside = self.host.user_namespace && self.parent_opens && self.host.makes_nodes;
        if made.is_empty() || !outside || !self.has_mount_namespace {
            return nodes.iter().try_for_each(|node| self.device(node, None));
        }
        const FIELD: &str = "linux.devices";
        let slot = self.new_slot();
        let op = |action| Op::new(FIELD, Subject::Nothing, action);
        self.outside.push(op(Action::MakeNodes { slot, nodes: made }));
        self.build.push(op(Action::AttachNodes { slot }));
        let mut number = 0_usize;
        for node in nodes {
            let name = string(FIELD, number.to_string())?;
            self.device(node, Some((slot, name)))?;
            number += usize::from(node.device != Device::Fifo);
        }
        self.build.push(op(Action::DetachNodes { slot }));
        Ok(())
    }

    fn device(&mut self, node: &Node, made: Option<(u16, CString)>) -> Result<(), Error> {
        let (directory, name) = split(&node.path);
        let directory = directory_target(node.field, directory)?;
        let name = string(node.field, name)?;
        let device = node.device;
        // In a user namespace mknod(2) fails with EPERM, except for FIFOs.
        let action = if self.host.user_namespace && device != Device::Fifo {
            if !self.has_mount_namespace {
                return Err(Error::NoMountNamespace { field: node.field.into() });
            }
            let source = string(node.field, node.path.as_str())?;
            Action::BindNode { made, source, directory, name, device }
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
    let major = || number(field, "major", device.major(), MAX_MAJOR);
    let minor = || number(field, "minor", device.minor(), MAX_MINOR);
    // Both are required, except for a FIFO; oci-spec returns 0 for missing ones.
    let numbered = !matches!(device.typ(), LinuxDeviceType::P | LinuxDeviceType::A);
    if numbered && (device.major(), device.minor()) == (0, 0) {
        return Err(Error::missing(field.member("major")));
    }
    // Some engines include the bits of the file type.
    let mode = match device.file_mode() {
        Some(mode) if mode > 0o177_777 => {
            return Err(Error::invalid(
                field.member("fileMode"),
                mode.to_string(),
                "is not a file mode",
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
        // For chown(2) -1 means "no change".
        Some(u32::MAX) => {
            Err(Error::invalid(field.member(name), "4294967295", "is not a valid id"))
        }
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

/// The directory of a node. With a `/dev` that is a symbolic link, nodes would be created elsewhere
/// (CVE-2026-41579).
fn directory_target(field: Field, path: &str) -> Result<Target, Error> {
    let in_dev = path == "/dev" || path.starts_with("/dev/");
    let policy = if in_dev { LookupPolicy::NoLinks } else { LookupPolicy::OutsideProc };
    Ok(Target { path: string(field, path)?, policy })
}

fn number(field: Field, name: &'static str, value: i64, max: u32) -> Result<u32, Error> {
    let number = u32::try_from(value).ok().filter(|number| *number <= max);
    number.ok_or_else(|| {
        Error::invalid(field.member(name), value.to_string(), "is not a device number")
    })
}
