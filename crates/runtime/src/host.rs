//! Facts about the host, the user and the caller that a plan depends on.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use davit_cgroups::resctrl;
use davit_namespaces::Joined;
use davit_namespaces::MapWriter;
use davit_namespaces::net_devices::{self, Device};
use davit_privileges::SecurityModules;
use davit_sys::Slots;
use davit_sys::process::Status;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, lstat};
use oci_spec::runtime::{Process, Spec};

use crate::error::{Error, Result, Within};
use crate::namespace_hint;
use crate::plan::{CgroupManager, CreateOptions};
use crate::slot;

const NO_SYSTEMD: &str = "without systemd use the cgroupfs driver \
    (podman: --cgroup-manager=cgroupfs; containerd: SystemdCgroup = false)";

/// The runtime's own cgroup in each hierarchy: the lines of /proc/self/cgroup (cgroups(7)).
#[derive(Clone, Debug, Default)]
pub struct OurCgroups(String);

impl OurCgroups {
    /// Those of this process.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn of_this_process() -> Result<Self> {
        text("/proc/self/cgroup").map(Self)
    }

    /// The runtime's path in the hierarchy with these controllers; without any, in that of cgroup
    /// v2.
    #[must_use]
    pub fn place(&self, controllers: &[String]) -> PathBuf {
        let mut paths = self.0.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let names = fields.nth(1)?;
            let path = fields.next()?;
            let wanted = match controllers.first() {
                None => names.is_empty(),
                Some(first) => names.split(',').any(|name| name == first),
            };
            wanted.then(|| PathBuf::from(path))
        });
        paths.next().unwrap_or_else(|| PathBuf::from("/"))
    }
}

/// Objects of the host that config.json names.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// The namespaces given by path, opened.
    pub joined: Vec<Joined>,
    /// The network devices of `linux.netDevices`.
    pub net_devices: Vec<Device>,
    /// The file system and the group of `linux.intelRdt`.
    pub resctrl: resctrl::Host,
}

impl Discovered {
    /// Discovers them; descriptors go to `slots`.
    ///
    /// # Errors
    /// A path that does not lead to such a namespace; a failed system call.
    pub(crate) fn look(spec: &Spec, slots: &mut Slots) -> Result<Self> {
        let net_devices = net_devices::discover(spec).within(|| "linux.netDevices")?;
        let rdt = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
        let resctrl = resctrl::Host::discover(rdt).within(|| "linux.intelRdt")?;
        Ok(Self { joined: open_namespaces(spec, slots)?, net_devices, resctrl })
    }
}

/// Facts about the runtime's own process.
#[derive(Clone, Debug)]
pub struct Host {
    /// Effective user.
    pub uid: u32,
    /// Whether it is in a user namespace other than the initial one.
    pub in_user_namespace: bool,
    /// Its permitted capabilities.
    pub permitted: u64,
    /// Whether it may call setgroups(2).
    pub setgroups: bool,
    /// The signals that it ignores, as a mask.
    pub ignored_signals: u64,
    /// Its cgroups, if a container may have to stay in them.
    pub cgroups: OurCgroups,
}

