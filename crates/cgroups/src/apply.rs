//! Doing the steps. System calls only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Uid, fchownat};
use sys::{During, Failure, bpf};

use crate::devices::{Program, kept};
use crate::make::make;
use crate::systemd::{Trouble, Unit};
use crate::{Missing, Op, file};

/// The most filters that cgroup may have (BPF_CGROUP_MAX_PROGS).
const MAX_FILTERS: usize = 64;

/// The name of systemd's own filters (`DevicePolicy=` of an administrator): they stay.
const OF_SYSTEMD: &[u8] = b"sd_devices";

/// What the steps need beside themselves, and what was said when one failed.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The container's first process, for steps that put it somewhere ([`Op::wants_process`]).
    pub process: Option<i32>,
    /// systemd's words about the step that failed; empty where it was a system call.
    pub said: String,
}

/// What there is after [`apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// The directories that did not exist before, parents first.
    pub created: Vec<PathBuf>,
    /// The container's directory in each tree, in the order of the plan.
    pub(crate) directories: Vec<(PathBuf, OwnedFd)>,
    /// The way into the sub-cgroup for the container's own use.
    pub(crate) own: Option<OwnedFd>,
}

/// Does the steps, in order.
///
/// # Errors
/// The step that failed. What was made until then is in the way of nobody, and goes with
/// [`crate::Cgroup::remove`]; see [`Op::hint`] for words about it.
pub fn apply(ops: &[Op], context: &mut Context) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    for (index, op) in ops.iter().enumerate() {
        applied.step(op, context.process).map_err(|trouble| {
            context.said = trouble.said;
            Failure::new(index, trouble.error)
        })?;
    }
    Ok(applied)
}

impl Applied {
    fn step(&mut self, op: &Op, process: Option<i32>) -> Result<(), Trouble> {
        match op {
            Op::StartUnit { mountpoint, path, unit, properties } => {
                let process = process.ok_or(sys::Error::new("StartTransientUnit", Errno::ESRCH))?;
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

    /// A step that is between the kernel and us.
    fn kernel_step(&mut self, op: &Op) -> Result<(), sys::Error> {
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
            Op::Write { directory, file, values, missing, .. } => {
                write(self.open(directory)?, file, values, missing)
            }
            Op::CheckUsage { directory, limit } => check_usage(self.open(directory)?, *limit),
            Op::Devices { directory, program, optional } => {
                let fresh = self.created.contains(directory);
                match filter_devices(self.open(directory)?, program, fresh) {
                    Err(error) if *optional && error.errno == Errno::EPERM => Ok(()),
                    result => result,
                }
            }
            Op::Own { directory, name, uid } => {
                let (top, name) = (self.open(directory)?, Path::new(name));
                self.own = Some(make_own(top, name, *uid)?);
                Ok(())
            }
            Op::Delegate { directory, uid } => delegate(self.open(directory)?, *uid),
        }
    }

    /// The open directory of a container; opened now where this plan did not make it (update).
    fn open(&mut self, directory: &Path) -> Result<BorrowedFd<'_>, sys::Error> {
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
            None => Err(sys::Error::new("open", Errno::EBADF)),
        }
    }
}

/// systemd puts the process into a scope by itself; into a slice we do. Where it is then is looked at:
/// all that follows is done to that directory.
fn enter_unit(
    directory: &Path,
    path: &Path,
    unit: &Unit,
    process: i32,
) -> Result<OwnedFd, Trouble> {
    let opened = file::directory(directory).map_err(|error| match error.errno {
        Errno::ENOENT => Trouble::new("StartTransientUnit", Errno::EPROTO, "made no such cgroup"),
        _ => error.into(),
    })?;
    if unit.is_slice() {
        file::write(opened.as_fd(), "cgroup.procs", &process.to_string())?;
    }
    is_in(process, path).map(|()| opened)
}

fn is_in(process: i32, path: &Path) -> Result<(), Trouble> {
    let text = file::read_path(Path::new(&format!("/proc/{process}/cgroup")))?;
    let place = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    if Path::new(place.trim_start_matches('/')) == path {
        return Ok(());
    }
    let said = format!("the process is in {place} and not where the unit was expected");
    Err(Trouble::new("StartTransientUnit", Errno::EPROTO, said))
}

/// All controllers with one write(2), which the kernel takes as a whole or not at all; one by one
/// where it does not.
fn enable(
    directory: BorrowedFd<'_>,
    needed: &[String],
    wanted: &[String],
) -> Result<(), sys::Error> {
    let control = "cgroup.subtree_control";
    let words: Vec<String> = needed.iter().chain(wanted).map(|name| format!("+{name}")).collect();
    if file::write(directory, control, &words.join(" ")).is_ok() {
        return Ok(());
    }
    for name in needed {
        if let Err(error) = file::write(directory, control, &format!("+{name}")) {
            // A level that belongs to another user may have given it to us already.
            let enabled = file::read(directory, control).unwrap_or_default();
            if !enabled.split_whitespace().any(|other| other == name) {
                return Err(error);
            }
        }
    }
    for name in wanted {
        // Without it there are no figures to show; nothing else is lost.
        let _ = file::write(directory, control, &format!("+{name}"));
    }
    Ok(())
}

fn write(
    directory: BorrowedFd<'_>,
    name: &str,
    values: &[String],
    missing: &Missing,
) -> Result<(), sys::Error> {
    match (write_values(directory, name, values), missing) {
        (Err(error), Missing::Fine) if error.errno == Errno::ENOENT => Ok(()),
        (Err(error), Missing::Instead { file, values }) if error.errno == Errno::ENOENT => {
            write_values(directory, file, values)
        }
        (result, _) => result,
    }
}

