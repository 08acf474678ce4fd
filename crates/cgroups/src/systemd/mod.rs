//! The systemd driver: the cgroup of a container is that of a transient unit, which systemd makes
//! and knows of. What it costs is paid by who asks for it: nothing here runs otherwise.
//!
//! ```text
//! Systemd::discover    which systemd answers, its version, where its cgroup is     (asks, changes nothing)
//! unit                 cgroupsPath, annotations, planned files -> the unit          (pure)
//! Op::StartUnit        StartTransientUnit around a process that waits for it
//! Op::SetProperties    what an update changes
//! Unit::stop           before a cgroup is removed
//! ```

mod address;
mod annotation;
mod connection;
mod manager;
mod message;
mod name;
mod property;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use address::{Bus, Socket};
pub use annotation::PREFIX as ANNOTATION;
pub use property::Property;
pub use value::Value;

use crate::plan::Request;
use crate::{Current, Error, Fault, Layout, Op};
use address::Surroundings;
pub(crate) use connection::Trouble;
use manager::Manager;

/// How long systemd may take for one request, whatever it consists of.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long systemd may be away: it executes itself anew when its package is upgraded.
const ABSENCE: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_millis(50);

/// The systemd of this host, or of this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Systemd {
    /// Where it answers.
    pub bus: Bus,
    /// Its version.
    pub version: u32,
    /// Its own cgroup, as a path below the mount point.
    pub root: PathBuf,
}

/// A container's unit. To be stored with the cgroup's path, before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Where its systemd answers.
    pub bus: Bus,
    /// Its systemd's version.
    pub version: u32,
}

impl Systemd {
    /// Looks for the systemd that this process may ask: the system's for root, the user's for others.
    ///
    /// # Errors
    /// [`Fault::Systemd`]: none answers.
    pub fn discover() -> Result<Self, Fault> {
        let candidates = address::candidates(&surroundings()?);
        ask_again(|| Self::find(&candidates, PATIENCE)).map_err(|trouble| {
            let Trouble { error, said } = trouble;
            Fault::Systemd(if error.call == NOBODY {
                said
            } else {
                Trouble { error, said }.to_string()
            })
        })
    }

    fn find(candidates: &[Bus], patience: Duration) -> Result<Self, Trouble> {
        let deadline = Instant::now() + patience;
        let mut refused = Vec::new();
        let mut errno = Errno::ENOTCONN;
        for bus in candidates {
            match Manager::open(bus, deadline).and_then(|mut manager| manager.facts()) {
                Ok((version, root)) => {
                    let root = PathBuf::from(root.trim_start_matches('/'));
                    return Ok(Self { bus: bus.clone(), version, root });
                }
                // A systemd that is there and silent is not looked for elsewhere.
                Err(trouble) if trouble.error.errno == Errno::ETIMEDOUT => return Err(trouble),
                Err(trouble) => {
                    if trouble.is_break() {
                        errno = trouble.error.errno;
                    }
                    refused.push(match trouble.error.call {
                        "connect" => format!("{bus}: {}", sys::words(trouble.error.errno)),
                        _ => format!("{bus}: {trouble}"),
                    });
                }
            }
        }
        let said = format!("nobody to ask ({})", refused.join("; "));
        Err(Trouble::new(NOBODY, errno, said))
    }
}

/// The call of a [`Trouble`] that is one with all candidates.
const NOBODY: &str = "discover";

/// Asks once more when the conversation breaks, for as long as systemd may be away.
fn ask_again<T>(mut ask: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let give_up = Instant::now() + ABSENCE;
    loop {
        match ask() {
            Err(trouble) if trouble.is_break() && Instant::now() < give_up => {
                std::thread::sleep(INTERVAL);
            }
            answer => return answer,
        }
    }
}

fn surroundings() -> Result<Surroundings, Fault> {
    let path = "/proc/self/uid_map";
    let map = crate::file::read_path(Path::new(path)).map_err(Fault::at(path))?;
    let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let uid = nix::unistd::geteuid().as_raw();
    Ok(Surroundings {
        root: uid == 0,
        in_user_namespace: !map.split_ascii_whitespace().eq(["0", "0", "4294967295"]),
        uid: outside(&map, uid),
        system_address: text("DBUS_SYSTEM_BUS_ADDRESS"),
        session_address: text("DBUS_SESSION_BUS_ADDRESS"),
        runtime_directory: text("XDG_RUNTIME_DIR").map(PathBuf::from),
    })
}

/// The uid that is `inside` by this map (user_namespaces(7)), in the namespace above.
fn outside(map: &str, inside: u32) -> u32 {
    let lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map_while(|word| word.parse::<u32>().ok());
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    });
    let mut found = lines.filter_map(|(first, above, count)| {
        let offset = inside.checked_sub(first).filter(|offset| *offset < count)?;
        above.checked_add(offset)
    });
    found.next().unwrap_or(inside)
}

