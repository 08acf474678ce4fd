//! What the specification calls REQUIRED and the library takes for 0 or false where it is missing:
//! a mapping without `hostID` would be one onto the host's root.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::bundle::from_json;
use crate::error::{Error, Result};

/// Refuses a config.json in which a part lacks what it must have.
///
/// # Errors
/// The part, and what it lacks.
pub(crate) fn check(text: &[u8]) -> Result<()> {
    let config: Config = read(text)?;
    let devices = config.linux.and_then(|linux| linux.devices);
    for (index, device) in devices.iter().flatten().enumerate() {
        // A FIFO has no numbers.
        let fifo = device.kind.as_deref() == Some("p");
        for (name, number) in [("major", &device.major), ("minor", &device.minor)] {
            if number.is_none() && !fifo {
                return Err(Error::new(format!("linux.devices[{index}]: missing field `{name}`")));
            }
        }
    }
    Ok(())
}

/// The same of a file for `exec --process`.
///
/// # Errors
/// The part, and what it lacks.
pub(crate) fn check_process(text: &[u8]) -> Result<()> {
    read::<Process>(text).map(drop)
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    // Read again where it is refused, for the place of the fault.
    serde_json::from_slice(text).or_else(|_| from_json(text))
}

type List<T> = Option<Vec<T>>;

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "process")]
    _process: Option<Process>,
    #[serde(rename = "mounts")]
    _mounts: List<Mount>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Process {
    #[serde(rename = "consoleSize")]
    _console_size: Option<Size>,
    #[serde(rename = "rlimits")]
    _rlimits: List<Limit>,
    #[serde(rename = "ioPriority")]
    _io_priority: Option<IoPriority>,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "height")]
    _height: IgnoredAny,
    #[serde(rename = "width")]
    _width: IgnoredAny,
}

#[derive(Deserialize)]
struct Limit {
    #[serde(rename = "soft")]
    _soft: IgnoredAny,
    #[serde(rename = "hard")]
    _hard: IgnoredAny,
}

#[derive(Deserialize)]
struct IoPriority {
    #[serde(rename = "class")]
    _class: IgnoredAny,
    #[serde(rename = "priority")]
    _priority: IgnoredAny,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "uidMappings")]
    _uid_mappings: List<Mapping>,
    #[serde(rename = "gidMappings")]
    _gid_mappings: List<Mapping>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(rename = "uidMappings")]
    _uid_mappings: List<Mapping>,
    #[serde(rename = "gidMappings")]
    _gid_mappings: List<Mapping>,
    devices: List<Device>,
    #[serde(rename = "resources")]
    _resources: Option<Resources>,
}

#[derive(Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    _container_id: IgnoredAny,
    #[serde(rename = "hostID")]
    _host_id: IgnoredAny,
    #[serde(rename = "size")]
    _size: IgnoredAny,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<IgnoredAny>,
    minor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(rename = "devices")]
    _devices: List<Rule>,
    #[serde(rename = "blockIO")]
    _block_io: Option<BlockIo>,
    #[serde(rename = "hugepageLimits")]
    _hugepage_limits: List<HugepageLimit>,
    #[serde(rename = "network")]
    _network: Option<Network>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "allow")]
    _allow: IgnoredAny,
}

#[derive(Deserialize)]
struct BlockIo {
    #[serde(rename = "weightDevice")]
    _weight: List<Numbers>,
    #[serde(rename = "throttleReadBpsDevice")]
    _read_bps: List<Throttle>,
    #[serde(rename = "throttleWriteBpsDevice")]
    _write_bps: List<Throttle>,
    #[serde(rename = "throttleReadIOPSDevice")]
    _read_iops: List<Throttle>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    _write_iops: List<Throttle>,
}

#[derive(Deserialize)]
struct Numbers {
    #[serde(rename = "major")]
    _major: IgnoredAny,
    #[serde(rename = "minor")]
    _minor: IgnoredAny,
}

#[derive(Deserialize)]
struct Throttle {
    #[serde(rename = "major")]
    _major: IgnoredAny,
    #[serde(rename = "minor")]
    _minor: IgnoredAny,
    #[serde(rename = "rate")]
    _rate: IgnoredAny,
}

#[derive(Deserialize)]
struct HugepageLimit {
    #[serde(rename = "pageSize")]
    _page_size: IgnoredAny,
    #[serde(rename = "limit")]
    _limit: IgnoredAny,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "priorities")]
    _priorities: List<Priority>,
}

#[derive(Deserialize)]
struct Priority {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "priority")]
    _priority: IgnoredAny,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let fifo = r#"{"linux": {"devices": [{"type": "p", "path": "/dev/fifo"}]}}"#;
        for good in ["{}", r#"{"linux": {}, "process": null, "x": [1]}"#, fifo] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, message) in [
            (
                r#"{"linux": {"uidMappings": [{"containerID": 0, "size": 1}]}}"#,
                "linux.uidMappings[0]: missing field `hostID`",
            ),
            (
                r#"{"linux": {"devices": [{"type": "c", "path": "/dev/x", "major": 1}]}}"#,
                "linux.devices[0]: missing field `minor`",
            ),
            (
                r#"{"process": {"rlimits": [{"hard": 1}]}}"#,
                "process.rlimits[0]: missing field `soft`",
            ),
        ] {
            let error = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
