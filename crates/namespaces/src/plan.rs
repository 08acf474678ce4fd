//! Which namespaces the first process is born into, which it joins, and how many processes it takes.
//!
//! The rule. A process cannot move itself into a pid namespace or into a new time namespace: that
//! takes effect in its children. And a new namespace belongs to the user namespace in which its
//! maker is, so whoever joins or makes a user namespace after birth makes the others after that.
//! So the first process is born straight into all its new namespaces, and is the container's init,
//! unless one of these holds ([`needs_second_process`]):
//!
//! | the container ... | because |
//! |---|---|
//! | joins a pid namespace | setns(2) moves only children |
//! | has a new time namespace | unshare(2) moves only children; clone3(2) would freeze the offsets |
//! | has a new pid namespace, and its user namespace comes after birth | the pid namespace must belong to it |
//!
//! The user namespace comes after birth where it is joined, or where it is new and other
//! namespaces are joined: those belong to the user namespace outside, and joining them takes
//! rights there, which are gone once inside.

use std::collections::HashMap;
use std::ffi::CString;

use oci_spec::runtime::{LinuxTimeOffset, Spec};
use sys::clone::CAN_VFORK;

use crate::id_maps::{IdMaps, Writer, check, maps_root};
use crate::net_devices::{self, Device, Move};
use crate::{Error, Kind, Op, sysctl};

/// What the planner must know of the machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// The namespaces to join, already opened and their types checked, in the order of the list.
    pub joined: Vec<Joined>,
    /// The devices that `linux.netDevices` names.
    pub net_devices: Vec<Device>,
    /// Who can write id maps.
    pub map_writer: Writer,
}

/// A namespace given by path.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its kind.
    pub kind: Kind,
    /// The slot that holds its descriptor.
    pub slot: u16,
    /// Whether it belongs to the user namespace that the runtime itself is in.
    pub belongs_to_ours: bool,
}

/// The way into the container's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Namespaces that the first process is born into.
    pub born: Vec<Kind>,
    /// What the first process does before it executes the init program.
    pub launch: Vec<Op>,
    /// What init does first; it may end in a second process.
    pub enter: Vec<Op>,
    /// What is set up inside once all namespaces are there.
    pub configure: Vec<Op>,
    /// The network devices that the runtime moves when `configure` asks for them.
    pub moves: Vec<Move>,
    /// The maps to write for a new user namespace.
    pub id_maps: Option<IdMaps>,
}

/// The namespaces of a container: which are its own, new or joined.
struct Wanted {
    new: Vec<Kind>,
    joined: Vec<(Joined, String)>,
}

impl Wanted {
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

    /// Whether the container's user namespace is entered only after the first process's birth.
    fn user_comes_late(&self) -> bool {
        self.joins(Kind::User) || (self.is_new(Kind::User) && !self.joined.is_empty())
    }

    /// The new ones that a process can enter by itself with unshare(2).
    fn unshared(&self) -> Vec<Kind> {
        let later = [Kind::User, Kind::Pid, Kind::Time, Kind::Cgroup];
        self.new.iter().copied().filter(|kind| !later.contains(kind)).collect()
    }
}

/// The rule of this module, as its table says it.
const fn needs_second_process(
    joins_pid: bool,
    new_time: bool,
    new_pid: bool,
    user_comes_late: bool,
) -> bool {
    joins_pid || new_time || (new_pid && user_comes_late)
}

