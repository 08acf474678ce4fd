//! Block devices.

use serde::Serialize;

use super::pressure::{self, Pressure};
use crate::{Cgroup, Fault};

/// I/O of block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes transferred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Number of requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// I/O pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// The I/O of one kind of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// `Read`, `Write`, ...; cgroup v1 has `Total` too.
    pub op: String,
    /// Bytes or requests.
    pub value: u64,
}

pub(super) fn read(cgroup: &Cgroup) -> Result<BlockIo, Fault> {
    let psi = pressure::read(cgroup, "io.pressure")?;
    if cgroup.has_v1("blkio") {
        let entries = |file: &str| -> Result<Vec<BlockIoEntry>, Fault> {
            let file = format!("blkio.throttle.{file}_recursive");
            let text = cgroup.read("blkio", &file)?.unwrap_or_default();
            Ok(text.lines().filter_map(entry_v1).collect())
        };
        return Ok(BlockIo {
            io_service_bytes_recursive: entries("io_service_bytes")?,
            io_serviced_recursive: entries("io_serviced")?,
            psi,
        });
    }
    let text = cgroup.read("", "io.stat")?.unwrap_or_default();
    let entries = |keys: [(&str, &str); 3]| {
        text.lines().flat_map(|line| entries_v2(line, keys)).collect::<Vec<_>>()
    };
    Ok(BlockIo {
        io_service_bytes_recursive: entries([
            ("rbytes", "Read"),
            ("wbytes", "Write"),
            ("dbytes", "Discard"),
        ]),
        io_serviced_recursive: entries([("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]),
        psi,
    })
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Parses `8:0 Read 4096`. The last line is a total without device.
fn entry_v1(line: &str) -> Option<BlockIoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = device(words.next()?)?;
    let (op, value) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    Some(BlockIoEntry { major, minor, op, value })
}

/// `8:0 rbytes=10 wbytes=20 ...`
fn entries_v2(line: &str, keys: [(&str, &str); 3]) -> Vec<BlockIoEntry> {
    let mut words = line.split_whitespace();
    let Some((major, minor)) = words.next().and_then(device) else { return Vec::new() };
    let entry = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let (_, op) = keys.iter().find(|(name, _)| *name == key)?;
        Some(BlockIoEntry { major, minor, op: (*op).to_owned(), value: value.parse().ok()? })
    };
    words.filter_map(entry).collect()
}
