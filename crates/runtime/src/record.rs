//! What is known of a container: one small file in a directory of its own, written before the deed.
//!
//! ```text
//! ROOT/ID/record.json   the record; replaced as a whole
//! ROOT/ID/plan          the plan that init walks: what `exec` repeats of it, and words for failures;
//!                       what `exec` and `update` must know of config.json; and the plan's length
//! ROOT/ID/devices.json  device rules that `update` has added
//! ROOT/ID/start.sock    where a created container waits for `start` (start_socket.rs)
//! ROOT/ID/notify/       what a container has as /run/notify, with the socket for its word `READY=1`
//! ROOT/ID/cgroup        a symbolic link whose text is the cgroup's path: it outlives a broken record
//! ```
//! The directory itself is the lock (flock(2)): it goes with the command that holds it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use oci_spec::runtime::LinuxDeviceCgroup;
use serde::{Deserialize, Serialize};
use sys::During;

use crate::error::{Error, Result, Within};
use crate::hook::Hook;
use crate::host::in_user_namespace;
use crate::id::Id;
use crate::plan::Base;
use crate::process::Process;
use crate::state::State;
use crate::step::InitPlan;

const RECORD: &str = "record.json";
const FRESH: &str = "record.new";
const PLAN: &str = "plan";
const DEVICES: &str = "devices.json";
const CGROUP: &str = "cgroup";

/// What is in nearly every directory; more is looked for where these are not all.
const USUAL: [&CStr; 4] = [c"start.sock", c"plan", c"cgroup", c"record.json"];

/// The directory for the socket through which a container says that it is ready.
pub const NOTIFY_DIRECTORY: &str = "notify";

/// The socket in there.
pub const NOTIFY_SOCKET: &str = "notify.sock";

/// How far the container's life has come, as far as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `create` works on it.
    Creating,
    /// It waits for `start`.
    Created,
    /// The user's program was executed.
    Running,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Form of this file.
    pub version: u32,
    /// The container's id.
    pub id: Id,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// When `create` began (RFC 3339).
    pub created: String,
    /// The uid of the user who created it.
    pub owner: u32,
    /// How far its life has come.
    pub stage: Stage,
    /// Its init.
    pub init: Option<Process>,
    /// Its cgroup; none where it has none of its own.
    pub cgroup: Option<cgroups::Cgroup>,
    /// Its group of resctrl.
    #[serde(default)]
    pub resctrl: Option<cgroups::resctrl::Group>,
    /// Whether it has a pid namespace of its own: then its processes die with init.
    pub own_pid_namespace: bool,
    /// The mounts below its root that were there before it; none where it has a mount namespace of
    /// its own, and leaves no mounts.
    pub mounts_before: Option<Vec<u64>>,
    /// `annotations` of config.json.
    pub annotations: BTreeMap<String, String>,
    /// The agent that its filter notifies.
    #[serde(default)]
    pub listener: Option<seccomp::Listener>,
    /// How many hooks init runs.
    #[serde(default)]
    pub inner_hooks: usize,
    /// Hooks that are due after the start.
    pub poststart: Vec<Hook>,
    /// Hooks that are due after the end.
    pub poststop: Vec<Hook>,
}

impl Record {
    fn parse(text: &[u8]) -> Result<Self> {
        let record: Self = crate::bundle::from_json(text)?;
        match record.version {
            VERSION => Ok(record),
            other => Err(Error::new(format!("version {other} is not known"))),
        }
    }
}

/// The form of [`Record`] that this version writes and reads.
pub const VERSION: u32 = 1;

/// An engine of an ordinary user calls us as root of a user namespace, and has its own directory.
fn usual_root(is_root: bool, owns_the_machine: bool, own: Option<PathBuf>) -> Result<PathBuf> {
    match own {
        Some(directory) if !owns_the_machine => Ok(directory.join("davit")),
        None if !is_root => Err(Error::new("no directory for the state of containers")
            .hint("set XDG_RUNTIME_DIR or give --root")),
        _ => Ok(PathBuf::from("/run/davit")),
    }
}

