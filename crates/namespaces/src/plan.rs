//! Planning: the namespaces that the first process is created in, those that it joins, and whether
//! a second process is needed.
//!
//! The rule. A process cannot move itself into a pid namespace or into a new time namespace: both
//! take effect in its children. And a new namespace is owned by the user namespace of its creator,
//! so a process that joins or creates a user namespace after clone3(2) creates the others after
//! that. So the first process is created in all its new namespaces, and is the container's init,
//! unless one of these holds (`needs_second_process`):
//!
//! | the container ... | because |
//! |---|---|
//! | joins a pid namespace | setns(2) affects only children |
//! | has a new time namespace | unshare(2) affects only children, clone3(2) fixes the offsets |
//! | has a new pid namespace, and enters its user namespace late | it must own that |
//!
//! The user namespace is entered late, after clone3(2), if it is joined, or if it is new and other
//! namespaces are joined: those are owned by the parent user namespace, and joining them takes
//! privileges there, which are lost inside.

use std::collections::HashMap;
use std::ffi::CString;

use davit_sys::clone::CAN_VFORK;
use oci_spec::runtime::{LinuxTimeOffset, Spec};

use crate::id_maps::{IdMaps, MapWriter, check, maps_root};
use crate::net_devices::{self, Device, Move};
use crate::{Error, Kind, Op, sysctl};

/// The facts of the host that planning needs.
#[derive(Clone, Debug)]
pub struct Host {
    /// The namespaces to join, already opened and their types checked, in the order of the list.
    pub joined: Vec<Joined>,
    /// The devices that `linux.netDevices` names.
    pub net_devices: Vec<Device>,
    /// How id maps are written.
    pub map_writer: MapWriter,
}

/// A namespace given by path.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its kind.
    pub kind: Kind,
    /// The slot that holds its descriptor.
    pub slot: u16,
    /// Whether it is owned by the user namespace of the runtime.
    pub owned_by_current_userns: bool,
}

/// The operations for the container's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Namespaces that the first process is created in.
    pub clone_namespaces: Vec<Kind>,
    /// Operations of the first process before it executes the init program.
    pub launch: Vec<Op>,
    /// The first operations of init; the last one may continue in a second process.
    pub enter: Vec<Op>,
    /// Operations once init is in all namespaces.
    pub configure: Vec<Op>,
    /// The network devices that the runtime moves when `configure` asks for them.
    pub moves: Vec<Move>,
    /// The maps to write for a new user namespace.
    pub id_maps: Option<IdMaps>,
}

/// The namespaces of a container, new or joined.
struct Namespaces {
    new: Vec<Kind>,
    joined: Vec<(Joined, String)>,
}

impl Namespaces {
    fn of(spec: &Spec, host: &Host) -> Result<Self, Error> {
        let (mut new, mut joined) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for (index, namespace) in list.into_iter().flatten().enumerate() {
            let kind = Kind::from(namespace.typ());
            if seen.contains(&kind) {
                return Err(Error::Duplicate { index, kind });
            }
            seen.push(kind);
            match namespace.path() {
                None => new.push(kind),
                Some(path) if path.as_os_str().is_empty() => new.push(kind),
                Some(path) if !path.is_absolute() => {
                    let path = path.display().to_string();
                    return Err(Error::RelativePath { index, path });
                }
                Some(path) => {
                    let origin = format!("linux.namespaces[{index}].path {path:?}");
                    let found = host.joined.iter().find(|joined| joined.kind == kind);
                    joined.extend(found.map(|found| (found.clone(), origin)));
                }
            }
        }
        Ok(Self { new, joined })
    }