/// Plans the namespaces of a new container (config-linux.md, "Namespaces" and what follows it).
///
/// # Errors
/// A field that cannot be applied.
pub fn plan(spec: &Spec, host: &Host) -> Result<Plan, Error> {
    let wanted = Wanted::of(spec, host)?;
    let offsets = time_offsets(spec, &wanted)?;
    let id_maps = id_maps(spec, host, &wanted)?;
    let late = wanted.user_comes_late();
    let new_pid = wanted.is_new(Kind::Pid);
    let second =
        needs_second_process(wanted.joins(Kind::Pid), wanted.is_new(Kind::Time), new_pid, late);
    let mut plan = Plan { id_maps, ..Plan::default() };
    if late {
        plan.launch = launch_late(&wanted);
        plan.enter = enter_late(&wanted, offsets);
    } else {
        plan.born = wanted.unshared();
        if wanted.is_new(Kind::User) {
            plan.born.insert(0, Kind::User);
            plan.launch = vec![Op::AwaitIdMaps, Op::BecomeRoot];
        }
        if new_pid && !second {
            plan.born.push(Kind::Pid);
        }
        plan.enter = wanted.joined.iter().map(join).collect();
        plan.enter.extend(new_time(&wanted, offsets));
    }
    if second {
        plan.enter.push(Op::Fork(if new_pid { vec![Kind::Pid] } else { Vec::new() }));
    }
    let devices = net_devices::plan(spec, &host.net_devices, wanted.has(Kind::Network))?;
    let (moves, devices) = devices.into_iter().unzip();
    plan.moves = moves;
    plan.configure = configure(spec, &wanted, devices)?;
    Ok(plan)
}

fn join((joined, origin): &(Joined, String)) -> Op {
    Op::Join { kind: joined.kind, slot: joined.slot, origin: origin.clone() }
}

fn new_time(wanted: &Wanted, offsets: Option<Op>) -> Vec<Op> {
    let new = wanted.is_new(Kind::Time).then(|| Op::Unshare(vec![Kind::Time]));
    new.into_iter().chain(offsets).collect()
}

/// A new user namespace beside joined ones: join first, with the rights of outside. The exec comes
/// after the maps, or it would cost the process its new capabilities (user_namespaces(7)).
fn launch_late(wanted: &Wanted) -> Vec<Op> {
    if wanted.joins(Kind::User) {
        return Vec::new();
    }
    let mut ops: Vec<Op> = wanted.joined.iter().map(join).collect();
    ops.extend([Op::Unshare(vec![Kind::User]), Op::AwaitIdMaps, Op::BecomeRoot]);
    ops
}

fn enter_late(wanted: &Wanted, offsets: Option<Op>) -> Vec<Op> {
    let mut ops = Vec::new();
    if wanted.joins(Kind::User) {
        let (ours, theirs): (Vec<_>, Vec<_>) = wanted
            .joined
            .iter()
            .filter(|(joined, _)| joined.kind != Kind::User)
            .partition(|(joined, _)| joined.belongs_to_ours);
        let user = wanted.joined.iter().filter(|(joined, _)| joined.kind == Kind::User);
        ops.extend(ours.into_iter().map(join));
        // The offsets' file belongs to the user namespace of this process's exec (proc(5)).
        ops.extend(new_time(wanted, offsets));
        ops.extend(user.map(join));
        ops.push(Op::BecomeRoot);
        ops.extend(theirs.into_iter().map(join));
    } else {
        ops.extend(new_time(wanted, offsets));
    }
    let unshared = wanted.unshared();
    if !unshared.is_empty() {
        ops.push(Op::Unshare(unshared));
    }
    ops
}