/// The directory that holds all containers of one user.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The root at `path`, or the usual one: `/run/davit`, for an ordinary user, also where a user
    /// namespace makes him root, `$XDG_RUNTIME_DIR/davit`.
    ///
    /// # Errors
    /// A relative path; an ordinary user without `XDG_RUNTIME_DIR`.
    pub fn new(path: Option<PathBuf>) -> Result<Self> {
        let path = match path {
            Some(path) => std::path::absolute(&path)
                .during("getcwd")
                .within(|| format!("--root {}", path.display()))?,
            None => {
                let is_root = nix::unistd::geteuid().is_root();
                let owns_the_machine = is_root && !in_user_namespace()?;
                let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
                usual_root(is_root, owns_the_machine, own.map(PathBuf::from))?
            }
        };
        if path == Path::new("/") {
            return Err(Error::new("--root /: refused: every file there would be a container"));
        }
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of a new container and locks it.
    ///
    /// # Errors
    /// A container of that id exists; the directory cannot be made.
    pub fn create(&self, id: &Id) -> Result<Entry> {
        let path = self.path.join(id.as_str());
        let private = || mkdirat(AT_FDCWD, &path, Mode::S_IRWXU);
        let make = || -> Result<Entry> {
            let made = match private() {
                Err(Errno::ENOENT) => {
                    std::fs::create_dir_all(&self.path).during("mkdir")?;
                    private()
                }
                made => made,
            };
            match made {
                Err(Errno::EEXIST) => Err(Error::new("a container with this id exists already")),
                made => Ok(made.during("mkdir")?),
            }?;
            Entry::open(id, &path).map_err(|error| {
                // Empty, and nobody can know of it yet.
                let _ = unlinkat(AT_FDCWD, &path, UnlinkatFlags::RemoveDir);
                error.into()
            })
        };
        make().map_err(|error| match error.message().starts_with("a container") {
            true => error,
            false => error.within(format!("state directory {}", self.path.display())),
        })
    }

    /// The directory of an existing container; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn find(&self, id: &Id) -> Result<Option<Entry>> {
        let path = self.path.join(id.as_str());
        match Entry::open(id, &path) {
            Err(sys::Error { errno: Errno::ENOENT, .. }) => Ok(None),
            opened => opened.within(|| path.display().to_string()).map(Some),
        }
    }

    /// The directory of an existing container.
    ///
    /// # Errors
    /// There is none: "container does not exist", as engines look for.
    pub fn get(&self, id: &Id) -> Result<Entry> {
        self.find(id)?.ok_or_else(|| Error::new("container does not exist"))
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.during("opendir").within(|| self.path.display().to_string())?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<Id> = names.filter_map(|name| Id::try_from(name).ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// The states of all containers, by id. A damaged record has no state, but it is there.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn states(&self) -> Result<Vec<(Id, Result<State>)>> {
        let ids = self.ids()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(AT_FDCWD, &self.path, flags, Mode::empty()).ok();
        // One room for all of them. What is larger, or no record, takes the longer way.
        let mut room = vec![0; 16 << 10];
        let mut state = |id: &Id| {
            let file = open_at(directory.as_ref()?, &format!("{id}/{RECORD}")).ok()?;
            let length = nix::unistd::read(file, &mut room).ok()?;
            State::of_text(room.get(..length)?)
        };
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            match state(&id) {
                Some(state) => states.push((id, Ok(state))),
                // It is gone, or there are words for what is wrong with it.
                None => {
                    if let Ok(Some(entry)) = self.find(&id) {
                        let state = entry.record().and_then(|record| State::of(&record));
                        states.push((id, state));
                    }
                }
            }
        }
        Ok(states)
    }
}

/// Whatever stands there: a FIFO does not hang.
fn open_at(directory: impl AsFd, path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    openat(directory, path, flags, Mode::empty())
}

fn remove_directory(path: &Path) -> std::result::Result<(), sys::Error> {
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.during("rmdir"),
    }
}

fn to_json(content: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    serde_json::to_vec(content).map_err(|error| Error::new(error.to_string()))
}

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct Entry {
    id: Id,
    directory: Rc<OwnedFd>,
}

/// The file that [`Entry::write_plan`] writes: each part is decoded where it is wanted.
#[derive(Debug)]
pub struct Kept {
    plan: Vec<u8>,
    base: Vec<u8>,
}

