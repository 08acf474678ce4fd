//! Performing the operations. System calls only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_sys::{Failure, OsContext, bpf};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Uid, fchownat};

use crate::devices::{Program, cache};
use crate::make::make;
use crate::systemd::{BusError, Unit};
use crate::{IfMissing, Op, file};

/// Maximum number of filters of a cgroup (BPF_CGROUP_MAX_PROGS).
const MAX_FILTERS: usize = 64;

/// The name of systemd's own filters (`DevicePolicy=` of an administrator), which are not replaced.
const SYSTEMD_FILTER: &[u8] = b"sd_devices";

/// Input of the operations beside the plan, and the detail of a failure.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The container's first process, for operations that need it ([`Op::needs_process`]).
    pub process: Option<i32>,
    /// The error text of systemd; empty if a system call failed.
    pub detail: String,
}

/// The result of [`apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// The directories that were created, parents first.
    pub created: Vec<PathBuf>,
    /// The container's directory in each tree, in the order of the plan.
    pub(crate) directories: Vec<(PathBuf, OwnedFd)>,
    /// `cgroup.procs` of the sub-cgroup in which the container's process starts.
    pub(crate) subgroup: Option<OwnedFd>,
}

/// Performs the operations in order.
///
/// # Errors
/// The operation that failed. [`crate::Cgroup::remove`] removes what was created until then;
/// [`Op::hint`] has advice.
pub fn apply(ops: &[Op], context: &mut Context) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    for (index, op) in ops.iter().enumerate() {
        let perform = || applied.step(op, context.process);
        davit_sys::trace::operation("cgroup", op, perform).map_err(|error| {
            context.detail = error.detail;
            Failure::new(index, error.error)
        })?;
    }
    Ok(applied)
}

impl Applied {
    fn step(&mut self, op: &Op, process: Option<i32>) -> Result<(), BusError> {
        match op {
            Op::StartUnit { mountpoint, path, unit, properties } => {
                let process =
                    process.ok_or(davit_sys::Error::new("StartTransientUnit", Errno::ESRCH))?;
                unit.start(properties, process, || is_in(process, path).is_ok())?;
                let directory = mountpoint.join(path);
                let opened = enter_unit(&directory, path, unit, process)?;
                self.created.push(directory.clone());
                self.directories.push((directory, opened));
                Ok(())
            }
            Op::SetProperties { unit, properties } => unit.set(properties),
            _ => Ok(self.kernel_step(op)?),
        }
    }

    /// An operation that needs the kernel alone.
    fn kernel_step(&mut self, op: &Op) -> Result<(), davit_sys::Error> {
        match op {
            Op::StartUnit { .. } | Op::SetProperties { .. } => Ok(()),
            Op::Make { mountpoint, path, controllers } => {
                let made = make(mountpoint, path, controllers)?;
                self.directories.push((mountpoint.join(path), made.directory));
                self.created.extend(made.created);
                Ok(())
            }
            Op::Enable { directory, needed, wanted, .. } => {
                enable(file::directory(directory)?.as_fd(), needed, wanted)
            }
            Op::Write { directory, file, values, if_missing, .. } => {
                write(self.open(directory)?, file, values, if_missing)
            }
            Op::CheckUsage { directory, limit } => check_usage(self.open(directory)?, *limit),
            Op::Devices { directory, program, optional } => {
                let is_new = self.created.contains(directory);
                match filter_devices(self.open(directory)?, program, is_new) {
                    Err(error) if *optional && error.errno == Errno::EPERM => Ok(()),
                    result => result,
                }
            }
            Op::CreateSubgroup { directory, name, uid } => {
                let (top, name) = (self.open(directory)?, Path::new(name));
                self.subgroup = Some(create_subgroup(top, name, *uid)?);
                Ok(())
            }
            Op::Delegate { directory, uid } => delegate(self.open(directory)?, *uid),
        }
    }

    /// The open directory of a container; an update opens it here.
    fn open(&mut self, directory: &Path) -> Result<BorrowedFd<'_>, davit_sys::Error> {
        let known = self.directories.iter().position(|(path, _)| path == directory);
        let index = match known {
            Some(index) => index,
            None => {
                self.directories.push((directory.to_path_buf(), file::directory(directory)?));
                self.directories.len() - 1
            }
        };
        match self.directories.get(index) {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(davit_sys::Error::new("open", Errno::EBADF)),
        }
    }
}