fn id_maps(spec: &Spec, host: &Host, wanted: &Wanted) -> Result<Option<IdMaps>, Error> {
    const UIDS: &str = "linux.uidMappings";
    const GIDS: &str = "linux.gidMappings";
    let linux = spec.linux().as_ref();
    let uids = check(UIDS, linux.and_then(|linux| linux.uid_mappings().as_ref()))?;
    let gids = check(GIDS, linux.and_then(|linux| linux.gid_mappings().as_ref()))?;
    if wanted.joins(Kind::User) {
        // Engines repeat the mappings of the namespace they pass; it has them already.
        return Ok(None);
    }
    if !wanted.is_new(Kind::User) {
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

fn time_offsets(spec: &Spec, wanted: &Wanted) -> Result<Option<Op>, Error> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let Some(offsets) = offsets.filter(|offsets| !offsets.is_empty()) else { return Ok(None) };
    if wanted.joins(Kind::Time) {
        return Err(Error::TimeOffsetsOfJoined);
    }
    if !wanted.is_new(Kind::Time) {
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

fn configure(spec: &Spec, wanted: &Wanted, devices: Vec<Op>) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    if wanted.is_new(Kind::Cgroup) {
        // Made once the process is in its cgroup, which becomes the namespace's root.
        ops.push(Op::Unshare(vec![Kind::Cgroup]));
    }
    if wanted.is_new(Kind::Network) {
        ops.push(Op::LoopbackUp);
    }
    // Before the parameters, which may be a device's.
    ops.extend(devices);
    let uts = |field: &str| match wanted.has(Kind::Uts) {
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
    for (name, value) in sysctls {
        ops.push(sysctl::plan(name, value, |kind| wanted.has(kind))?);
    }
    Ok(ops)
}

/// The kernel keeps 64 bytes (sethostname(2)).
fn checked_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    let text = |reason| Error::Text { field: field.to_owned(), reason };
    match name {
        name if name.len() > 64 => Err(text("is longer than 64 bytes")),
        name if name.contains('\0') => Err(text("contains a NUL byte")),
        name => Ok(name),
    }
}

/// Plans the way into the namespaces of a running container's process, for `exec`.
///
/// `kinds` are those in which it differs from the runtime. A pid namespace takes a second process.
#[must_use]
pub fn join_running(kinds: &[Kind], pidfd_slot: u16) -> Vec<Op> {
    let flags = kinds.iter().fold(0, |flags, kind| flags | kind.flag());
    let mut ops = Vec::new();
    if flags != 0 {
        ops.push(Op::JoinProcess { slot: pidfd_slot, flags });
    }
    if kinds.contains(&Kind::User) {
        ops.push(Op::BecomeRoot);
    }
    if kinds.contains(&Kind::Pid) {
        // It executes at once: nothing is gained by memory of its own.
        ops.push(if CAN_VFORK { Op::Vfork } else { Op::Fork(Vec::new()) });
    }
    ops
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(linux: Value) -> Spec {
        serde_json::from_value(json!({ "ociVersion": "1.3.0", "linux": linux })).unwrap()
    }

    fn host(joined: &[(Kind, bool)]) -> Host {
        let joined = joined.iter().enumerate().map(|(slot, (kind, belongs_to_ours))| Joined {
            kind: *kind,
            slot: slot as u16,
            belongs_to_ours: *belongs_to_ours,
        });
        Host { joined: joined.collect(), net_devices: Vec::new(), map_writer: Writer::Runtime }
    }

    fn new(kind: &str) -> Value {
        json!({ "type": kind })
    }

    fn by_path(kind: &str) -> Value {
        json!({ "type": kind, "path": "/proc/1/ns/x" })
    }

    fn story(plan: &Plan) -> String {
        let born: Vec<_> = match plan.born.as_slice() {
            [] => vec!["-"],
            born => born.iter().map(|kind| kind.name()).collect(),
        };
        let ops = |ops: &[Op]| match ops {
            [] => "-".to_owned(),
            ops => ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        };
        format!(
            "born: {}\nlaunch: {}\nenter: {}\nconfigure: {}",
            born.join(" "),
            ops(&plan.launch),
            ops(&plan.enter),
            ops(&plan.configure)
        )
    }

    fn maps() -> Value {
        json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }])
    }

    #[test]
    fn the_rule_of_the_second_process() {
        for (joins_pid, new_time, new_pid, late, second) in [
            (false, false, false, false, false),
            (false, false, false, true, false),
            (false, false, true, false, false),
            (false, false, true, true, true),
            (false, true, false, false, true),
            (false, true, false, true, true),
            (false, true, true, false, true),
            (false, true, true, true, true),
            (true, false, false, false, true),
            (true, false, false, true, true),
            (true, true, false, false, true),
            (true, true, false, true, true),
        ] {
            let needs = needs_second_process(joins_pid, new_time, new_pid, late);
            assert_eq!(needs, second, "{joins_pid} {new_time} {new_pid} {late}");
        }
    }

    #[test]
    fn an_ordinary_container_is_born_into_everything() {
        let list = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(new);
        let plan = plan(&spec(json!({ "namespaces": list })), &host(&[])).unwrap();
        insta::assert_snapshot!(story(&plan), @r"
        born: network ipc uts mount pid
        launch: -
        enter: -
        configure: new namespaces: cgroup; loopback up
        ");
    }

    #[test]
    fn a_new_user_namespace_is_mapped_before_the_exec() {
        let linux = json!({
            "namespaces": [new("user"), new("pid"), new("mount")],
            "uidMappings": maps(), "gidMappings": maps(),
        });
        let plan = plan(&spec(linux), &host(&[])).unwrap();
        insta::assert_snapshot!(story(&plan), @r"
        born: user mount pid
        launch: wait for the id maps of the user namespace; become root of the user namespace
        enter: -
        configure: -
        ");
        assert!(plan.id_maps.is_some());
    }

    #[test]
    fn joined_namespaces_of_outside_come_before_a_new_user_namespace() {
        let linux = json!({
            "namespaces": [new("user"), new("pid"), new("mount"), by_path("network")],
            "uidMappings": maps(), "gidMappings": maps(),
        });
        let plan = plan(&spec(linux), &host(&[(Kind::Network, true)])).unwrap();
        insta::assert_snapshot!(story(&plan), @r#"
        born: -
        launch: linux.namespaces[3].path "/proc/1/ns/x": join the network namespace; new namespaces: user; wait for the id maps of the user namespace; become root of the user namespace
        enter: new namespaces: mount; go on in a second process, new namespaces: pid
        configure: -
        "#);
    }

    #[test]
    fn a_joined_user_namespace_owns_what_is_made_after_it() {
        let list = [by_path("user"), by_path("network"), by_path("ipc"), new("pid"), new("mount")];
        let joined = [(Kind::User, true), (Kind::Network, true), (Kind::Ipc, false)];
        let plan = plan(&spec(json!({ "namespaces": list })), &host(&joined)).unwrap();
        insta::assert_snapshot!(story(&plan), @r#"
        born: -
        launch: -
        enter: linux.namespaces[1].path "/proc/1/ns/x": join the network namespace; linux.namespaces[0].path "/proc/1/ns/x": join the user namespace; become root of the user namespace; linux.namespaces[2].path "/proc/1/ns/x": join the ipc namespace; new namespaces: mount; go on in a second process, new namespaces: pid
        configure: -
        "#);
    }

    #[test]
    fn new_clocks_take_a_second_process_which_is_the_first_of_the_pid_namespace() {
        let linux = json!({
            "namespaces": [new("time"), new("pid"), new("mount")],
            "timeOffsets": { "monotonic": { "secs": 5 }, "boottime": { "secs": -1, "nanosecs": 3 } },
        });
        let plan = plan(&spec(linux), &host(&[])).unwrap();
        insta::assert_snapshot!(story(&plan), @r"
        born: mount
        launch: -
        enter: new namespaces: time; linux.timeOffsets: boottime -1 3, monotonic 5 0; go on in a second process, new namespaces: pid
        configure: -
        ");
    }

    #[test]
    fn bad_fields_are_named() {
        let uts = json!([new("uts")]);
        for (spec, expected) in [
            (json!({ "linux": { "namespaces": [new("pid"), new("pid")] } }), "linux.namespaces[1]"),
            (
                json!({ "linux": { "namespaces": [{ "type": "pid", "path": "x" }] } }),
                "linux.namespaces[0].path: \"x\" is not an absolute path",
            ),
            (json!({ "hostname": "x" }), "hostname: needs a uts namespace"),
            (json!({ "linux": { "namespaces": [new("user")] } }), "linux.uidMappings: a new user"),
            (json!({ "linux": { "uidMappings": maps() } }), "linux.uidMappings: needs a user"),
            (
                json!({ "linux": { "timeOffsets": { "monotonic": { "secs": 1 } } } }),
                "linux.timeOffsets: needs a time namespace",
            ),
            (
                json!({ "hostname": "x".repeat(65), "linux": { "namespaces": uts } }),
                "hostname: is longer than 64 bytes",
            ),
        ] {
            let mut whole = json!({ "ociVersion": "1.3.0" });
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let error = plan(&serde_json::from_value(whole).unwrap(), &host(&[])).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn exec_forks_only_for_a_pid_namespace() {
        assert_eq!(join_running(&[], 0), []);
        let flags = Kind::Mount.flag();
        assert_eq!(join_running(&[Kind::Mount], 7), [Op::JoinProcess { slot: 7, flags }]);
        assert_eq!(join_running(&[Kind::Pid], 7).last(), Some(&Op::Vfork));
    }
}
