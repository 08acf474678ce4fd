//! Network devices of the host that move into the container (config-linux.md, "Network Devices").
//!
//! The runtime moves each of them when init, which is in the container's network namespace by then,
//! requests it; init restores its addresses, which are lost by the move, and brings it up. When the
//! namespace ends, the kernel moves physical devices back to the initial one and removes all others
//! (network_namespaces(7)), as the specification requires.

mod netlink;

#[cfg(feature = "fuzzing")]
pub(crate) use netlink::fuzz;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use nix::errno::Errno;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::{Error, Op};
use netlink::{RawAddress, Socket};

/// `IFNAMSIZ` of net/if.h, less the final NUL.
const MAX_NAME: usize = 15;

/// A device of the runtime's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: i32,
    /// Its permanent addresses.
    pub addresses: Vec<Address>,
}

/// An address that moves with its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// The operation of the runtime: moving a device into the network namespace of init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its name on the host.
    pub device: String,
    /// Its index on the host.
    pub index: i32,
    /// Its name in the container; the kernel replaces a final `%d` by a number.
    pub name: String,
}

/// The devices of `linux.netDevices` that exist.
///
/// # Errors
/// A failed system call or rtnetlink(7) request.
pub fn discover(spec: &Spec) -> Result<Vec<Device>, davit_sys::Error> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let Some(wanted) = wanted.filter(|devices| !devices.is_empty()) else {
        return Ok(Vec::new());
    };
    let socket = Socket::open()?;
    let addresses: Vec<_> =
        socket.addresses()?.into_iter().filter_map(RawAddress::lasting).collect();
    let devices = socket.devices()?.into_iter().filter(|(_, name)| wanted.contains_key(name));
    let device = |(index, name): (i32, String)| {
        let own = addresses.iter().filter(|address| i32::try_from(address.device) == Ok(index));
        Device { name, index, addresses: own.map(Address::of).collect() }
    };
    Ok(devices.map(device).collect())
}

/// Plans the moves, and the operation of init after each.
pub(crate) fn plan(
    spec: &Spec,
    devices: &[Device],
    has_namespace: bool,
) -> Result<Vec<(Move, Op)>, Error> {
    let wanted = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut wanted: Vec<_> = wanted.into_iter().flatten().collect();
    wanted.sort_by_key(|(name, _)| *name);
    if !wanted.is_empty() && !has_namespace {
        let field = "linux.netDevices".to_owned();
        return Err(Error::Needs { field, kind: crate::Kind::Network });
    }
    let mut names = BTreeSet::new();
    let mut plan = Vec::new();
    for (number, (device, options)) in (0..).zip(wanted) {
        let field = format!("linux.netDevices[{device:?}]");
        let wrong = |reason| Err(Error::Text { field: field.clone(), reason });
        if device == "lo" {
            return wrong("every network namespace has a loopback device of its own");
        }
        let Some(found) = devices.iter().find(|found| found.name == *device) else {
            return wrong("there is no such device in the runtime's network namespace");
        };
        let name = options.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(device);
        if let Some(reason) = refused(name) {
            return Err(Error::Text { field: format!("{field}.name"), reason });
        }
        if !names.insert(name) && !name.ends_with("%d") {
            let reason = "another device has this name in the container";
            return Err(Error::Text { field: format!("{field}.name"), reason });
        }
        let (device, name) = (device.clone(), name.clone());
        let addresses = found.addresses.clone();
        let op = Op::NetDevice { number, device: device.clone(), name: name.clone(), addresses };
        plan.push((Move { device, index: found.index, name }, op));
    }
    Ok(plan)
}

/// Why a name is invalid, by the kernel's dev_valid_name() and the rule for `%d`.
fn refused(name: &str) -> Option<&'static str> {
    match name {
        "lo" => Some("is reserved for the loopback device"),
        "." | ".." => Some("is not a valid device name"),
        name if name.len() > MAX_NAME => Some("is longer than 15 bytes"),
        name if name.bytes().any(|byte| matches!(byte, 0 | b'/' | b':' | b' ' | b'\t'..=b'\r')) => {
            Some("contains a character that is not allowed in a device name")
        }
        name if name.strip_suffix("%d").unwrap_or(name).contains('%') => {
            Some("may contain % only as %d at the end")
        }
        _ => None,
    }
}

impl Move {
    /// Moves it into the network namespace of process `pid`.
    ///
    /// # Errors
    /// EEXIST if the name exists, EINVAL if the device cannot be moved, EPERM.
    pub fn apply(&self, pid: i32) -> Result<(), davit_sys::Error> {
        Socket::open()?.move_to(self.index, pid, &self.name)
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, name, .. } = self;
        write!(f, "linux.netDevices[{device:?}]: move into the container as {name:?}")
    }
}