impl Host {
    /// Discovers them; its cgroups only if a container may have to stay in them.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn discover(own_cgroup: bool) -> Result<Self> {
        let in_user_namespace = in_user_namespace()?;
        let setgroups = !in_user_namespace || text("/proc/self/setgroups")?.trim() == "allow";
        let uid = crate::state::our_uid();
        let cgroups = match own_cgroup && uid == 0 && !in_user_namespace {
            true => OurCgroups::default(),
            false => OurCgroups::of_this_process()?,
        };
        let Status { ignored_signals, permitted } = Status::read()?;
        Ok(Self { uid, in_user_namespace, permitted, setgroups, ignored_signals, cgroups })
    }

    /// Whether it may mount, and make namespaces without a user namespace.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.permitted & (1 << davit_privileges::capability::SYS_ADMIN) != 0
    }

    /// Whether it may make device nodes: only the initial user namespace allows it (mknod(2)).
    #[must_use]
    pub const fn makes_nodes(&self) -> bool {
        const MKNOD: u64 = 1 << 27;
        !self.in_user_namespace && self.permitted & MKNOD != 0
    }

    /// The cgroup hierarchies of the host, and systemd if the systemd driver is selected.
    ///
    /// # Errors
    /// A failed system call; systemd does not answer.
    pub fn cgroups(
        &self,
        request: &davit_cgroups::Request<'_>,
        options: &CreateOptions,
    ) -> Result<davit_cgroups::Host> {
        let rootless = self.uid != 0 || self.in_user_namespace;
        let mut host = davit_cgroups::Host::discover(request, rootless).within(|| "cgroups")?;
        if options.cgroup_manager == CgroupManager::Systemd {
            let found = davit_cgroups::Systemd::discover().map_err(Error::from);
            host.systemd = Some(found.map_err(|error| error.hint(NO_SYSTEMD))?);
        }
        Ok(host)
    }

    /// The security modules, discovered if the process has a label.
    #[must_use]
    pub fn security(&self, process: &Process) -> SecurityModules {
        if !SecurityModules::are_used_by(process) {
            return SecurityModules::default();
        }
        let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled");
        SecurityModules {
            apparmor: apparmor.is_ok_and(|text| text.starts_with(b"Y")),
            selinux: has_selinux(),
        }
    }

    /// The process that can write the id maps of a new user namespace.
    #[must_use]
    pub fn map_writer(&self, spec: &Spec) -> MapWriter {
        const SETGID_SETUID: u64 = 1 << 6 | 1 << 7;
        if self.permitted & SETGID_SETUID == SETGID_SETUID {
            return MapWriter::Direct;
        }
        let linux = spec.linux().as_ref();
        let single = |list: Option<&Vec<oci_spec::runtime::LinuxIdMapping>>| {
            list.is_some_and(|list| matches!(list.as_slice(), [only] if only.size() == 1))
        };
        let uids = linux.and_then(|linux| linux.uid_mappings().as_ref());
        let gids = linux.and_then(|linux| linux.gid_mappings().as_ref());
        if single(uids) && single(gids) { MapWriter::SingleId } else { MapWriter::Helpers }
    }
}

/// Whether `/dev` in the directory `root` is that of the host. Checked only if no mount covers it.
pub(crate) fn shares_dev(spec: &Spec, root: &Path) -> bool {
    let mut mounts = spec.mounts().iter().flatten();
    if mounts.any(|mount| mount.destination() == Path::new("/dev")) {
        return false;
    }
    let directory = |path: &Path| {
        let found = lstat(path).ok().filter(|it| it.st_mode & libc::S_IFMT == libc::S_IFDIR)?;
        Some((found.st_dev, found.st_ino))
    };
    let ours = directory(Path::new("/dev"));
    ours.is_some() && directory(&root.join("dev")) == ours
}

/// Whether SELinux is enabled: its file system is then mounted here (selinux(8)).
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether this process is in a user namespace other than the initial one.
///
/// # Errors
/// /proc is not mounted.
pub(crate) fn in_user_namespace() -> Result<bool> {
    // No command enters another user namespace.
    static ANSWER: OnceLock<bool> = OnceLock::new();
    if let Some(answer) = ANSWER.get() {
        return Ok(*answer);
    }
    let answer =
        !davit_sys::process::in_initial_user_namespace().within(|| "/proc/self/ns/user")?;
    Ok(*ANSWER.get_or_init(|| answer))
}