    fn is_new(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    fn joins(&self, kind: Kind) -> bool {
        self.joined.iter().any(|(joined, _)| joined.kind == kind)
    }

    fn has(&self, kind: Kind) -> bool {
        self.is_new(kind) || self.joins(kind)
    }

    /// Whether the container's user namespace is entered after the first process is created.
    fn enters_userns_late(&self) -> bool {
        self.joins(Kind::User) || (self.is_new(Kind::User) && !self.joined.is_empty())
    }

    /// The new ones that a process enters itself by unshare(2).
    fn unshared(&self) -> Vec<Kind> {
        let later = [Kind::User, Kind::Pid, Kind::Time, Kind::Cgroup];
        self.new.iter().copied().filter(|kind| !later.contains(kind)).collect()
    }
}

/// The rule in the table of this module.
const fn needs_second_process(
    joins_pid: bool,
    new_time: bool,
    new_pid: bool,
    enters_userns_late: bool,
) -> bool {
    joins_pid || new_time || (new_pid && enters_userns_late)
}

/// Plans the namespaces of a new container (config-linux.md, "Namespaces" and the following
/// sections).
///
/// # Errors
/// A field that cannot be applied.
pub fn plan(spec: &Spec, host: &Host) -> Result<Plan, Error> {
    let namespaces = Namespaces::of(spec, host)?;
    let offsets = time_offsets(spec, &namespaces)?;
    let id_maps = id_maps(spec, host, &namespaces)?;
    let late = namespaces.enters_userns_late();
    let new_pid = namespaces.is_new(Kind::Pid);
    let second = needs_second_process(
        namespaces.joins(Kind::Pid),
        namespaces.is_new(Kind::Time),
        new_pid,
        late,
    );
    let mut plan = Plan { id_maps, ..Plan::default() };
    if late {
        plan.launch = launch_late(&namespaces);
        plan.enter = enter_late(&namespaces, offsets);
    } else {
        plan.clone_namespaces = namespaces.unshared();
        if namespaces.is_new(Kind::User) {
            plan.clone_namespaces.insert(0, Kind::User);
            plan.launch = vec![Op::AwaitIdMaps, Op::SetIdsToRoot];
        }
        if new_pid && !second {
            plan.clone_namespaces.push(Kind::Pid);
        }
        plan.enter = namespaces.joined.iter().map(join).collect();
        plan.enter.extend(new_time(&namespaces, offsets));
    }
    if second {
        plan.enter.push(Op::Fork(if new_pid { vec![Kind::Pid] } else { Vec::new() }));
    }
    let devices = net_devices::plan(spec, &host.net_devices, namespaces.has(Kind::Network))?;
    let (moves, devices) = devices.into_iter().unzip();
    plan.moves = moves;
    plan.configure = configure(spec, &namespaces, devices)?;
    Ok(plan)
}

fn join((joined, origin): &(Joined, String)) -> Op {
    Op::Join { kind: joined.kind, slot: joined.slot, origin: origin.clone() }
}

fn new_time(namespaces: &Namespaces, offsets: Option<Op>) -> Vec<Op> {
    let new = namespaces.is_new(Kind::Time).then(|| Op::Unshare(vec![Kind::Time]));
    new.into_iter().chain(offsets).collect()
}

/// A new user namespace with joined other namespaces: those are joined first, with the privileges
/// of the parent user namespace. execve(2) comes after the maps are written, or the process would
/// lose its capabilities in the new one (user_namespaces(7)).
fn launch_late(namespaces: &Namespaces) -> Vec<Op> {
    if namespaces.joins(Kind::User) {
        return Vec::new();
    }
    let mut ops: Vec<Op> = namespaces.joined.iter().map(join).collect();
    ops.extend([Op::Unshare(vec![Kind::User]), Op::AwaitIdMaps, Op::SetIdsToRoot]);
    ops
}

fn enter_late(namespaces: &Namespaces, offsets: Option<Op>) -> Vec<Op> {
    let mut ops = Vec::new();
    if namespaces.joins(Kind::User) {
        let (ours, theirs): (Vec<_>, Vec<_>) = namespaces
            .joined
            .iter()
            .filter(|(joined, _)| joined.kind != Kind::User)
            .partition(|(joined, _)| joined.owned_by_current_userns);
        let user = namespaces.joined.iter().filter(|(joined, _)| joined.kind == Kind::User);
        ops.extend(ours.into_iter().map(join));
        // The file of the offsets belongs to the user namespace of the last execve(2) (proc(5)).
        ops.extend(new_time(namespaces, offsets));
        ops.extend(user.map(join));
        ops.push(Op::SetIdsToRoot);
        ops.extend(theirs.into_iter().map(join));
    } else {
        ops.extend(new_time(namespaces, offsets));
    }
    let unshared = namespaces.unshared();
    if !unshared.is_empty() {
        ops.push(Op::Unshare(unshared));
    }
    ops
}

fn id_maps(spec: &Spec, host: &Host, namespaces: &Namespaces) -> Result<Option<IdMaps>, Error> {
    const UIDS: &str = "linux.uidMappings";
    const GIDS: &str = "linux.gidMappings";
    let linux = spec.linux().as_ref();
    let uids = check(UIDS, linux.and_then(|linux| linux.uid_mappings().as_ref()))?;
    let gids = check(GIDS, linux.and_then(|linux| linux.gid_mappings().as_ref()))?;
    if namespaces.joins(Kind::User) {
        // Engines repeat the mappings of the joined namespace, which has them already.
        return Ok(None);
    }
    if !namespaces.is_new(Kind::User) {
        let unused = [(UIDS, &uids), (GIDS, &gids)].into_iter().find(|(_, list)| !list.is_empty());
        return match unused {
            Some((field, _)) => Err(Error::Needs { field: field.to_owned(), kind: Kind::User }),
            None => Ok(None),
        };
    }
    for (field, list) in [(UIDS, &uids), (GIDS, &gids)] {
        if list.is_empty() {
            return Err(Error::NoMapping(field));
        }
        if !maps_root(list) {
            return Err(Error::RootNotMapped(field));
        }
    }
    Ok(Some(IdMaps { uids, gids, writer: host.map_writer }))
}

fn time_offsets(spec: &Spec, namespaces: &Namespaces) -> Result<Option<Op>, Error> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else { return Ok(None) };
    if namespaces.joins(Kind::Time) {
        return Err(Error::TimeOffsetsOfJoined);
    }
    if !namespaces.is_new(Kind::Time) {
        return Err(Error::Needs { field: "linux.timeOffsets".to_owned(), kind: Kind::Time });
    }
    offset_lines(offsets).map(|text| Some(Op::TimeOffsets(text)))
}

