//! What is asked of systemd (org.freedesktop.systemd1(5)).

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::address::Bus;
use super::connection::{Connection, Target, Trouble};
use super::name;
use super::property::Property;
use super::value::Value;

const DESTINATION: &str = "org.freedesktop.systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const MANAGER: Target<'static> =
    Target { destination: DESTINATION, path: "/org/freedesktop/systemd1", interface: INTERFACE };

/// How long a unit that has ended is waited for until systemd has forgotten it.
const FORGETTING: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(20);

/// systemd, asked through an open connection.
#[derive(Debug)]
pub(crate) struct Manager {
    connection: Connection,
    deadline: Instant,
}

impl Manager {
    pub(crate) fn open(bus: &Bus, deadline: Instant) -> Result<Self, Trouble> {
        Ok(Self { connection: Connection::open(bus, deadline)?, deadline })
    }

    /// Its version, 0 where it says none, and its own cgroup.
    pub(crate) fn facts(&mut self) -> Result<(u32, String), Trouble> {
        let mut get = |name| self.property(MANAGER.path, INTERFACE, name);
        let version = get("Version")?;
        Ok((number_in(&version), get("ControlGroup")?))
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String, Trouble> {
        let target = Target { path, interface: PROPERTIES, ..MANAGER };
        let body = vec![Value::string(interface), Value::string(name)];
        let answer = self.connection.call(target, "Get", body)?;
        Ok(answer.first().and_then(Value::text).unwrap_or_default().to_owned())
    }

    /// Makes a transient unit and waits until it is there. One of that name which has failed, or is
    /// about to be forgotten, gives way.
    pub(crate) fn start(
        &mut self,
        bus: &Bus,
        unit: &str,
        properties: Vec<Property>,
    ) -> Result<(), Trouble> {
        let method = "StartTransientUnit";
        self.connection.subscribe(bus)?;
        let properties = properties.into_iter().map(Property::into_value).collect();
        let body = vec![
            Value::string(unit),
            Value::string("fail"),
            Value::Array("(sv)".to_owned(), properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let give_up = self.deadline.min(Instant::now() + FORGETTING);
        loop {
            match self.connection.call(MANAGER, method, body.clone()) {
                Err(trouble)
                    if trouble.error.errno == Errno::EEXIST && Instant::now() < give_up =>
                {
                    self.reset(unit);
                    std::thread::sleep(INTERVAL);
                }
                answer => return self.job(method, answer?),
            }
        }
    }

    /// Stops a unit, if it is the one that has its cgroup at `path`, and waits until it is stopped.
    pub(crate) fn stop(&mut self, bus: &Bus, unit: &str, path: &Path) -> Result<(), Trouble> {
        let method = "StopUnit";
        let interface = match unit.ends_with(".slice") {
            true => "org.freedesktop.systemd1.Slice",
            false => "org.freedesktop.systemd1.Scope",
        };
        let place = match self.property(&name::object(unit), interface, "ControlGroup") {
            Err(trouble) if trouble.error.errno == Errno::ESRCH => return Ok(()),
            place => place?,
        };
        // Another unit of that name, in another slice: not ours to stop.
        if !place.is_empty() && Path::new(place.trim_start_matches('/')) != path {
            return Ok(());
        }
        self.connection.subscribe(bus)?;
        let body = vec![Value::string(unit), Value::string("replace")];
        match self.connection.call(MANAGER, method, body) {
            Err(trouble) if trouble.error.errno == Errno::ESRCH => return Ok(()),
            answer => self.job(method, answer?)?,
        }
        self.reset(unit);
        Ok(())
    }

    /// Sets properties of a unit until it ends.
    pub(crate) fn set(&mut self, unit: &str, properties: Vec<Property>) -> Result<(), Trouble> {
        let properties = properties.into_iter().map(Property::into_value).collect();
        let body = vec![
            Value::string(unit),
            Value::Bool(true),
            Value::Array("(sv)".to_owned(), properties),
        ];
        self.connection.call(MANAGER, "SetUnitProperties", body).map(drop)
    }

    /// A unit that has not failed has nothing to reset: that is no trouble.
    fn reset(&mut self, unit: &str) {
        let _ = self.connection.call(MANAGER, "ResetFailedUnit", vec![Value::string(unit)]);
    }

    /// Waits for the end of the job that a call has begun.
    fn job(&mut self, method: &'static str, answer: Vec<Value>) -> Result<(), Trouble> {
        let job = answer.first().and_then(Value::text).unwrap_or_default().to_owned();
        let is_ours = |body: &[Value]| body.get(1).and_then(Value::text) == Some(job.as_str());
        let end = self.connection.signal(method, "JobRemoved", is_ours)?;
        match end.get(3).and_then(Value::text) {
            Some("done") => Ok(()),
            result => {
                let said = format!("systemd's job ended: {}", result.unwrap_or("no result"));
                Err(Trouble::new(method, Errno::ECANCELED, said))
            }
        }
    }
}

/// The first number in a version: `257 (257.9-1)`, `252.39-1~deb12u1`, `v255`.
fn number_in(version: &str) -> u32 {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
