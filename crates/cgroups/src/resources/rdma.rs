//! `linux.resources.rdma`: one file with one format in both versions of cgroups.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::LinuxRdma;

use super::{Plan, one_word};
use crate::Error;

pub(super) fn plan(plan: &mut Plan<'_>, limits: &HashMap<String, LinuxRdma>) -> Result<(), Error> {
    let sorted: BTreeMap<_, _> = limits.iter().collect();
    for (device, limit) in sorted {
        let field = format!("linux.resources.rdma[{device:?}]");
        one_word(device, &field)?;
        let mut line = device.clone();
        if let Some(handles) = limit.hca_handles() {
            line.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limit.hca_objects() {
            line.push_str(&format!(" hca_object={objects}"));
        }
        if line == *device {
            return Err(Error::value(field, "needs hcaHandles or hcaObjects"));
        }
        let dir = plan.dir("rdma", "rdma", field.clone().into())?;
        plan.write(&dir, "rdma.max", line, field.into());
    }
    Ok(())
}