fn offset_lines(offsets: &HashMap<String, LinuxTimeOffset>) -> Result<CString, Error> {
    let mut lines = Vec::new();
    for (clock, offset) in offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(Error::Clock(clock.clone()));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        lines.push(format!("{clock} {seconds} {nanoseconds}\n"));
    }
    lines.sort();
    let nul = |_| Error::Text { field: "linux.timeOffsets".to_owned(), reason: "NUL byte" };
    CString::new(lines.concat()).map_err(nul)
}

fn configure(spec: &Spec, namespaces: &Namespaces, devices: Vec<Op>) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    if namespaces.is_new(Kind::Cgroup) {
        // The root of the namespace is the cgroup that the process is in by now.
        ops.push(Op::Unshare(vec![Kind::Cgroup]));
    }
    if namespaces.is_new(Kind::Network) {
        ops.push(Op::LoopbackUp);
    }
    // Before the kernel parameters, which may be those of a device.
    ops.extend(devices);
    let uts = |field: &str| match namespaces.has(Kind::Uts) {
        true => Ok(()),
        false => Err(Error::Needs { field: field.to_owned(), kind: Kind::Uts }),
    };
    if let Some(name) = spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        uts("hostname")?;
        ops.push(Op::Hostname(checked_name("hostname", name)?.to_owned()));
    }
    if let Some(name) = spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        uts("domainname")?;
        let nul = |_| Error::Text { field: "domainname".to_owned(), reason: "NUL byte" };
        ops.push(Op::Domainname(CString::new(checked_name("domainname", name)?).map_err(nul)?));
    }
    let sysctls = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut sysctls: Vec<_> = sysctls.into_iter().flatten().collect();
    sysctls.sort();
    let has_domainname = ops.iter().any(|op| matches!(op, Op::Domainname(_)));
    for (name, value) in sysctls {
        if has_domainname && sysctl::is_domainname(name) {
            return Err(Error::SysctlDomainname);
        }
        ops.push(sysctl::plan(name, value, |kind| namespaces.has(kind))?);
    }
    Ok(ops)
}

/// The kernel accepts 64 bytes (sethostname(2)).
fn checked_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let text = |reason| Error::Text { field: field.to_owned(), reason };
    match name {
        name if name.len() > 64 => Err(text("is longer than 64 bytes")),
        name if name.contains('\0') => Err(text("contains a NUL byte")),
        name => Ok(name),
    }
}

/// Plans to join the namespaces of a running container's process, for `exec`.
///
/// `kinds` are the namespaces in which it is not with the runtime. A pid namespace takes a second
/// process.
#[must_use]
pub fn join_running(kinds: &[Kind], pidfd_slot: u16) -> Vec<Op> {
    let flags = kinds.iter().fold(0, |flags, kind| flags | kind.flag());
    let mut ops = Vec::new();
    if flags != 0 {
        ops.push(Op::JoinProcess { slot: pidfd_slot, flags });
    }
    if kinds.contains(&Kind::User) {
        ops.push(Op::SetIdsToRoot);
    }
    if kinds.contains(&Kind::Pid) {
        // It executes soon, so it needs no memory of its own.
        ops.push(if CAN_VFORK { Op::Vfork } else { Op::Fork(Vec::new()) });
    }
    ops
}

#[cfg(test)]
mod tests;