/// Where the unit's cgroup will be, below the mount point.
pub(crate) fn path(request: &Request<'_>, systemd: &Systemd) -> Result<PathBuf, Error> {
    Ok(systemd.root.join(name::named(request.path, request.id, systemd.bus.user)?.path))
}

/// The step that makes the unit; `limits` are the files that are going to be written in its cgroup.
pub(crate) fn start(
    request: &Request<'_>,
    systemd: &Systemd,
    layout: &Layout,
    limits: &[Op],
) -> Result<Op, Error> {
    let named = name::named(request.path, request.id, systemd.bus.user)?;
    let (Some(tree), []) = (&layout.unified, layout.hierarchies.as_slice()) else {
        let reason = "the systemd cgroup driver needs a host with cgroup v2 alone";
        return Err(Error::value("linux.cgroupsPath", reason));
    };
    let mut properties = vec![Property::new(
        "Description",
        Value::String(format!("davit container {}", request.id)),
    )];
    let mut ours = if named.unit.ends_with(".slice") {
        let above = Value::Array("s".to_owned(), vec![Value::String(named.slice)]);
        vec![Property::new("Wants", above)]
    } else {
        let slice = Property::new("Slice", Value::String(named.slice));
        vec![slice, Property::new("Delegate", Value::Bool(true))]
    };
    for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        ours.push(Property::new(name, Value::Bool(true)));
    }
    properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
    ours.extend(property::of_limits(limits, systemd.version, None));
    for asked in annotation::properties(request.annotations)? {
        if ours.iter().any(|property| property.name == asked.name) || asked.name == "PIDs" {
            let reason = "is set from the rest of config.json";
            return Err(Error::value(annotation::field(&asked.name), reason));
        }
        properties.retain(|property| property.name != asked.name);
        properties.push(asked);
    }
    ours.append(&mut properties);
    let unit = Unit { name: named.unit, bus: systemd.bus.clone(), version: systemd.version };
    let path = systemd.root.join(named.path);
    Ok(Op::StartUnit { mountpoint: tree.mountpoint.clone(), path, unit, properties: ours })
}

/// The same files, and systemd told of them in between: before, the kernel judges the values, each
/// with its field; after, what systemd has rounded is exact again.
pub(crate) fn update(limits: Vec<Op>, unit: &Unit, current: Current) -> Vec<Op> {
    let properties = property::of_limits(&limits, unit.version, current.period);
    if properties.is_empty() {
        return limits;
    }
    let is_write = |op: &&Op| matches!(op, Op::Write { .. });
    let again: Vec<Op> = limits.iter().filter(is_write).cloned().collect();
    let tell = Op::SetProperties { unit: unit.clone(), properties };
    limits.into_iter().chain([tell]).chain(again).collect()
}

impl Unit {
    /// Makes it, around this process. Where the answer was lost, `is_made` says whether it was yes.
    pub(crate) fn start(
        &self,
        properties: &[Property],
        pid: i32,
        is_made: impl Fn() -> bool,
    ) -> Result<(), Trouble> {
        let mut asked = false;
        ask_again(|| match std::mem::replace(&mut asked, true) && is_made() {
            true => Ok(()),
            false => self.start_within(properties, pid, PATIENCE),
        })
    }

    fn start_within(
        &self,
        properties: &[Property],
        pid: i32,
        patience: Duration,
    ) -> Result<(), Trouble> {
        let mut properties = properties.to_vec();
        if !self.is_slice() {
            let pids = vec![Value::U32(pid.cast_unsigned())];
            properties.push(Property::new("PIDs", Value::Array("u".to_owned(), pids)));
        }
        let mut manager = Manager::open(&self.bus, Instant::now() + patience)?;
        manager.start(&self.bus, &self.name, properties)
    }

    /// Whether it is a slice: then no process is put into it for us.
    pub(crate) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Changes properties.
    pub(crate) fn set(&self, properties: &[Property]) -> Result<(), Trouble> {
        ask_again(|| {
            let mut manager = Manager::open(&self.bus, Instant::now() + PATIENCE)?;
            manager.set(&self.name, properties.to_vec())
        })
    }

    /// Ends it, if its cgroup is that at `path`. One that is not there has ended. A systemd that
    /// executes itself anew is waited for: it would take a cgroup that is removed meanwhile for one that
    /// it has yet to make.
    pub(crate) fn stop(&self, path: &Path, deadline: Instant) -> Result<(), Trouble> {
        ask_again(|| Manager::open(&self.bus, deadline)?.stop(&self.bus, &self.name, path))
    }
}
