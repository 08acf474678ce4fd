//! `linux.resources` -> files and values, in the tree that has the controller.

mod block_io;
mod cpu;
mod hugetlb;
mod memory;
mod network;
mod pids;
mod rdma;
mod unified;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::path::parents;
use crate::{Current, Error, IfMissing, Layout, Op};

type Field = Cow<'static, str>;

/// The operations so far.
pub(crate) struct Plan<'a> {
    layout: &'a Layout,
    path: &'a Path,
    /// The limits of an existing cgroup; `None` for a new one.
    current: Option<Current>,
    /// The cgroup v2 controllers needed, in order of need, each with the first field that needs it.
    needed: Vec<(String, Field)>,
    steps: Vec<Op>,
}

/// The version of the tree that has a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The controllers of cgroup v2 to enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controllers {
    /// Those that a limit needs.
    Needed,
    /// All that the host has, if it has cgroup v2 alone: for statistics (`podman stats`), for later
    /// updates, and for a container that delegates them further.
    All,
}

/// The container's directory in the tree that has a controller.
struct ControllerDir {
    version: Version,
    directory: PathBuf,
}

pub(crate) fn plan(plan: &mut Plan<'_>, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        memory::plan(plan, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::plan(plan, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        pids::plan(plan, *pids)?;
    }
    if let Some(block_io) = resources.block_io() {
        block_io::plan(plan, block_io)?;
    }
    if let Some(limits) = resources.hugepage_limits() {
        hugetlb::plan(plan, limits)?;
    }
    if let Some(rdma) = resources.rdma() {
        rdma::plan(plan, rdma)?;
    }
    if let Some(network) = resources.network() {
        network::plan(plan, network)?;
    }
    // Last, so that a file that is named explicitly takes precedence.
    if let Some(files) = resources.unified() {
        unified::plan(plan, files)?;
    }
    Ok(())
}

/// Warnings about values that are treated differently from the specification.
#[must_use]
pub fn warnings(resources: Option<&LinuxResources>) -> Vec<String> {
    let pids = resources.and_then(|resources| *resources.pids());
    pids.and_then(pids::warning).into_iter().collect()
}

impl<'a> Plan<'a> {
    pub(crate) fn new(layout: &'a Layout, path: &'a Path) -> Self {
        Self { layout, path, current: None, needed: Vec::new(), steps: Vec::new() }
    }

    /// A plan for a cgroup that has limits already.
    pub(crate) fn for_update(layout: &'a Layout, path: &'a Path, current: Current) -> Self {
        Self { current: Some(current), ..Self::new(layout, path) }
    }

    /// The directory of a controller by its name in v1 and in v2.
    fn dir(
        &mut self,
        v1: &'static str,
        v2: &'static str,
        field: Field,
    ) -> Result<ControllerDir, Error> {
        if let Some(tree) = self.layout.hierarchy(v1) {
            return Ok(ControllerDir {
                version: Version::V1,
                directory: tree.mountpoint.join(self.path),
            });
        }
        let named = if self.layout.unified.is_some() { v2 } else { v1 };
        self.dir_v2(named, field)
    }

    /// The directory of a cgroup v2 controller.
    fn dir_v2(&mut self, controller: &str, field: Field) -> Result<ControllerDir, Error> {
        let Some(tree) = self.layout.unified_with(controller) else {
            return Err(Error::NoController { field, controller: controller.to_owned().into() });
        };
        let directory = tree.mountpoint.join(self.path);
        if !self.needed.iter().any(|(name, _)| name == controller) {
            self.needed.push((controller.to_owned(), field));
        }
        Ok(ControllerDir { version: Version::V2, directory })
    }

    fn write(&mut self, dir: &ControllerDir, file: &str, value: impl ToString, field: Field) {
        self.write_or(dir, file, vec![value.to_string()], IfMissing::Fail, field);
    }

    fn write_or(
        &mut self,
        dir: &ControllerDir,
        file: &str,
        values: Vec<String>,
        if_missing: IfMissing,
        field: Field,
    ) {
        self.steps.push(Op::Write {
            directory: dir.directory.clone(),
            file: file.to_owned(),
            values,
            if_missing,
            field,
        });
    }

    fn push(&mut self, op: Op) {
        self.steps.push(op);
    }

    /// The first field for which a file is written.
    pub(crate) fn first_field(&self) -> Option<Field> {
        self.steps.iter().find_map(|op| match op {
            Op::Write { field, .. } => Some(field.clone()),
            _ => None,
        })
    }

    /// The operations: controllers first, then limits.
    pub(crate) fn into_ops(self, controllers: Controllers) -> Vec<Op> {
        let Some(tree) = &self.layout.unified else { return self.steps };
        let needed: Vec<String> = self.needed.iter().map(|(name, _)| name.clone()).collect();
        let fields: Vec<&str> = self.needed.iter().map(|(_, field)| field.as_ref()).collect();
        let offered = match controllers {
            Controllers::All if self.layout.hierarchies.is_empty() => tree.controllers.as_slice(),
            _ => &[],
        };
        let wanted: Vec<String> =
            offered.iter().filter(|name| !needed.contains(name)).cloned().collect();
        if needed.is_empty() && wanted.is_empty() {
            return self.steps;
        }
        let mut ops: Vec<Op> = parents(&tree.mountpoint, self.path)
            .map(|directory| Op::Enable {
                directory,
                needed: needed.clone(),
                wanted: wanted.clone(),
                field: fields.join(", "),
            })
            .collect();
        ops.extend(self.steps);
        ops
    }
}

/// A limit for which -1 means "no limit": `max` in cgroup v2.
fn or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// Refuses a name that is not one word of a line for the kernel.
fn one_word(name: &str, field: &str) -> Result<(), Error> {
    let bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad {
        Err(Error::value(field.to_owned(), format!("{name:?} is not a name")))
    } else {
        Ok(())
    }
}

/// `major:minor`, if both are valid device numbers (12 and 20 bits, makedev(3)).
fn device_number(major: i64, minor: i64, field: &str) -> Result<String, Error> {
    if (0..1 << 12).contains(&major) && (0..1 << 20).contains(&minor) {
        return Ok(format!("{major}:{minor}"));
    }
    Err(Error::value(field.to_owned(), format!("{major}:{minor} is not a device number")))
}