impl Kept {
    fn join(mut bytes: Vec<u8>, base: &[u8]) -> Vec<u8> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes();
        bytes.extend_from_slice(base);
        bytes.extend_from_slice(&length);
        bytes
    }

    fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        let (_, length) = bytes.split_last_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        bytes.truncate(bytes.len() - size_of::<u64>());
        let base = (length <= bytes.len()).then(|| bytes.split_off(length))?;
        Some(Self { plan: bytes, base })
    }

    /// The plan that init walks.
    ///
    /// # Errors
    /// Bytes of another version.
    pub fn plan(&self) -> Result<InitPlan> {
        InitPlan::decode(&self.plan).within(|| PLAN)
    }

    /// What further processes must know of config.json.
    ///
    /// # Errors
    /// Bytes of another version.
    pub fn base(&self) -> Result<Base> {
        Base::decode(&self.base).within(|| PLAN)
    }
}

/// A lock on a container; it ends when this is dropped.
#[derive(Debug)]
pub struct Lock(Rc<OwnedFd>);

impl Drop for Lock {
    fn drop(&mut self) {
        // It ends with the process anyway.
        let _ = sys::file::unlock(self.0.as_fd());
    }
}

impl Entry {
    fn open(id: &Id, path: &Path) -> std::result::Result<Self, sys::Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(AT_FDCWD, path, flags, Mode::empty()).during("open")?;
        Ok(Self { id: id.clone(), directory: Rc::new(directory) })
    }

    /// The container's id.
    #[must_use]
    pub const fn id(&self) -> &Id {
        &self.id
    }

    /// A path that leads to `name` in the directory, for the calls that take no descriptor, and
    /// short enough for a socket's address.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Keeps other commands that change this container away, once they are done.
    ///
    /// # Errors
    /// Another command holds the lock for longer than `patience`; the container is gone.
    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        let end = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        while !sys::file::try_lock(self.directory.as_fd()).within(|| "lock")? {
            if Instant::now() >= end {
                let waited = patience.as_secs_f32();
                return Err(Error::new(format!("another command works on it (waited {waited} s)")));
            }
            // flock(2) has no deadline of its own, and contention is rare.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        let lock = Lock(Rc::clone(&self.directory));
        // A directory that was removed while we waited has no links left.
        if fstat(&*self.directory).during("fstat").within(|| "lock")?.st_nlink == 0 {
            return Err(Error::new("container does not exist"));
        }
        Ok(lock)
    }

    /// The record.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn record(&self) -> Result<Record> {
        self.read(RECORD).and_then(|text| Record::parse(&text)).within(|| RECORD)
    }

    /// Replaces the record as a whole: whoever reads meanwhile sees the old one or the new one.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        self.replace(RECORD, record)
    }

    fn replace(&self, name: &str, content: &(impl Serialize + ?Sized)) -> Result<()> {
        let text = to_json(content)?;
        let replace = || -> std::result::Result<(), sys::Error> {
            self.write(FRESH, &text)?;
            renameat(self.directory.as_fd(), FRESH, self.directory.as_fd(), name).during("rename")
        };
        replace().within(|| name)
    }

    /// The device rules that `update` has added so far.
    ///
    /// # Errors
    /// They are damaged.
    pub fn device_rules(&self) -> Result<Vec<LinuxDeviceCgroup>> {
        match std::fs::symlink_metadata(self.path_of(DEVICES)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => self
                .read(DEVICES)
                .and_then(|text| crate::bundle::from_json(&text))
                .within(|| DEVICES),
        }
    }

    /// Keeps them.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn write_device_rules(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        self.replace(DEVICES, rules)
    }

    /// Keeps the plan that init walks, and behind it what further processes must know of config.json.
    /// The file is handed to init open, at its beginning: no container can reach it.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn write_plan(&self, plan: Vec<u8>, base: &[u8]) -> Result<OwnedFd> {
        self.write(PLAN, &Kept::join(plan, base)).within(|| PLAN)
    }

    /// What [`Entry::write_plan`] has kept.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn kept(&self) -> Result<Kept> {
        let parse = |bytes| Kept::parse(bytes).ok_or_else(|| Error::new("is damaged"));
        self.read(PLAN).and_then(parse).within(|| PLAN)
    }

    /// Notes where the cgroup will be, in a form that cannot be half written.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn note_cgroup(&self, path: &Path) -> Result<()> {
        match symlinkat(path, self.directory.as_fd(), CGROUP) {
            Err(Errno::ENAMETOOLONG) => Ok(()),
            made => made.during("symlink").within(|| CGROUP),
        }
    }

    /// What [`Entry::note_cgroup`] noted.
    #[must_use]
    pub fn noted_cgroup(&self) -> Option<PathBuf> {
        readlinkat(self.directory.as_fd(), CGROUP).ok().map(PathBuf::from)
    }

    /// Makes the directory for the socket through which the container says that it is ready, open
    /// to all of its users.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn make_notify_directory(&self) -> Result<()> {
        let open = Mode::from_bits_truncate(0o755);
        mkdirat(self.directory.as_fd(), NOTIFY_DIRECTORY, open).during("mkdir")?;
        // The mode is not the caller's umask's to change.
        std::fs::set_permissions(self.path_of(NOTIFY_DIRECTORY), PermissionsExt::from_mode(0o755))
            .during("chmod")
            .within(|| NOTIFY_DIRECTORY)
    }

    /// Removes the directory and what is in it.
    ///
    /// # Errors
    /// EROFS and the like.
    pub fn remove(&self, root: &Root) -> Result<()> {
        let path = root.path.join(self.id.as_str());
        let remove = || match remove_directory(&path) {
            Err(sys::Error { errno: Errno::ENOTEMPTY, .. }) => {
                self.unlink_notify_socket()?;
                self.unlink(&self.names()?)?;
                remove_directory(&path)
            }
            removed => removed,
        };
        let usual = USUAL.map(CString::from);
        self.unlink(&usual).and_then(|()| remove()).within(|| path.display().to_string())
    }

    fn unlink_notify_socket(&self) -> std::result::Result<(), sys::Error> {
        match std::fs::remove_file(self.path_of(NOTIFY_DIRECTORY).join(NOTIFY_SOCKET)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.during("unlink"),
        }
    }

    fn names(&self) -> std::result::Result<Vec<CString>, sys::Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = nix::dir::Dir::openat(self.directory.as_fd(), ".", flags, Mode::empty())
            .during("opendir")?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let name = entry.during("readdir")?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn unlink(&self, names: &[CString]) -> std::result::Result<(), sys::Error> {
        for name in names {
            match unlinkat(self.directory.as_fd(), name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR | Errno::EPERM) => {
                    unlinkat(self.directory.as_fd(), name.as_c_str(), UnlinkatFlags::RemoveDir)
                        .during("rmdir")?;
                }
                removed => removed.during("unlink")?,
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        crate::bundle::read_regular(&open_at(&self.directory, name).during("open")?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::result::Result<OwnedFd, sys::Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file =
            openat(self.directory.as_fd(), name, flags | OFlag::O_NOFOLLOW, mode).during("open")?;
        let file = File::from(file);
        file.write_all_at(bytes, 0).during("write")?;
        Ok(file.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_apart_where_it_was_put_together() {
        let kept = Kept::parse(Kept::join(b"plan".to_vec(), b"{}")).unwrap();
        assert_eq!((kept.plan.as_slice(), kept.base.as_slice()), (&b"plan"[..], &b"{}"[..]));
        for damaged in [b"".as_slice(), b"x", &[b"x".as_slice(), &2u64.to_le_bytes()].concat()] {
            assert!(Kept::parse(damaged.to_vec()).is_none());
        }
    }

    #[test]
    fn the_usual_root_is_the_users_own_where_the_machine_is_not() {
        let own = || Some(PathBuf::from("/own"));
        let usual = |is_root, owns, own| usual_root(is_root, owns, own).ok();
        assert_eq!(usual(true, true, own()), Some("/run/davit".into()));
        assert_eq!(usual(true, true, None), Some("/run/davit".into()));
        assert_eq!(usual(true, false, own()), Some("/own/davit".into()));
        assert_eq!(usual(true, false, None), Some("/run/davit".into()));
        assert_eq!(usual(false, false, own()), Some("/own/davit".into()));
        assert_eq!(usual(false, false, None), None);
    }
}
