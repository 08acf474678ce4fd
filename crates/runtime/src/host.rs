//! What this machine, this user and this caller are, as far as a plan must know.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cgroups::resctrl;
use namespaces::Joined;
use namespaces::id_maps::Writer;
use namespaces::net_devices::{self, Device};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use oci_spec::runtime::{Process, Spec};
use privileges::SecurityModules;
use sys::{During, Slots};

use crate::error::{Error, Result, Within};
use crate::plan::{CgroupManager, CreateOptions};
use crate::slot;

const NO_SYSTEMD: &str = "without systemd use the cgroupfs driver \
    (podman: --cgroup-manager=cgroupfs; containerd: SystemdCgroup = false)";

/// Where the runtime itself is in each cgroup tree: the lines of /proc/self/cgroup (cgroups(7)).
#[derive(Clone, Debug, Default)]
pub struct OurCgroups(String);

impl OurCgroups {
    /// Our path in the tree with these controllers; with none, in that of cgroup v2.
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

/// What config.json names and was found on this machine.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The namespaces given by path, opened.
    pub joined: Vec<Joined>,
    /// The network devices of `linux.netDevices`.
    pub net_devices: Vec<Device>,
    /// The file system and the group of `linux.intelRdt`.
    pub resctrl: resctrl::Host,
}

impl Found {
    /// Looks for them; descriptors go to `slots`.
    ///
    /// # Errors
    /// A path that leads to no such namespace; a kernel that does not answer.
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
    /// Whether it is in a user namespace that is not the first one.
    pub in_user_namespace: bool,
    /// Its permitted capabilities.
    pub permitted: u64,
    /// Whether it may call setgroups(2).
    pub setgroups: bool,
    /// Its place in the cgroup trees, where a container may have to stay there.
    pub cgroups: OurCgroups,
}

impl Host {
    /// Looks; at its place in the cgroup trees only where a container may have to stay there.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn discover(own_cgroup: bool) -> Result<Self> {
        let in_user_namespace = in_user_namespace()?;
        let setgroups = !in_user_namespace || text("/proc/self/setgroups")?.trim() == "allow";
        let uid = nix::unistd::geteuid().as_raw();
        let cgroups = match own_cgroup && uid == 0 && !in_user_namespace {
            true => OurCgroups::default(),
            false => OurCgroups(text("/proc/self/cgroup")?),
        };
        Ok(Self {
            uid,
            in_user_namespace,
            permitted: sys::capability::get()?.permitted,
            setgroups,
            cgroups,
        })
    }

    /// Whether it may mount, and make namespaces without a user namespace.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.permitted & (1 << privileges::capability::SYS_ADMIN) != 0
    }

    /// The cgroups of this machine, and the systemd that makes them where that is asked for.
    ///
    /// # Errors
    /// A failed system call; no systemd answers.
    pub fn cgroups(
        &self,
        request: &cgroups::Request<'_>,
        options: &CreateOptions,
    ) -> Result<cgroups::Host> {
        let rootless = self.uid != 0 || self.in_user_namespace;
        let mut host = cgroups::Host::discover(request, rootless).within(|| "cgroups")?;
        if options.cgroup_manager == CgroupManager::Systemd {
            let found = cgroups::Systemd::discover().map_err(Error::from);
            host.systemd = Some(found.map_err(|error| error.hint(NO_SYSTEMD))?);
        }
        Ok(host)
    }

    /// The security modules, looked for where the process has a label.
    #[must_use]
    pub fn security(&self, process: &Process) -> SecurityModules {
        if !SecurityModules::matter_to(process) {
            return SecurityModules::default();
        }
        let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled");
        SecurityModules {
            apparmor: apparmor.is_ok_and(|text| text.starts_with(b"Y")),
            selinux: has_selinux(),
        }
    }

    /// Who can write the id maps of a new user namespace.
    #[must_use]
    pub fn map_writer(&self, spec: &Spec) -> Writer {
        const SETGID_SETUID: u64 = 1 << 6 | 1 << 7;
        if self.permitted & SETGID_SETUID == SETGID_SETUID {
            return Writer::Runtime;
        }
        let linux = spec.linux().as_ref();
        let single = |list: Option<&Vec<oci_spec::runtime::LinuxIdMapping>>| {
            list.is_some_and(|list| matches!(list.as_slice(), [only] if only.size() == 1))
        };
        let uids = linux.and_then(|linux| linux.uid_mappings().as_ref());
        let gids = linux.and_then(|linux| linux.gid_mappings().as_ref());
        if single(uids) && single(gids) { Writer::OwnId } else { Writer::Helpers }
    }
}

/// Whether SELinux is on: then its file system is mounted here (selinux(8)).
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether this process is in a user namespace that is not the first one.
///
/// # Errors
/// /proc is not there.
pub(crate) fn in_user_namespace() -> Result<bool> {
    // No command enters another one.
    static ANSWER: OnceLock<bool> = OnceLock::new();
    if let Some(answer) = ANSWER.get() {
        return Ok(*answer);
    }
    let answer = !is_whole(&text("/proc/self/uid_map")?);
    Ok(*ANSWER.get_or_init(|| answer))
}

fn text(path: &str) -> Result<String> {
    let bytes = sys::file::read_record(path).within(|| path.to_owned())?;
    // What is asked for is ASCII; a process's name may be anything.
    String::from_utf8(bytes)
        .or_else(|error| Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Whether a map is that of the first user namespace.
fn is_whole(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Opens the namespaces that config.json gives by path, and checks that they are what they are
/// said to be.
///
/// # Errors
/// A path that cannot be opened, or a namespace of another type, with its field.
fn open_namespaces(spec: &Spec, slots: &mut Slots) -> Result<Vec<Joined>> {
    let mut joined = Vec::new();
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let ours = std::cell::OnceCell::new();
    for (index, namespace) in list.into_iter().flatten().enumerate() {
        let kind = namespaces::Kind::from(namespace.typ());
        let given = namespace.path().as_ref().filter(|path| path.is_absolute());
        let Some(path) = given else { continue };
        let field = || format!("linux.namespaces[{index}].path {path:?}");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = open(path, flags, Mode::empty()).during("open").within(field)?;
        match sys::pidfd::namespace_type(fd.as_fd()) {
            Ok(flag) if flag == kind.flag() => {}
            Ok(_) => {
                return Err(Error::new(format!("is not a {kind} namespace")).within(field()));
            }
            Err(_) => return Err(Error::new("is not a namespace").within(field())),
        }
        let inode = *ours.get_or_init(our_user_namespace);
        let owner = match kind {
            namespaces::Kind::User => None,
            _ => sys::pidfd::owning_user_namespace(fd.as_fd()).ok(),
        };
        let owner = owner.and_then(|owner| fstat(&owner).ok()).map(|stat| stat.st_ino);
        let slot = slot::JOINED + u16::try_from(joined.len()).unwrap_or(0);
        slots.put(slot, fd);
        joined.push(Joined { kind, slot, belongs_to_ours: owner.is_none() || owner == inode });
    }
    Ok(joined)
}

fn our_user_namespace() -> Option<u64> {
    nix::sys::stat::stat("/proc/self/ns/user").ok().map(|stat| stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_namespace_maps_everything_onto_itself() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n"));
        assert!(!is_whole("0 0 65536\n65536 65536 1\n"));
    }

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
