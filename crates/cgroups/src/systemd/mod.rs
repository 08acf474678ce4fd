//! The systemd driver: the cgroup of a container is that of a transient unit, which systemd
//! creates.
//!
//! ```text
//! Systemd::discover    the manager that answers, its version, its cgroup      (changes nothing)
//! unit                 cgroupsPath, annotations, planned files -> the unit    (pure)
//! Op::StartUnit        StartTransientUnit around a process that waits for it
//! Op::SetProperties    the properties that an update changes
//! Unit::stop           before a cgroup is removed
//! ```

mod address;
mod annotation;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod manager;
mod name;
mod property;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use address::Bus;
pub use annotation::PREFIX as ANNOTATION;
pub use property::Property;

use crate::{Current, Error, Fault, Layout, Op, Request};
use address::BusEnvironment;
pub(crate) use davit_dbus::Error as BusError;
pub use davit_dbus::{Address, Value};
use manager::Manager;

/// Timeout of one request, with all of its calls.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request is retried while systemd re-executes itself, as on an upgrade of its package.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The systemd manager of the host or of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Systemd {
    /// The socket on which it answers.
    pub bus: Bus,
    /// Its version.
    pub version: u32,
    /// Its own cgroup, as a path below the mount point.
    pub root: PathBuf,
}

/// A container's unit. It is recorded with the cgroup's path before it is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The socket of its systemd manager.
    pub bus: Bus,
    /// Its systemd's version.
    pub version: u32,
}

impl Systemd {
    /// Finds the manager for this process: the system's for root, the user's for other users.
    ///
    /// # Errors
    /// [`Fault::Systemd`]: none answers.
    pub fn discover() -> Result<Self, Fault> {
        let candidates = address::candidates(&environment()?);
        retry(|| Self::find(&candidates, REQUEST_TIMEOUT), DiscoverError::is_disconnect)
            .map_err(|error| Fault::Systemd(error.to_string()))
    }

    fn find(candidates: &[Bus], timeout: Duration) -> Result<Self, DiscoverError> {
        let deadline = Instant::now() + timeout;
        let mut errors = Vec::new();
        let mut is_disconnect = false;
        for bus in candidates {
            match Manager::connect(bus, deadline).and_then(|mut manager| manager.facts()) {
                Ok((version, root)) => {
                    let root = PathBuf::from(root.trim_start_matches('/'));
                    return Ok(Self { bus: bus.clone(), version, root });
                }
                // A manager that exists but does not answer is not replaced by another.
                Err(error) if error.error.errno == Errno::ETIMEDOUT => {
                    return Err(DiscoverError::Timeout(error));
                }
                Err(error) => {
                    is_disconnect |= error.is_disconnect();
                    let text = davit_sys::errno_text(error.error.errno);
                    errors.push(match error.detail.as_str() {
                        "" => format!("{bus}: {text}"),
                        detail => format!("{bus}: {text} ({detail})"),
                    });
                }
            }
        }
        Err(DiscoverError::NoManager { errors, is_disconnect })
    }
}

/// Why no manager was found.
#[derive(Debug)]
enum DiscoverError {
    /// A manager did not answer in time.
    Timeout(BusError),
    /// Each candidate failed.
    NoManager {
        /// The candidates and their errors.
        errors: Vec<String>,
        /// Whether one of them was a disconnect, so that it may answer later.
        is_disconnect: bool,
    },
}

impl DiscoverError {
    const fn is_disconnect(&self) -> bool {
        matches!(self, Self::NoManager { is_disconnect: true, .. })
    }
}

impl std::fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout(error) => error.fmt(f),
            Self::NoManager { errors, .. } => {
                write!(f, "no systemd manager answers ({})", errors.join("; "))
            }
        }
    }
}

/// Repeats a request that `is_disconnect`, for as long as systemd may take to re-execute itself.
fn retry<T, E>(
    mut request: impl FnMut() -> Result<T, E>,
    is_disconnect: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let give_up = Instant::now() + RECONNECT_TIMEOUT;
    loop {
        match request() {
            Err(error) if is_disconnect(&error) && Instant::now() < give_up => {
                std::thread::sleep(RETRY_INTERVAL);
            }
            answer => return answer,
        }
    }
}

