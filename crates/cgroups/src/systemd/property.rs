//! Limits as systemd knows them.
//!
//! Every limit is written to the kernel's own file, exactly; and where systemd has a property that
//! means the same, it is told as well, because it writes what it knows again whenever it likes (at
//! `systemctl daemon-reload`, with any change of a property). So the properties are made from the
//! planned files: one table for `linux.resources` and for `unified`. What systemd has no word for it
//! leaves alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::value::Value;
use crate::{Missing, Op};

/// The kernel's period where none is set (cpu.max), in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// The weight of a cgroup that nobody gave one (cpu.weight).
const USUAL_WEIGHT: u64 = 100;

/// The most CPUs or memory nodes that a mask is made for; the kernel has fewer.
const MOST_NUMBERS: usize = 1 << 16;

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Its name on the bus.
    pub name: String,
    /// What it is set to.
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

/// The properties that say what these steps write, for a systemd of that version. `period` is the one
/// that a live cgroup has.
pub(super) fn of_limits(ops: &[Op], version: u32, period: Option<u64>) -> Vec<Property> {
    let mut told = Told { version, period: period.unwrap_or(USUAL_PERIOD), properties: Vec::new() };
    for op in ops {
        let Op::Write { file, values, missing, .. } = op else { continue };
        let (file, values) = match missing {
            // io.bfq.weight: systemd counts as its other name does.
            Missing::Instead { file, values } => (file, values),
            _ => (file, values),
        };
        for line in values.iter().flat_map(|value| value.lines()) {
            // What is not understood here the kernel refuses, or systemd cannot say.
            let _ = told.tell(file, line.trim());
        }
    }
    told.properties
}

struct Told {
    version: u32,
    period: u64,
    properties: Vec<Property>,
}

impl Told {
    fn tell(&mut self, file: &str, value: &str) -> Option<()> {
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
            // The kernel gives the usual weight back.
            "cpu.idle" if value == "0" => self.set("CPUWeight", Value::U64(USUAL_WEIGHT)),
            "cpu.max" => self.cpu_max(value),
            "cpuset.cpus" if self.version >= 244 => self.set("AllowedCPUs", mask(value)?),
            "cpuset.mems" if self.version >= 244 => self.set("AllowedMemoryNodes", mask(value)?),
            "io.weight" => self.io_weight(value),
            "io.max" => self.io_max(value),
            _ => None,
        }
    }

    /// The later one holds.
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

    /// systemd keeps time per second, and whole percents of it where it is reloaded: rounded up, so
    /// that it never gives less than what is asked for.
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
        if last >= MOST_NUMBERS {
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
            missing: Missing::Refused,
            field: "".into(),
        }
    }

    fn told(version: u32, writes: &[(&str, &str)]) -> String {
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
            assert_eq!(told(257, &[(file, value)]), expected, "{file} {value}");
        }
    }

    #[test]
    fn an_old_systemd_is_told_what_it_knows() {
        let writes = [("memory.oom.group", "1"), ("cpu.idle", "1"), ("cpu.max", "1000 10000")];
        assert_eq!(told(249, &writes), "CPUQuotaPerSecUSec=100000 CPUQuotaPeriodUSec=10000");
        assert_eq!(told(241, &writes), "CPUQuotaPerSecUSec=100000");
        assert_eq!(told(243, &[("cpuset.cpus", "0")]), "");
    }

    #[test]
    fn the_later_value_holds_and_devices_gather() {
        assert_eq!(told(257, &[("cpu.weight", "59"), ("cpu.idle", "1")]), "CPUWeight=0");
        assert_eq!(
            told(257, &[("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]),
            "IOReadBandwidthMax=[(\"/dev/block/8:0\" 1) (\"/dev/block/8:16\" 2)]"
        );
    }

    #[test]
    fn the_period_of_a_live_cgroup_counts() {
        let quota = of_limits(&[write("cpu.max", "5000")], 257, Some(10_000));
        assert_eq!(quota[0].value, Value::U64(500_000));
        assert_eq!(quota[1].value, Value::U64(10_000));
    }

    #[test]
    fn bfq_weights_are_told_as_systemd_counts() {
        let mut op = write("io.bfq.weight", "500");
        if let Op::Write { missing, .. } = &mut op {
            *missing =
                Missing::Instead { file: "io.weight".to_owned(), values: vec!["4950".to_owned()] };
        }
        assert_eq!(of_limits(&[op], 257, None)[0].to_string(), "IOWeight=4950");
    }
}
