//! The calls to a systemd manager (org.freedesktop.systemd1(5)).

use std::path::Path;
use std::time::{Duration, Instant};

use davit_dbus::{Connection, Error as BusError, Service, Target, Value};
use nix::errno::Errno;

use super::address::Bus;
use super::name;
use super::property::Property;

const DESTINATION: &str = "org.freedesktop.systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const MANAGER: Target<'static> =
    Target { destination: DESTINATION, path: "/org/freedesktop/systemd1", interface: INTERFACE };

/// systemd, as a D-Bus service. The signal is the end of a job.
const SYSTEMD: Service = Service {
    name: "systemd",
    signal: "JobRemoved",
    match_rule: "type='signal',sender='org.freedesktop.systemd1',\
        interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    errno,
};

/// How long StartTransientUnit is retried while a unit of that name has ended but is still loaded.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A systemd manager, on an open connection.
#[derive(Debug)]
pub(crate) struct Manager {
    connection: Connection,
    deadline: Instant,
}

impl Manager {
    /// Connects; an error without any detail names the socket.
    pub(crate) fn open(bus: &Bus, deadline: Instant) -> Result<Self, BusError> {
        Self::connect(bus, deadline).map_err(|error| match error.detail.is_empty() {
            true => BusError { detail: bus.to_string(), ..error },
            false => error,
        })
    }

    /// Connects.
    pub(crate) fn connect(bus: &Bus, deadline: Instant) -> Result<Self, BusError> {
        let connection = Connection::open(&bus.socket, !bus.direct, SYSTEMD, deadline)?;
        Ok(Self { connection, deadline })
    }

    /// Its version, 0 if it is not a number, and its own cgroup.
    pub(crate) fn facts(&mut self) -> Result<(u32, String), BusError> {
        let mut get = |name| self.property(MANAGER.path, INTERFACE, name);
        let version = get("Version")?;
        Ok((number_in(&version), get("ControlGroup")?))
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String, BusError> {
        let value = self.value(path, interface, name)?;
        Ok(value.text().unwrap_or_default().to_owned())
    }

    fn value(&mut self, path: &str, interface: &str, name: &str) -> Result<Value, BusError> {
        let target = Target { path, interface: PROPERTIES, ..MANAGER };
        let body = vec![Value::string(interface), Value::string(name)];
        match self.connection.call(target, "Get", body)?.into_iter().next() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(BusError::new("Get", Errno::EPROTO, format!("{name} has no value"))),
        }
    }

    /// The present properties of a unit that have these names.
    pub(crate) fn get<'a>(
        &mut self,
        unit: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Property>, BusError> {
        let path = name::object(unit);
        names
            .map(|name| Ok(Property::new(name, self.value(&path, interface(unit), name)?)))
            .collect()
    }

    /// Creates a transient unit and waits until it is active. A failed unit of that name is reset,
    /// and one that has ended is waited for until it is unloaded.
    pub(crate) fn start(&mut self, unit: &str, properties: Vec<Property>) -> Result<(), BusError> {
        let method = "StartTransientUnit";
        self.connection.subscribe()?;
        let properties = properties.into_iter().map(Property::into_value).collect();
        let body = vec![
            Value::string(unit),
            Value::string("fail"),
            Value::Array("(sv)".to_owned(), properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let give_up = self.deadline.min(Instant::now() + UNLOAD_TIMEOUT);
        loop {
            match self.connection.call(MANAGER, method, body.clone()) {
                Err(error) if error.error.errno == Errno::EEXIST && Instant::now() < give_up => {
                    self.reset(unit);
                    std::thread::sleep(RETRY_INTERVAL);
                }
                answer => return self.job(method, answer?),
            }
        }
    }

    /// Stops a unit whose cgroup is at `path`, and waits until it is stopped.
    pub(crate) fn stop(&mut self, unit: &str, path: &Path) -> Result<(), BusError> {
        let method = "StopUnit";
        let cgroup = match self.property(&name::object(unit), interface(unit), "ControlGroup") {
            Err(error) if error.error.errno == Errno::ESRCH => return Ok(()),
            cgroup => cgroup?,
        };
        // Another unit of that name, in another slice, is not the container's.
        if !cgroup.is_empty() && Path::new(cgroup.trim_start_matches('/')) != path {
            return Ok(());
        }
        self.connection.subscribe()?;
        let body = vec![Value::string(unit), Value::string("replace")];
        match self.connection.call(MANAGER, method, body) {
            Err(error) if error.error.errno == Errno::ESRCH => return Ok(()),
            answer => self.job(method, answer?)?,
        }
        self.reset(unit);
        Ok(())
    }

    /// Sets properties of a unit for as long as it exists.
    pub(crate) fn set(&mut self, unit: &str, properties: Vec<Property>) -> Result<(), BusError> {
        let properties = properties.into_iter().map(Property::into_value).collect();
        let body = vec![
            Value::string(unit),
            Value::Bool(true),
            Value::Array("(sv)".to_owned(), properties),
        ];
        self.connection.call(MANAGER, "SetUnitProperties", body).map(drop)
    }

    /// Resets a failed unit; the error of a unit that has not failed is ignored.
    fn reset(&mut self, unit: &str) {
        let _ = self.connection.call(MANAGER, "ResetFailedUnit", vec![Value::string(unit)]);
    }

    /// Waits for the end of the job that a call has started.
    fn job(&mut self, method: &'static str, answer: Vec<Value>) -> Result<(), BusError> {
        let job = answer.first().and_then(Value::text).unwrap_or_default().to_owned();
        let is_ours = |body: &[Value]| body.get(1).and_then(Value::text) == Some(job.as_str());
        let end = self.connection.signal(method, is_ours)?;
        match end.get(3).and_then(Value::text) {
            Some("done") => Ok(()),
            result => {
                let detail = format!("systemd's job ended: {}", result.unwrap_or("no result"));
                Err(BusError::new(method, Errno::ECANCELED, detail))
            }
        }
    }
}

/// The interface of a unit's properties.
fn interface(unit: &str) -> &'static str {
    match unit.ends_with(".slice") {
        true => "org.freedesktop.systemd1.Slice",
        false => "org.freedesktop.systemd1.Scope",
    }
}

/// The errno of an error of systemd's own, by the last part of its name.
fn errno(name: &str) -> Option<Errno> {
    match name {
        "UnitExists" => Some(Errno::EEXIST),
        // Not ENOENT, whose text is that of a program that was not found.
        "NoSuchUnit" => Some(Errno::ESRCH),
        _ => None,
    }
}

/// The first number in a version: `257 (257.9-1)`, `252.39-1~deb12u1`, `v255`.
fn number_in(version: &str) -> u32 {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