/// Moves the process into a slice; systemd has moved it into a scope. The process must be there
/// then, because all later operations change that directory.
fn enter_unit(
    directory: &Path,
    path: &Path,
    unit: &Unit,
    process: i32,
) -> Result<OwnedFd, BusError> {
    let opened = file::directory(directory).map_err(|error| match error.errno {
        Errno::ENOENT => {
            BusError::new("StartTransientUnit", Errno::EPROTO, "systemd did not create the cgroup")
        }
        _ => error.into(),
    })?;
    if unit.is_slice() {
        file::write(opened.as_fd(), "cgroup.procs", &process.to_string())?;
    }
    is_in(process, path).map(|()| opened)
}

fn is_in(process: i32, path: &Path) -> Result<(), BusError> {
    let text = file::read_path(Path::new(&format!("/proc/{process}/cgroup")))?;
    let cgroup = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    if Path::new(cgroup.trim_start_matches('/')) == path {
        return Ok(());
    }
    let detail = format!("the process is in {cgroup} and not in the cgroup of the unit");
    Err(BusError::new("StartTransientUnit", Errno::EPROTO, detail))
}

/// Enables all controllers with one write(2), which the kernel accepts or refuses as a whole; if it
/// refuses, one by one.
fn enable(
    directory: BorrowedFd<'_>,
    needed: &[String],
    wanted: &[String],
) -> Result<(), davit_sys::Error> {
    let control = "cgroup.subtree_control";
    let words: Vec<String> = needed.iter().chain(wanted).map(|name| format!("+{name}")).collect();
    if file::write(directory, control, &words.join(" ")).is_ok() {
        return Ok(());
    }
    for name in needed {
        if let Err(error) = file::write(directory, control, &format!("+{name}")) {
            // A directory of another user may have it enabled already.
            let enabled = file::read(directory, control).unwrap_or_default();
            if !enabled.split_whitespace().any(|other| other == name) {
                return Err(error);
            }
        }
    }
    for name in wanted {
        // Without it only statistics and later limits are missing.
        let _ = file::write(directory, control, &format!("+{name}"));
    }
    Ok(())
}

fn write(
    directory: BorrowedFd<'_>,
    name: &str,
    values: &[String],
    if_missing: &IfMissing,
) -> Result<(), davit_sys::Error> {
    match (write_values(directory, name, values), if_missing) {
        (Err(error), IfMissing::Ignore) if error.errno == Errno::ENOENT => Ok(()),
        (Err(error), IfMissing::WriteInstead { file, values }) if error.errno == Errno::ENOENT => {
            write_values(directory, file, values)
        }
        (result, _) => result,
    }
}

fn write_values(
    directory: BorrowedFd<'_>,
    name: &str,
    values: &[String],
) -> Result<(), davit_sys::Error> {
    let file = file::open(directory, name, nix::fcntl::OFlag::O_WRONLY)?;
    for value in values {
        nix::unistd::write(&file, value.as_bytes()).syscall("write")?;
    }
    Ok(())
}

fn check_usage(directory: BorrowedFd<'_>, limit: u64) -> Result<(), davit_sys::Error> {
    let usage = file::read(directory, "memory.current")?;
    match usage.trim().parse::<u64>() {
        // cgroup v1 refuses such a limit with this errno.
        Ok(usage) if usage > limit => Err(davit_sys::Error::new("memory.current", Errno::EBUSY)),
        _ => Ok(()),
    }
}

/// Attaches the filter, then detaches the present ones, so that the cgroup always has one.
fn filter_devices(
    cgroup: BorrowedFd<'_>,
    program: &Program,
    is_new: bool,
) -> Result<(), davit_sys::Error> {
    if is_new {
        return bpf::attach_device_filter(cgroup, cache::filter(program)?.as_fd(), None);
    }
    // Not a cached one: a cgroup refuses the same program twice.
    let filter = cache::load(program)?;
    let mut ids = [0; MAX_FILTERS];
    let count = bpf::query_device_filters(cgroup, &mut ids)?;
    let mut old = Vec::new();
    for id in ids.iter().take(count) {
        let program = bpf::program_by_id(*id)?;
        if !bpf::program_name(program.as_fd())?.starts_with(SYSTEMD_FILTER) {
            old.push(program);
        }
    }
    if let [one] = old.as_slice() {
        match bpf::attach_device_filter(cgroup, filter.as_fd(), Some(one.as_fd())) {
            // Linux before 5.6 cannot replace.
            Err(error) if error.errno == Errno::EINVAL => {}
            result => return result,
        }
    }
    // A cgroup allows what all of its filters allow, so a second one only restricts.
    bpf::attach_device_filter(cgroup, filter.as_fd(), None)?;
    for filter in &old {
        bpf::detach_device_filter(cgroup, filter.as_fd())?;
    }
    Ok(())
}