fn write_values(
    directory: BorrowedFd<'_>,
    name: &str,
    values: &[String],
) -> Result<(), sys::Error> {
    let file = file::open(directory, name, nix::fcntl::OFlag::O_WRONLY)?;
    for value in values {
        nix::unistd::write(&file, value.as_bytes()).during("write")?;
    }
    Ok(())
}

fn check_usage(directory: BorrowedFd<'_>, limit: u64) -> Result<(), sys::Error> {
    let usage = file::read(directory, "memory.current")?;
    match usage.trim().parse::<u64>() {
        // The errno with which cgroup v1 refuses such a limit by itself.
        Ok(usage) if usage > limit => Err(sys::Error::new("memory.current", Errno::EBUSY)),
        _ => Ok(()),
    }
}

/// Attaches the filter, and takes away the ones that were there: never a moment without one.
fn filter_devices(
    cgroup: BorrowedFd<'_>,
    program: &Program,
    fresh: bool,
) -> Result<(), sys::Error> {
    if fresh {
        return bpf::attach_device_filter(cgroup, kept::filter(program)?.as_fd(), None);
    }
    // No kept one: a cgroup does not take the same program twice.
    let filter = kept::load(program)?;
    let mut ids = [0; MAX_FILTERS];
    let count = bpf::query_device_filters(cgroup, &mut ids)?;
    let mut old = Vec::new();
    for id in ids.iter().take(count) {
        let program = bpf::program_by_id(*id)?;
        if !bpf::program_name(program.as_fd())?.starts_with(OF_SYSTEMD) {
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
    // All filters of a cgroup have to agree, so a second one only takes away.
    bpf::attach_device_filter(cgroup, filter.as_fd(), None)?;
    for filter in &old {
        bpf::detach_device_filter(cgroup, filter.as_fd())?;
    }
    Ok(())
}

/// The `cgroup.procs` of a new sub-cgroup, open for writing: a process enters it once its cgroup
/// namespace begins one level above.
fn make_own(top: BorrowedFd<'_>, name: &Path, uid: Option<u32>) -> Result<OwnedFd, sys::Error> {
    match mkdirat(top, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).during("mkdirat"),
    }
    let directory = file::subdirectory(top, name)?;
    if let Some(uid) = uid {
        delegate(directory.as_fd(), uid)?;
    }
    file::open(directory.as_fd(), "cgroup.procs", OFlag::O_WRONLY)
}

/// The directory and the files that the kernel says a delegatee needs (cgroups(7)).
fn delegate(directory: BorrowedFd<'_>, uid: u32) -> Result<(), sys::Error> {
    const KNOWN: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let files = match std::fs::read_to_string("/sys/kernel/cgroup/delegate") {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => KNOWN.to_owned(),
        result => result.during("read")?,
    };
    let owner = Some(Uid::from_raw(uid));
    fchownat(directory, ".", owner, None, AtFlags::AT_SYMLINK_NOFOLLOW).during("fchownat")?;
    for name in files.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        match fchownat(directory, name, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Not every cgroup has every file.
            Err(Errno::ENOENT) => {}
            result => result.during("fchownat")?,
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

        fn write(&self, file: &str, values: &[&str], missing: Missing) -> Op {
            Op::Write {
                directory: self.0.path().to_path_buf(),
                file: file.to_owned(),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                missing,
                field: "linux.resources.x".into(),
            }
        }
    }

    #[test]
    fn files_are_written_in_order() {
        let fake = Fake::new(&[("io.max", ""), ("io.weight", "")]);
        let instead =
            |file: &str| Missing::Instead { file: file.to_owned(), values: vec!["910".to_owned()] };
        apply(
            &[
                fake.write("io.max", &["one ", "two"], Missing::Refused),
                fake.write("nosuch", &["x"], Missing::Fine),
                fake.write("io.bfq.weight", &["100"], instead("io.weight")),
            ],
            &mut Context::default(),
        )
        .unwrap();
        assert_eq!(fake.read("io.max"), "one two");
        assert_eq!(fake.read("io.weight"), "910");
    }

    #[test]
    fn a_failure_names_its_step() {
        let fake = Fake::new(&[("a", "")]);
        let ops = [
            fake.write("a", &["1"], Missing::Refused),
            fake.write("memory.max", &["1"], Missing::Refused),
        ];
        let failure = apply(&ops, &mut Context::default()).unwrap_err();
        assert_eq!((failure.op, failure.error.errno), (1, Errno::ENOENT));
        assert_eq!(ops[1].hint(&failure.error), Some("this kernel does not have the file"));
        // Nothing is ever created by a write.
        assert!(!fake.0.path().join("memory.max").exists());
    }

    #[test]
    fn a_limit_below_the_usage_is_refused_when_asked_for() {
        let fake = Fake::new(&[("memory.current", "4096\n")]);
        let check = |limit| Op::CheckUsage { directory: fake.0.path().to_path_buf(), limit };
        apply(&[check(4096)], &mut Context::default()).unwrap();
        let failure = apply(&[check(4095)], &mut Context::default()).unwrap_err();
        assert_eq!(failure.error.to_string(), "memory.current: device or resource busy");
    }

    #[test]
    fn delegation_gives_the_directory_and_the_listed_files_only() {
        if !nix::unistd::geteuid().is_root() {
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
        // A directory in the place of the file: reading and writing fail, so nothing is given.
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