fn text(path: &str) -> Result<String> {
    let bytes = davit_sys::file::read_record(path).within(|| path.to_owned())?;
    // The fields that are read are ASCII; the name of a process may be any bytes.
    String::from_utf8(bytes)
        .or_else(|error| Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Opens the namespaces that config.json gives by path, and checks their types.
///
/// # Errors
/// A path that cannot be opened, or a namespace of another type, with its field.
fn open_namespaces(spec: &Spec, slots: &mut Slots) -> Result<Vec<Joined>> {
    let mut joined = Vec::new();
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let ours = std::cell::OnceCell::new();
    for (index, namespace) in list.into_iter().flatten().enumerate() {
        let kind = davit_namespaces::Kind::from(namespace.typ());
        let given = namespace.path().as_ref().filter(|path| path.is_absolute());
        let Some(path) = given else { continue };
        let field = || format!("linux.namespaces[{index}].path {path:?}");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| {
            let error = Error::from(davit_sys::Error::new("open", errno)).within(field());
            error.hinted(namespace_hint::of_path(errno, path))
        })?;
        match davit_sys::pidfd::namespace_type(fd.as_fd()) {
            Ok(flag) if flag == kind.flag() => {}
            Ok(flag) => {
                let error = Error::new(format!("is not a {kind} namespace")).within(field());
                return Err(error.hinted(namespace_hint::of_other_kind(flag)));
            }
            Err(_) => {
                let error = Error::new("is not a namespace").within(field());
                return Err(error.hint("a namespace is /proc/PID/ns/KIND, or a bind mount of that"));
            }
        }
        let inode = *ours.get_or_init(our_user_namespace);
        let owner = match kind {
            davit_namespaces::Kind::User => None,
            _ => davit_sys::pidfd::owning_user_namespace(fd.as_fd()).ok(),
        };
        let owner = owner.and_then(|owner| fstat(&owner).ok()).map(|stat| stat.st_ino);
        let place =
            u16::try_from(joined.len()).ok().filter(|place| slot::JOINED + place < slot::CGROUP);
        let slot = slot::JOINED + place.ok_or_else(|| Error::new("too many").within(field()))?;
        slots.put(slot, fd);
        joined.push(Joined {
            kind,
            slot,
            owned_by_current_userns: owner.is_none() || owner == inode,
        });
    }
    Ok(joined)
}

fn our_user_namespace() -> Option<u64> {
    nix::sys::stat::stat("/proc/self/ns/user").ok().map(|stat| stat.st_ino)
}

/// A host with cgroup v2 and all of its controllers, and root on it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn root_on_v2() -> (Host, davit_cgroups::Host) {
    let host = Host {
        uid: 0,
        in_user_namespace: false,
        permitted: u64::MAX,
        setgroups: true,
        ignored_signals: 0,
        cgroups: OurCgroups::default(),
    };
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"].map(str::to_owned);
    let unified = davit_cgroups::Unified {
        mountpoint: PathBuf::from("/sys/fs/cgroup"),
        controllers: controllers.to_vec(),
    };
    let layout = davit_cgroups::Layout { unified: Some(unified), hierarchies: Vec::new() };
    (host, davit_cgroups::Host { layout, writable: true, ..davit_cgroups::Host::default() })
}

/// The text of /proc/self/cgroup.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let ours = OurCgroups(text);
    let _ = (ours.place(&[]), ours.place(&["cpu".to_owned()]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tree_has_its_line() {
        let ours = OurCgroups("4:cpu,cpuacct:/a\n2:name=systemd:/b:c\n0::/d\n".to_owned());
        let place = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            ours.place(&names)
        };
        assert_eq!(place(&["cpuacct", "cpu"]), PathBuf::from("/a"));
        assert_eq!(place(&["name=systemd"]), PathBuf::from("/b:c"));
        assert_eq!(place(&[]), PathBuf::from("/d"));
        assert_eq!(place(&["memory"]), PathBuf::from("/"));
    }

    #[test]
    fn this_process_is_seen() {
        let host = Host::discover(false).unwrap();
        assert_eq!(host.uid, nix::unistd::geteuid().as_raw());
    }
}