/// Creates a sub-cgroup and opens its `cgroup.procs` for writing: the process enters it after it
/// has created its cgroup namespace, whose root is the parent.
fn create_subgroup(
    top: BorrowedFd<'_>,
    name: &Path,
    uid: Option<u32>,
) -> Result<OwnedFd, davit_sys::Error> {
    match mkdirat(top, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).syscall("mkdirat"),
    }
    let directory = file::subdirectory(top, name)?;
    if let Some(uid) = uid {
        delegate(directory.as_fd(), uid)?;
    }
    file::open(directory.as_fd(), "cgroup.procs", OFlag::O_WRONLY)
}

/// Changes the owner of the directory and of the files that the kernel lists (cgroups(7)).
fn delegate(directory: BorrowedFd<'_>, uid: u32) -> Result<(), davit_sys::Error> {
    const DEFAULT: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let files = match std::fs::read_to_string("/sys/kernel/cgroup/delegate") {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => DEFAULT.to_owned(),
        result => result.syscall("read")?,
    };
    let owner = Some(Uid::from_raw(uid));
    fchownat(directory, ".", owner, None, AtFlags::AT_SYMLINK_NOFOLLOW).syscall("fchownat")?;
    for name in files.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        match fchownat(directory, name, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Not every cgroup has every file.
            Err(Errno::ENOENT) => {}
            result => result.syscall("fchownat")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in files {
                fs::write(directory.path().join(name), content).unwrap();
            }
            Self(directory)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.path().join(name)).unwrap()
        }

        fn write(&self, file: &str, values: &[&str], if_missing: IfMissing) -> Op {
            Op::Write {
                directory: self.0.path().to_path_buf(),
                file: file.to_owned(),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                if_missing,
                field: "linux.resources.x".into(),
            }
        }
    }

    #[test]
    fn files_are_written_in_order() {
        let fake = Fake::new(&[("io.max", ""), ("io.weight", "")]);
        let instead = |file: &str| IfMissing::WriteInstead {
            file: file.to_owned(),
            values: vec!["910".to_owned()],
        };
        apply(
            &[
                fake.write("io.max", &["one ", "two"], IfMissing::Fail),
                fake.write("nosuch", &["x"], IfMissing::Ignore),
                fake.write("io.bfq.weight", &["100"], instead("io.weight")),
            ],
            &mut Context::default(),
        )
        .unwrap();
        assert_eq!(fake.read("io.max"), "one two");
        assert_eq!(fake.read("io.weight"), "910");
    }

    #[test]
    fn a_failure_names_its_operation() {
        let fake = Fake::new(&[("a", "")]);
        let ops = [
            fake.write("a", &["1"], IfMissing::Fail),
            fake.write("memory.max", &["1"], IfMissing::Fail),
        ];
        let failure = apply(&ops, &mut Context::default()).unwrap_err();
        assert_eq!((failure.op, failure.error.errno), (1, Errno::ENOENT));
        assert_eq!(
            ops[1].hint(&failure.error).as_deref(),
            Some("this kernel does not have the file")
        );
        // Nothing is ever created by a write.
        assert!(!fake.0.path().join("memory.max").exists());
    }

    #[test]
    fn a_limit_below_the_usage_is_refused_if_requested() {
        let fake = Fake::new(&[("memory.current", "4096\n")]);
        let check = |limit| Op::CheckUsage { directory: fake.0.path().to_path_buf(), limit };
        apply(&[check(4096)], &mut Context::default()).unwrap();
        let failure = apply(&[check(4095)], &mut Context::default()).unwrap_err();
        assert_eq!(failure.error.to_string(), "memory.current: device or resource busy");
    }

    #[test]
    fn delegation_changes_the_directory_and_the_listed_files_only() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skip: changing owners needs root");
            return;
        }
        let fake = Fake::new(&[("cgroup.procs", ""), ("memory.max", "")]);
        apply(
            &[Op::Delegate { directory: fake.0.path().to_path_buf(), uid: 1234 }],
            &mut Context::default(),
        )
        .unwrap();
        let owner = |name: &str| fs::metadata(fake.0.path().join(name)).unwrap().uid();
        assert_eq!((owner("."), owner("cgroup.procs"), owner("memory.max")), (1234, 1234, 0));
    }

    #[test]
    fn controllers_for_accounting_are_optional() {
        let fake = Fake::new(&[]);
        // A directory instead of the file: reading and writing fail.
        fs::create_dir(fake.0.path().join("cgroup.subtree_control")).unwrap();
        let enable = |needed: &[&str], wanted: &[&str]| Op::Enable {
            directory: fake.0.path().to_path_buf(),
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            wanted: wanted.iter().map(|name| (*name).to_owned()).collect(),
            field: String::new(),
        };
        apply(&[enable(&[], &["memory"])], &mut Context::default()).unwrap();
        assert!(apply(&[enable(&["memory"], &[])], &mut Context::default()).is_err());
    }
}
