//! `linux.resources.blockIO`.

use std::fmt::Display;

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::{ControllerDir, Field, Plan, Version, device_number};
use crate::{Error, IfMissing};

macro_rules! field {
    ($name:literal) => {
        Field::Borrowed(concat!("linux.resources.blockIO.", $name))
    };
}

/// One kind of throttle: the devices, the field, the file of v1 and the key in io.max of v2.
type Throttle<'a> =
    (&'a Option<Vec<LinuxThrottleDevice>>, &'static str, &'static str, &'static str);

pub(super) fn plan(plan: &mut Plan<'_>, spec: &LinuxBlockIo) -> Result<(), Error> {
    // 0 means "not set": some engines always write the field.
    if let Some(value) = spec.weight().filter(|weight| *weight != 0) {
        let field = field!("weight");
        check_weight(value, &field)?;
        let dir = plan.dir("blkio", "io", field.clone())?;
        weight(plan, &dir, "", value, field);
    }
    if let Some(value) = spec.leaf_weight().filter(|weight| *weight != 0) {
        let field = field!("leafWeight");
        check_weight(value, &field)?;
        let dir = dir_v1(plan, &field)?;
        plan.write(&dir, "blkio.leaf_weight", value, field);
    }
    for (index, device) in spec.weight_device().iter().flatten().enumerate() {
        weight_device(plan, device, index)?;
    }
    let throttles: [Throttle<'_>; 4] = [
        (spec.throttle_read_bps_device(), "throttleReadBpsDevice", "read_bps", "rbps"),
        (spec.throttle_write_bps_device(), "throttleWriteBpsDevice", "write_bps", "wbps"),
        (spec.throttle_read_iops_device(), "throttleReadIOPSDevice", "read_iops", "riops"),
        (spec.throttle_write_iops_device(), "throttleWriteIOPSDevice", "write_iops", "wiops"),
    ];
    for (devices, name, file, key) in throttles {
        for (index, device) in devices.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            throttle(plan, device, file, key, field)?;
        }
    }
    Ok(())
}

fn weight_device(
    plan: &mut Plan<'_>,
    device: &LinuxWeightDevice,
    index: usize,
) -> Result<(), Error> {
    let field = format!("linux.resources.blockIO.weightDevice[{index}]");
    let number = device_number(device.major(), device.minor(), &field)?;
    if device.weight().is_none() && device.leaf_weight().is_none() {
        return Err(Error::value(field, "needs weight or leafWeight"));
    }
    if let Some(value) = device.weight() {
        check_weight(value, &field)?;
        let dir = plan.dir("blkio", "io", field.clone().into())?;
        weight(plan, &dir, &number, value, field.clone().into());
    }
    if let Some(value) = device.leaf_weight() {
        let field = format!("{field}.leafWeight");
        check_weight(value, &field)?;
        let dir = dir_v1(plan, &field)?;
        let line = format!("{number} {value}");
        plan.write(&dir, "blkio.leaf_weight_device", line, field.into());
    }
    Ok(())
}

/// The weight of the group (`device` empty) or for one device.
///
/// Two schedulers of the kernel have weights, each in its own file: `blkio.weight` (CFQ) and
/// `blkio.bfq.weight` on v1, `io.bfq.weight` (with the spec's range) and `io.weight` (blk-iocost, 1
/// to 10000) on v2.
fn weight(plan: &mut Plan<'_>, dir: &ControllerDir, device: &str, value: u16, field: Field) {
    let line = |value: &dyn Display| match device {
        "" => value.to_string(),
        device => format!("{device} {value}"),
    };
    let (file, other, other_value) = match (dir.version, device) {
        (Version::V1, "") => ("blkio.weight", "blkio.bfq.weight", line(&value)),
        (Version::V1, _) => ("blkio.weight_device", "blkio.bfq.weight_device", line(&value)),
        (Version::V2, _) => ("io.bfq.weight", "io.weight", line(&iocost_weight(value))),
    };
    let instead = IfMissing::WriteInstead { file: other.to_owned(), values: vec![other_value] };
    plan.write_or(dir, file, vec![line(&value)], instead, field);
}

/// Maps 10..1000 linearly to 1..10000, as all runtimes do.
fn iocost_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

fn check_weight(weight: u16, field: &str) -> Result<(), Error> {
    if (10..=1000).contains(&weight) {
        return Ok(());
    }
    Err(Error::value(field.to_owned(), format!("{weight} is not in 10 to 1000")))
}

fn throttle(
    plan: &mut Plan<'_>,
    device: &LinuxThrottleDevice,
    file: &str,
    key: &str,
    field: String,
) -> Result<(), Error> {
    let number = device_number(device.major(), device.minor(), &field)?;
    let dir = plan.dir("blkio", "io", field.clone().into())?;
    match dir.version {
        Version::V1 => {
            let line = format!("{number} {}", device.rate());
            plan.write(&dir, &format!("blkio.throttle.{file}_device"), line, field.into());
        }
        Version::V2 => {
            // 0 removes a limit on v1; in io.max that is `max`.
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            plan.write(&dir, "io.max", format!("{number} {key}={rate}"), field.into());
        }
    }
    Ok(())
}

/// Leaf weights exist in cgroup v1 only.
fn dir_v1(plan: &mut Plan<'_>, field: &str) -> Result<ControllerDir, Error> {
    let dir = plan.dir("blkio", "io", field.to_owned().into())?;
    match dir.version {
        Version::V1 => Ok(dir),
        Version::V2 => Err(Error::NotOnV2 { field: field.to_owned().into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::iocost_weight;

    #[test]
    fn weights_cover_the_range() {
        for (weight, expected) in [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(iocost_weight(weight), expected);
        }
    }
}
