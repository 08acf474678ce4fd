//! `linux.resources` -> files and values, each controller where this host has it.

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

use crate::plan::above;
use crate::{Current, Error, Layout, Missing, Op};

type Field = Cow<'static, str>;

/// The steps gathered so far.
pub(crate) struct Plan<'a> {
    layout: &'a Layout,
    path: &'a Path,
    /// The limits of a cgroup that lives; none of one that is going to be made.
    current: Option<Current>,
    /// The cgroup v2 controllers needed, in order of need, each with the first field that needs it.
    needed: Vec<(String, Field)>,
    steps: Vec<Op>,
}

/// Which kind of tree a controller is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where the files of one controller are.
struct Place {
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
    // Last: who names a file of the kernel means that file.
    if let Some(files) = resources.unified() {
        unified::plan(plan, files)?;
    }
    Ok(())
}

impl<'a> Plan<'a> {
    pub(crate) fn new(layout: &'a Layout, path: &'a Path) -> Self {
        Self { layout, path, current: None, needed: Vec::new(), steps: Vec::new() }
    }

    /// For a cgroup that has limits already.
    pub(crate) fn for_update(layout: &'a Layout, path: &'a Path, current: Current) -> Self {
        Self { current: Some(current), ..Self::new(layout, path) }
    }

    /// Where a controller is that has one name in v1 and maybe another in v2.
    fn place(&mut self, v1: &'static str, v2: &'static str, field: Field) -> Result<Place, Error> {
        if let Some(tree) = self.layout.hierarchy(v1) {
            return Ok(Place { version: Version::V1, directory: tree.mountpoint.join(self.path) });
        }
        let named = if self.layout.unified.is_some() { v2 } else { v1 };
        self.place_v2(named, field)
    }

    /// Where a controller of cgroup v2 is.
    fn place_v2(&mut self, controller: &str, field: Field) -> Result<Place, Error> {
        let Some(tree) = self.layout.unified_with(controller) else {
            return Err(Error::NoController { field, controller: controller.to_owned().into() });
        };
        let directory = tree.mountpoint.join(self.path);
        if !self.needed.iter().any(|(name, _)| name == controller) {
            self.needed.push((controller.to_owned(), field));
        }
        Ok(Place { version: Version::V2, directory })
    }

    fn write(&mut self, place: &Place, file: &str, value: impl ToString, field: Field) {
        self.write_or(place, file, vec![value.to_string()], Missing::Refused, field);
    }

    fn write_or(
        &mut self,
        place: &Place,
        file: &str,
        values: Vec<String>,
        missing: Missing,
        field: Field,
    ) {
        self.steps.push(Op::Write {
            directory: place.directory.clone(),
            file: file.to_owned(),
            values,
            missing,
            field,
        });
    }

    fn push(&mut self, op: Op) {
        self.steps.push(op);
    }

    /// The first field that something must be written for.
    pub(crate) fn first_field(&self) -> Option<Field> {
        self.steps.iter().find_map(|op| match op {
            Op::Write { field, .. } => Some(field.clone()),
            _ => None,
        })
    }

    /// Controllers first (the needed ones, and of `accounting` what the host has), then the limits.
    pub(crate) fn into_ops(self, accounting: &[&str]) -> Vec<Op> {
        let Some(tree) = &self.layout.unified else { return self.steps };
        let needed: Vec<String> = self.needed.iter().map(|(name, _)| name.clone()).collect();
        let fields: Vec<&str> = self.needed.iter().map(|(_, field)| field.as_ref()).collect();
        let wanted: Vec<String> = accounting
            .iter()
            .map(|name| (*name).to_owned())
            .filter(|name| tree.controllers.contains(name) && !needed.contains(name))
            .collect();
        if needed.is_empty() && wanted.is_empty() {
            return self.steps;
        }
        let mut ops: Vec<Op> = above(&tree.mountpoint, self.path)
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

/// A limit of which -1 means "none": `max` in cgroup v2.
fn or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// A name that becomes a word of a line for the kernel: it must stay one word.
fn one_word(name: &str, field: &str) -> Result<(), Error> {
    let bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad {
        Err(Error::value(field.to_owned(), format!("{name:?} is not a name")))
    } else {
        Ok(())
    }
}

/// `major:minor`, where both can be device numbers (12 and 20 bits, makedev(3)).
fn device_number(major: i64, minor: i64, field: &str) -> Result<String, Error> {
    if (0..1 << 12).contains(&major) && (0..1 << 20).contains(&minor) {
        return Ok(format!("{major}:{minor}"));
    }
    Err(Error::value(field.to_owned(), format!("{major}:{minor} is not a device number")))
}