fn environment() -> Result<BusEnvironment, Fault> {
    let path = "/proc/self/uid_map";
    let map = crate::file::read_path(Path::new(path)).map_err(Fault::at(path))?;
    let first =
        davit_sys::process::in_initial_user_namespace().map_err(Fault::at("/proc/self/ns/user"))?;
    let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let uid = nix::unistd::geteuid().as_raw();
    Ok(BusEnvironment {
        is_root: uid == 0,
        in_user_namespace: !first,
        uid: outside(&map, uid),
        system_address: text("DBUS_SYSTEM_BUS_ADDRESS"),
        session_address: text("DBUS_SESSION_BUS_ADDRESS"),
        runtime_directory: text("XDG_RUNTIME_DIR").map(PathBuf::from),
    })
}

/// The uid in the parent user namespace for `inside`, by this map (user_namespaces(7)).
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

/// The path of the unit's cgroup below the mount point.
pub(crate) fn path(request: &Request<'_>, systemd: &Systemd) -> Result<PathBuf, Error> {
    Ok(systemd.root.join(name::named(request.path, request.id, systemd.bus.user)?.path))
}

/// The operation that creates the unit; `limits` are the writes to its cgroup.
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

/// The same writes, then the properties of the unit, then the writes again: first the kernel checks
/// each value, with its field; at the end the values that systemd has rounded are exact again.
pub(crate) fn update(limits: Vec<Op>, unit: &Unit, current: Current) -> Vec<Op> {
    let properties = property::of_limits(&limits, unit.version, current.period);
    if properties.is_empty() {
        return limits;
    }
    let is_write = |op: &&Op| matches!(op, Op::Write { .. });
    let again: Vec<Op> = limits.iter().filter(is_write).cloned().collect();
    let set = Op::SetProperties { unit: unit.clone(), properties };
    limits.into_iter().chain([set]).chain(again).collect()
}

impl Unit {
    /// Creates it, around this process. If the answer was lost, `exists` tells whether it
    /// succeeded.
    pub(crate) fn start(
        &self,
        properties: &[Property],
        pid: i32,
        exists: impl Fn() -> bool,
    ) -> Result<(), BusError> {
        let mut is_retry = false;
        let request = || match std::mem::replace(&mut is_retry, true) && exists() {
            true => Ok(()),
            false => self.start_within(properties, pid, REQUEST_TIMEOUT),
        };
        retry(request, BusError::is_disconnect)
    }

    fn start_within(
        &self,
        properties: &[Property],
        pid: i32,
        timeout: Duration,
    ) -> Result<(), BusError> {
        let mut properties = properties.to_vec();
        if !self.is_slice() {
            let pids = vec![Value::U32(pid.cast_unsigned())];
            properties.push(Property::new("PIDs", Value::Array("u".to_owned(), pids)));
        }
        let mut manager = Manager::open(&self.bus, Instant::now() + timeout)?;
        manager.start(&self.name, properties)
    }

    /// Whether it is a slice, into which systemd puts no process.
    pub(crate) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Sets properties.
    pub(crate) fn set(&self, properties: &[Property]) -> Result<(), BusError> {
        let request = || {
            let mut manager = Manager::open(&self.bus, Instant::now() + REQUEST_TIMEOUT)?;
            manager.set(&self.name, properties.to_vec())
        };
        retry(request, BusError::is_disconnect)
    }

    /// The present values of these properties.
    pub(crate) fn get(
        &self,
        properties: &[Property],
        timeout: Duration,
    ) -> Result<Vec<Property>, BusError> {
        let request = || {
            let mut manager = Manager::open(&self.bus, Instant::now() + timeout)?;
            manager.get(&self.name, properties.iter().map(|property| property.name.as_str()))
        };
        retry(request, BusError::is_disconnect)
    }

    /// Restores properties. Setting a list appends to it, so each list is emptied first.
    pub(crate) fn restore(&self, before: &[Property]) -> Result<(), BusError> {
        let emptied = before.iter().filter_map(|property| match &property.value {
            Value::Array(of, _) => {
                Some(Property::new(&property.name, Value::Array(of.clone(), Vec::new())))
            }
            _ => None,
        });
        let properties: Vec<Property> = emptied.chain(before.iter().cloned()).collect();
        self.set(&properties)
    }

    /// Stops it, if its cgroup is at `path`. A unit that does not exist is stopped. A systemd that
    /// re-executes itself is waited for: it would create a cgroup again that is removed meanwhile.
    pub(crate) fn stop(&self, path: &Path, deadline: Instant) -> Result<(), BusError> {
        let request = || Manager::open(&self.bus, deadline)?.stop(&self.name, path);
        retry(request, BusError::is_disconnect)
    }
}