/// The operation of init: has `fetch` move the device here, and restores its addresses.
pub(crate) fn receive(
    addresses: &[Address],
    fetch: impl FnOnce() -> Result<(), davit_sys::Error>,
) -> Result<(), davit_sys::Error> {
    let socket = Socket::open()?;
    let before: BTreeSet<i32> = socket.devices()?.into_iter().map(|(index, _)| index).collect();
    fetch()?;
    // Its index may be different here, and the kernel may have chosen its name.
    let mut new = socket.devices()?.into_iter().filter(|(index, _)| !before.contains(index));
    let (Some((device, _)), None) = (new.next(), new.next()) else {
        return Err(davit_sys::Error::new("RTM_GETLINK", Errno::ENODEV));
    };
    for address in addresses {
        let Address { family, prefix, flags, attributes } = address.clone();
        let scope = libc::RT_SCOPE_UNIVERSE;
        let number = device.unsigned_abs();
        let raw = RawAddress { device: number, family, prefix, scope, flags, attributes };
        socket.add_address(number, &raw)?;
    }
    socket.set_up(device)
}

impl Address {
    fn of(raw: &RawAddress) -> Self {
        let RawAddress { family, prefix, flags, attributes, .. } = raw.clone();
        Self { family, prefix, flags, attributes }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |kind| self.attributes.iter().find(|(known, _)| *known == kind);
        // On a point-to-point device the local address is separate (rtnetlink(7)).
        let bytes = value(libc::IFA_LOCAL).or_else(|| value(libc::IFA_ADDRESS));
        let bytes = bytes.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        match four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)) {
            Ok(address) => write!(f, "{address}/{}", self.prefix),
            Err(_) => write!(f, "an address of family {}", self.family),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(devices: Value) -> Result<Vec<(Move, Op)>, String> {
        let spec = json!({ "ociVersion": "1.3.0", "linux": { "netDevices": devices } });
        let address =
            Address { family: 2, prefix: 24, flags: 0, attributes: vec![(2, vec![10, 0, 0, 1])] };
        let device = |(index, name): (i32, &str)| Device {
            name: name.to_owned(),
            index,
            addresses: vec![address.clone()],
        };
        let host: Vec<_> = [(2, "eth0"), (3, "eth1"), (1, "lo")].into_iter().map(device).collect();
        plan(&serde_json::from_value(spec).unwrap(), &host, true).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_move_in_the_order_of_their_names() {
        let plan = planned(json!({ "eth1": { "name": "net%d" }, "eth0": {} })).unwrap();
        let text = plan.iter().map(|(first, then)| format!("{first}\n{then}\n"));
        insta::assert_snapshot!(text.collect::<String>(), @r#"
        linux.netDevices["eth0"]: move into the container as "eth0"
        linux.netDevices["eth0"]: fetch as "eth0", with 10.0.0.1/24, up
        linux.netDevices["eth1"]: move into the container as "net%d"
        linux.netDevices["eth1"]: fetch as "net%d", with 10.0.0.1/24, up
        "#);
        assert_eq!(plan[1].0.index, 3);
        let both = json!({ "eth1": { "name": "net%d" }, "eth0": { "name": "net%d" } });
        assert!(planned(both).is_ok());
    }

    #[test]
    fn invalid_names_are_refused() {
        for (devices, field) in [
            (json!({ "lo": {} }), "linux.netDevices[\"lo\"]: "),
            (json!({ "eth7": {} }), "linux.netDevices[\"eth7\"]: there is no such device"),
            (json!({ "eth0": { "name": "lo" } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": "a/b" } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": "a b" } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": ".." } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": "a%s" } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": "%d%d" } }), "linux.netDevices[\"eth0\"].name: "),
            (json!({ "eth0": { "name": "sixteen-letters." } }), "linux.netDevices[\"eth0\"].name"),
            (
                json!({ "eth0": { "name": "eth1" }, "eth1": {} }),
                "linux.netDevices[\"eth1\"].name: another device has this name",
            ),
        ] {
            let error = planned(devices).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn devices_need_a_network_namespace() {
        let spec = json!({ "ociVersion": "1.3.0", "linux": { "netDevices": { "x": {} } } });
        let error = plan(&serde_json::from_value(spec).unwrap(), &[], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linux.netDevices: needs a network namespace in linux.namespaces"
        );
    }
}
