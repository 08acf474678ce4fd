//! Facts of a running container that the plan of its checkpoint depends on.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_cgroups::Cgroup;
use davit_checkpoint::checkpoint::{Namespace, OpenStream};
use davit_checkpoint::mountinfo::{self, Mount};
use davit_namespaces::Kind;
use davit_sys::OsContext;
use davit_sys::path::{Links, c_string, open_in_root};
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlink};
use nix::sys::stat::{Mode, fstat, major, minor, stat};
use oci_spec::runtime::Spec;

use crate::error::{Result, Within};
use crate::state::Process;

/// What a checkpoint asks /proc for.
pub(super) struct Facts {
    pub(super) mounts: Vec<Mount>,
    pub(super) host_mounts: Vec<Mount>,
    pub(super) places: Vec<Option<PathBuf>>,
    pub(super) nodes: BTreeMap<PathBuf, PathBuf>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) streams: Vec<OpenStream>,
}

impl Facts {
    /// Discovers them, for a container whose init is alive.
    ///
    /// # Errors
    /// It has ended meanwhile.
    pub(super) fn discover(spec: &Spec, init: Process) -> Result<Self> {
        let mounts = mounts(&init.pid.to_string())?;
        let root = root(init.pid)?;
        let nodes = mounts.iter().map(|mount| mount.mountpoint.clone());
        let nodes = nodes.filter_map(|path| Some((path.clone(), node(&root, &path)?))).collect();
        let entries = spec.mounts().iter().flatten();
        Ok(Self {
            host_mounts: self::mounts("self")?,
            places: entries.map(|entry| place(&root, entry.destination())).collect(),
            nodes,
            namespaces: namespaces(spec, init.pid)?,
            streams: (0..3).filter_map(|number| stream(init.pid, number)).collect(),
            mounts,
        })
    }
}

/// Whether a process is in a cgroup of the container in every hierarchy that the kernel has,
/// mounted or not. CRIU writes down, and makes again, all that is below the cgroup of a process: in
/// the root of a hierarchy that is every cgroup of the host.
pub(super) fn is_in_own_cgroups(pid: i32, cgroup: Option<&Cgroup>) -> Result<bool> {
    let Some(cgroup) = cgroup else { return Ok(false) };
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).syscall("read").within(|| path)?;
    let is_own = |line: &str| {
        let place = line.splitn(3, ':').nth(2).and_then(|place| place.strip_prefix('/'));
        let is_below =
            |own: &Path| own != Path::new("") && Path::new(place.unwrap_or("")).starts_with(own);
        cgroup.members.iter().any(|member| is_below(&member.path))
    };
    Ok(text.lines().all(is_own))
}

fn mounts(pid: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{pid}/mountinfo");
    Ok(mountinfo::parse(&std::fs::read(&path).syscall("read").within(|| path)?))
}

fn root(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path.as_str(), flags, Mode::empty()).syscall("open").within(|| path)
}

fn open_inside(root: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    open_in_root(root.as_fd(), &c_string(path).ok()?, OFlag::O_PATH, Links::Follow).ok()
}

/// Where a path is, without the symbolic links of the container.
fn place(root: &OwnedFd, path: &Path) -> Option<PathBuf> {
    let opened = open_inside(root, path)?;
    let found = readlink(format!("/proc/self/fd/{}", opened.as_raw_fd()).as_str()).ok()?;
    Some(PathBuf::from(found))
}

/// The path on the host of a mounted device node: its own, or that of the null device, which masks
/// files.
fn node(root: &OwnedFd, path: &Path) -> Option<PathBuf> {
    let stat = fstat(&open_inside(root, path)?).ok()?;
    let is_device = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
    let is_null = stat.st_rdev == nix::sys::stat::makedev(1, 3);
    is_device.then(|| if is_null { PathBuf::from("/dev/null") } else { path.to_owned() })
}

/// The namespaces that the container does not share with this process.
fn namespaces(spec: &Spec, pid: i32) -> Result<Vec<Namespace>> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let mut namespaces = Vec::new();
    for one in list.into_iter().flatten() {
        let name = file_name(Kind::from(one.typ()));
        let path = format!("/proc/{pid}/ns/{name}");
        let inode = stat(path.as_str()).syscall("stat").within(|| path)?.st_ino;
        namespaces.push(Namespace { kind: one.typ(), inode, joined: one.path().is_some() });
    }
    Ok(namespaces)
}

/// The name of a namespace in /proc/PID/ns.
const fn file_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Mount => "mnt",
        Kind::Network => "net",
        other => other.name(),
    }
}

/// A standard stream; `None` if it is closed.
fn stream(pid: i32, number: u32) -> Option<OpenStream> {
    let file = OpenFile::of(pid, number)?;
    let stat = stat(format!("/proc/{pid}/fd/{number}").as_str()).ok()?;
    let has = |flag: i32| file.flags & u64::from(flag.cast_unsigned()) != 0;
    Some(OpenStream {
        link: file.link,
        file: file.place,
        is_regular: stat.st_mode & libc::S_IFMT == libc::S_IFREG,
        is_appended: has(libc::O_APPEND) && has(libc::O_WRONLY),
    })
}

/// An open file of a process.
pub(super) struct OpenFile {
    pub(super) number: u32,
    pub(super) link: String,
    /// The id of its mount, and its inode.
    pub(super) place: (u64, u64),
    /// The numbers of a character device.
    pub(super) device: Option<(u64, u64)>,
    /// `O_*`
    flags: u64,
}

impl OpenFile {
    /// `None` if it is closed.
    fn of(pid: i32, number: u32) -> Option<Self> {
        let path = format!("/proc/{pid}/fd/{number}");
        let link = readlink(path.as_str()).ok()?.to_string_lossy().into_owned();
        let info = format!("/proc/{pid}/fdinfo/{number}");
        let info = davit_sys::file::read_record(info.as_str()).ok()?;
        let info = String::from_utf8_lossy(&info);
        let value = |name: &str, radix| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), radix).ok()
        };
        let file = stat(path.as_str()).ok()?;
        // Before Linux 5.14 there is no inode.
        let inode = value("ino:", 10).unwrap_or(file.st_ino);
        let is_device = file.st_mode & libc::S_IFMT == libc::S_IFCHR;
        Some(Self {
            number,
            place: (value("mnt_id:", 10)?, inode),
            device: is_device.then(|| (major(file.st_rdev), minor(file.st_rdev))),
            flags: value("flags:", 8)?,
            link,
        })
    }
}

/// The open files of a process; none if it has ended.
pub(super) fn open_files(pid: i32) -> Vec<OpenFile> {
    let listing = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let numbers = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut files: Vec<_> = numbers.filter_map(|number| OpenFile::of(pid, number)).collect();
    files.sort_by_key(|file| file.number);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_seen() {
        let ours = stream(std::process::id().cast_signed(), 0).unwrap();
        assert!(!ours.link.is_empty() && ours.file.0 > 0);
        assert!(mounts("self").unwrap().iter().any(|mount| mount.mountpoint == Path::new("/")));
    }
}
