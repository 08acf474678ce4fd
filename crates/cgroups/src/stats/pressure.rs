//! Pressure stall information (Linux 4.20, cgroup v2 only; also in a tree without controllers).

use serde::Serialize;

use crate::{Cgroup, Fault};

/// How long processes were stalled for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one was stalled.
    pub some: PressureShare,
    /// All were stalled.
    pub full: PressureShare,
}

/// Averages in percent, and the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PressureShare {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five minutes.
    pub avg300: f64,
    /// Total in microseconds.
    pub total: u64,
}

/// Reads a file such as `cpu.pressure`; `None` if the kernel does not count it.
pub(super) fn read(cgroup: &Cgroup, file: &str) -> Result<Option<Pressure>, Fault> {
    let Some(text) = cgroup.read("", file)? else { return Ok(None) };
    let mut pressure = Pressure::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("some", fields)) => pressure.some = share(fields),
            Some(("full", fields)) => pressure.full = share(fields),
            _ => {}
        }
    }
    Ok(Some(pressure))
}

fn share(fields: &str) -> PressureShare {
    let value = |name: &str| {
        fields.split(' ').filter_map(|field| field.split_once('=')).find(|(key, _)| *key == name)
    };
    let percent = |name| value(name).and_then(|(_, text)| text.parse().ok()).unwrap_or(0.0);
    PressureShare {
        avg10: percent("avg10"),
        avg60: percent("avg60"),
        avg300: percent("avg300"),
        total: value("total").and_then(|(_, text)| text.parse().ok()).unwrap_or(0),
    }
}
