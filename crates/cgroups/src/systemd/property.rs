//! Limits as properties of systemd.
//!
//! Every limit is written to the kernel's file, exactly. If systemd has an equivalent property,
//! that is set too, because systemd writes its properties again at any time (`systemctl
//! daemon-reload`, a change of another property). The properties are computed from the planned
//! files: one table for `linux.resources` and for `unified`. systemd does not change files without
//! a property.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{IfMissing, Op};
use davit_dbus::Value;

/// The default period of cpu.max in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The default of cpu.weight.
const DEFAULT_WEIGHT: u64 = 100;

/// Maximum number of CPUs or memory nodes in a mask; the kernel has fewer.
const MAX_NUMBERS: usize = 1 << 16;

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Its name on the bus.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value }
    }

    /// `(sv)`
    pub(super) fn into_value(self) -> Value {
        Value::Struct(vec![Value::String(self.name), Value::Variant(Box::new(self.value))])
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The properties equivalent to these writes, for a systemd of that version. `period` is the
/// present one of an existing cgroup.
pub(super) fn of_limits(ops: &[Op], version: u32, period: Option<u64>) -> Vec<Property> {
    let mut collector =
        Collector { version, period: period.unwrap_or(DEFAULT_PERIOD), properties: Vec::new() };
    for op in ops {
        let Op::Write { file, values, if_missing, .. } = op else { continue };
        let (file, values) = match if_missing {
            // io.bfq.weight: systemd uses the range of io.weight.
            IfMissing::WriteInstead { file, values } => (file, values),
            _ => (file, values),
        };
        for line in values.iter().flat_map(|value| value.lines()) {
            // Values that are not parsed here are refused by the kernel, or have no property.
            let _ = collector.add(file, line.trim());
        }
    }
    collector.properties
}

struct Collector {
    version: u32,
    period: u64,
    properties: Vec<Property>,
}

impl Collector {
    fn add(&mut self, file: &str, value: &str) -> Option<()> {
        match file {
            "memory.min" => self.number("MemoryMin", value),
            "memory.low" => self.number("MemoryLow", value),
            "memory.high" => self.number("MemoryHigh", value),
            "memory.max" => self.number("MemoryMax", value),
            "memory.swap.max" => self.number("MemorySwapMax", value),
            "memory.zswap.max" if self.version >= 253 => self.number("MemoryZSwapMax", value),
            "memory.oom.group" if self.version >= 253 => {
                let policy = if value == "1" { "kill" } else { "continue" };
                self.set("OOMPolicy", Value::string(policy))
            }
            "pids.max" => self.number("TasksMax", value),
            "cpu.weight" => self.number("CPUWeight", value),
            "cpu.idle" if value == "1" && self.version >= 252 => {
                self.set("CPUWeight", Value::U64(0))
            }
            // The kernel resets the weight to its default.
            "cpu.idle" if value == "0" => self.set("CPUWeight", Value::U64(DEFAULT_WEIGHT)),
            "cpu.max" => self.cpu_max(value),
            "cpuset.cpus" if self.version >= 244 => self.set("AllowedCPUs", mask(value)?),
            "cpuset.mems" if self.version >= 244 => self.set("AllowedMemoryNodes", mask(value)?),
            "io.weight" => self.io_weight(value),
            "io.max" => self.io_max(value),
            _ => None,
        }
    }

    /// A later value replaces an earlier one.
    fn set(&mut self, name: &str, value: Value) -> Option<()> {
        match self.properties.iter_mut().find(|property| property.name == name) {
            Some(property) => property.value = value,
            None => self.properties.push(Property::new(name, value)),
        }
        Some(())
    }

    fn number(&mut self, name: &str, value: &str) -> Option<()> {
        self.set(name, Value::U64(number(value)?))
    }

    /// systemd has the quota per second, in whole percents after it is reloaded: rounded up, so
    /// that it is never less than requested.
    fn cpu_max(&mut self, value: &str) -> Option<()> {
        const SECOND: u64 = 1_000_000;
        const PERCENT: u128 = 10_000;
        let mut words = value.split_whitespace();
        let quota = number(words.next()?)?;
        let period = match words.next() {
            Some(word) => word.parse().ok().filter(|period| *period > 0)?,
            None => self.period,
        };
        let per_second = match quota {
            u64::MAX => u64::MAX,
            quota => {
                let exact = u128::from(quota) * u128::from(SECOND) / u128::from(period);
                u64::try_from(exact.div_ceil(PERCENT) * PERCENT).ok()?
            }
        };
        self.set("CPUQuotaPerSecUSec", Value::U64(per_second))?;
        if self.version >= 242 {
            self.set("CPUQuotaPeriodUSec", Value::U64(period))?;
        }
        Some(())
    }

    fn io_weight(&mut self, value: &str) -> Option<()> {
        match value.split_once(' ') {
            None | Some(("default", _)) => {
                self.number("IOWeight", value.trim_start_matches("default").trim())
            }
            Some((device, weight)) => self.for_device("IODeviceWeight", device, number(weight)?),
        }
    }

    fn io_max(&mut self, value: &str) -> Option<()> {
        let mut words = value.split_whitespace();
        let device = words.next()?;
        for (key, rate) in words.filter_map(|word| word.split_once('=')) {
            let name = match key {
                "rbps" => "IOReadBandwidthMax",
                "wbps" => "IOWriteBandwidthMax",
                "riops" => "IOReadIOPSMax",
                "wiops" => "IOWriteIOPSMax",
                _ => continue,
            };
            self.for_device(name, device, number(rate)?)?;
        }
        Some(())
    }

    /// `a(st)`: a property with a value for each device.
    fn for_device(&mut self, name: &str, device: &str, number: u64) -> Option<()> {
        device.split_once(':').filter(|(major, minor)| {
            [major, minor].iter().all(|part| part.parse::<u32>().is_ok())
        })?;
        let path = Value::String(format!("/dev/block/{device}"));
        let entry = Value::Struct(vec![path, Value::U64(number)]);
        let known = self.properties.iter_mut().find(|property| property.name == name);
        match known.map(|property| &mut property.value) {
            Some(Value::Array(_, entries)) => {
                entries.push(entry);
                Some(())
            }
            _ => self.set(name, Value::Array("(st)".to_owned(), vec![entry])),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// `0-2,5` as the bytes of a mask, the lowest numbers first.
fn mask(list: &str) -> Option<Value> {
    let mut bytes: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MAX_NUMBERS {
            return None;
        }
        for number in first..=last {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0);
            }
            if let Some(byte) = bytes.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Some(Value::Array("y".to_owned(), bytes.into_iter().map(Value::Byte).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &str, value: &str) -> Op {
        Op::Write {
            directory: "/x".into(),
            file: file.to_owned(),
            values: vec![value.to_owned()],
            if_missing: IfMissing::Fail,
            field: "".into(),
        }
    }

    fn properties(version: u32, writes: &[(&str, &str)]) -> String {
        let ops: Vec<Op> = writes.iter().map(|(file, value)| write(file, value)).collect();
        let properties = of_limits(&ops, version, None);
        properties.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_become_properties() {
        for (file, value, expected) in [
            ("memory.max", "1048576", "MemoryMax=1048576"),
            ("memory.max", "max", "MemoryMax=infinity"),
            ("memory.low", "5", "MemoryLow=5"),
            ("memory.min", "5", "MemoryMin=5"),
            ("memory.high", "5", "MemoryHigh=5"),
            ("memory.swap.max", "0", "MemorySwapMax=0"),
            ("memory.zswap.max", "7", "MemoryZSwapMax=7"),
            ("memory.oom.group", "1", "OOMPolicy=\"kill\""),
            ("memory.oom.group", "0", "OOMPolicy=\"continue\""),
            ("pids.max", "2048", "TasksMax=2048"),
            ("cpu.weight", "59", "CPUWeight=59"),
            ("cpu.idle", "1", "CPUWeight=0"),
            ("cpu.idle", "0", "CPUWeight=100"),
            ("cpu.max", "50000", "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000"),
            ("cpu.max", "50000 200000", "CPUQuotaPerSecUSec=250000 CPUQuotaPeriodUSec=200000"),
            ("cpu.max", "12345 100000", "CPUQuotaPerSecUSec=130000 CPUQuotaPeriodUSec=100000"),
            ("cpu.max", "max 20000", "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=20000"),
            ("cpuset.cpus", "0-2,9", "AllowedCPUs=0x0207"),
            ("cpuset.mems", "0", "AllowedMemoryNodes=0x01"),
            ("io.weight", "910", "IOWeight=910"),
            ("io.weight", "default 910", "IOWeight=910"),
            ("io.weight", "8:0 910", "IODeviceWeight=[(\"/dev/block/8:0\" 910)]"),
            (
                "io.max",
                "8:0 rbps=1 wbps=2 riops=3 wiops=max",
                "IOReadBandwidthMax=[(\"/dev/block/8:0\" 1)] \
                 IOWriteBandwidthMax=[(\"/dev/block/8:0\" 2)] \
                 IOReadIOPSMax=[(\"/dev/block/8:0\" 3)] \
                 IOWriteIOPSMax=[(\"/dev/block/8:0\" infinity)]",
            ),
            ("hugetlb.2MB.max", "0", ""),
            ("cpu.max.burst", "1", ""),
            ("memory.max", "much", ""),
            ("cpu.max", "5 0", ""),
            ("cpuset.cpus", "0-99999999", ""),
            ("io.max", "../../x rbps=1", ""),
        ] {
            assert_eq!(properties(257, &[(file, value)]), expected, "{file} {value}");
        }
    }

    #[test]
    fn an_old_systemd_gets_the_properties_it_has() {
        let writes = [("memory.oom.group", "1"), ("cpu.idle", "1"), ("cpu.max", "1000 10000")];
        assert_eq!(properties(249, &writes), "CPUQuotaPerSecUSec=100000 CPUQuotaPeriodUSec=10000");
        assert_eq!(properties(241, &writes), "CPUQuotaPerSecUSec=100000");
        assert_eq!(properties(243, &[("cpuset.cpus", "0")]), "");
    }

    #[test]
    fn later_values_replace_and_devices_accumulate() {
        assert_eq!(properties(257, &[("cpu.weight", "59"), ("cpu.idle", "1")]), "CPUWeight=0");
        assert_eq!(
            properties(257, &[("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]),
            "IOReadBandwidthMax=[(\"/dev/block/8:0\" 1) (\"/dev/block/8:16\" 2)]"
        );
    }

    #[test]
    fn the_present_period_is_used() {
        let quota = of_limits(&[write("cpu.max", "5000")], 257, Some(10_000));
        assert_eq!(quota[0].value, Value::U64(500_000));
        assert_eq!(quota[1].value, Value::U64(10_000));
    }

    #[test]
    fn bfq_weights_have_the_range_of_io_weight() {
        let mut op = write("io.bfq.weight", "500");
        if let Op::Write { if_missing, .. } = &mut op {
            *if_missing = IfMissing::WriteInstead {
                file: "io.weight".to_owned(),
                values: vec!["4950".to_owned()],
            };
        }
        assert_eq!(of_limits(&[op], 257, None)[0].to_string(), "IOWeight=4950");
    }
}
