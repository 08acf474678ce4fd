//! The directory of one container.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use davit_sys::OsContext;
use davit_sys::trace::operation;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, mkfifoat, symlinkat, unlinkat};
use oci_spec::runtime::LinuxDeviceCgroup;
use serde::Serialize;

use super::ownership::Untrusted;
use super::{LaterParts, PlanFile, Process, Record, Stage, start_fifo};
use crate::config::json::from_json;
use crate::error::{Error, ErrorKind, Result, Within};
use crate::id::Id;

pub(super) const RECORD: &str = "record.json";
const TEMP_NAME: &str = "record.new";
const DEVICES: &str = "devices.json";
const CGROUP: &str = "cgroup";
const INIT: &str = "init";
const INIT_TEMP_NAME: &str = "init.new";
const CRIU: &str = "criu";

/// The files that nearly every directory has. A directory that holds more is emptied file by file.
const COMMON_FILES: [&CStr; 4] = [c"plan", c"cgroup", c"init", c"record.json"];

/// The directory for the socket on which a container reports that it is ready.
pub(crate) const NOTIFY_DIRECTORY: &str = "notify";

/// The socket in that directory.
pub(crate) const NOTIFY_SOCKET: &str = "notify.sock";

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct ContainerDir {
    id: Id,
    pub(super) directory: Rc<OwnedFd>,
}

/// Opens a file of any type: the open of a FIFO does not block.
pub(super) fn open_at(directory: impl AsFd, path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    openat(directory, path, flags, Mode::empty())
}

fn to_json(content: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    serde_json::to_vec(content).map_err(|error| Error::new(error.to_string()))
}

/// The lock of a container; it is released on drop.
#[derive(Debug)]
pub struct Lock(Rc<OwnedFd>);

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock ends with the process anyway.
        let _ = davit_sys::file::unlock(self.0.as_fd());
    }
}

impl ContainerDir {
    pub(super) fn open(root: &OwnedFd, id: &Id) -> std::result::Result<Self, davit_sys::Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(root, id.as_str(), flags, Mode::empty()).syscall("open")?;
        Ok(Self { id: id.clone(), directory: Rc::new(directory) })
    }

    /// The container's id.
    #[must_use]
    pub const fn id(&self) -> &Id {
        &self.id
    }

    /// A path to `name` in the directory, for calls that take no descriptor; short enough for a
    /// socket address.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Locks the container against other commands that change it.
    ///
    /// # Errors
    /// Another command holds the lock for longer than `timeout`; the container is gone.
    pub fn lock(&self, timeout: Duration) -> Result<Lock> {
        operation("record", &"lock the container", || self.lock_within(timeout))
    }

    fn lock_within(&self, timeout: Duration) -> Result<Lock> {
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_micros(200);
        while !davit_sys::file::try_lock(self.directory.as_fd()).within(|| "lock")? {
            if Instant::now() >= end {
                let waited = timeout.as_secs_f32();
                let reason = format!("container is locked by another command (waited {waited} s)");
                return Err(Error::new(reason).of_kind(ErrorKind::Locked));
            }
            // flock(2) has no deadline of its own, and contention is rare.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        let lock = Lock(Rc::clone(&self.directory));
        // A directory that was removed during the wait has no links left.
        if fstat(&*self.directory).syscall("fstat").within(|| "lock")?.st_nlink == 0 {
            return Err(Error::not_found());
        }
        Ok(lock)
    }

    /// Whether the directory is still there: another command may have deleted the container.
    #[must_use]
    pub fn exists(&self) -> bool {
        fstat(&*self.directory).is_ok_and(|stat| stat.st_nlink > 0)
    }

    /// The time since the last file in it was made or removed.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub(crate) fn age(&self) -> Result<Duration> {
        let stat = fstat(&*self.directory).syscall("fstat").within(|| "state directory")?;
        let changed = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(now.saturating_sub(changed))
    }

    /// Whether the record survives the loss of memory: on a disk it does, in a tmpfs such as /run
    /// it does not.
    ///
    /// # Errors
    /// fstatfs(2)'s.
    pub fn outlives_memory(&self) -> Result<bool> {
        /// `RAMFS_MAGIC` of linux/magic.h
        const RAMFS: FsType = FsType(0x8584_58f6_u32 as _);
        let kind =
            fstatfs(&*self.directory).syscall("fstatfs").within(|| RECORD)?.filesystem_type();
        Ok(kind != TMPFS_MAGIC && kind != RAMFS)
    }

    /// The record.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn record(&self) -> Result<Record> {
        let mut record =
            self.read(RECORD).and_then(|text| Record::parse(&text)).within(|| RECORD)?;
        if record.init.is_none() {
            record.init = self.read_init_link()?;
        }
        if record.stage == Stage::Created && start_fifo::is_removed(&*self.directory, "") {
            record.stage = Stage::Running;
        }
        Ok(record)
    }

    /// What can be read of a record that is damaged or of an unknown format: nothing if another
    /// user could have written it.
    pub(crate) fn salvaged_record(&self) -> Record {
        let record = Record::salvage(&self.read(RECORD).unwrap_or_default(), &self.id);
        let init = record.init.or_else(|| self.read_init_link().ok().flatten());
        Record { init, ..record }
    }

    /// Writes the identity of init as soon as init exists: other commands find it even if this one
    /// is killed.
    ///
    /// # Errors
    /// ENOSPC; ENOENT if the container was deleted meanwhile.
    pub fn write_init_link(&self, init: &Process) -> Result<()> {
        let text = to_json(init)?;
        let link = |name| symlinkat(text.as_slice(), self.directory.as_fd(), name);
        let directory = self.directory.as_fd();
        let noted = match link(INIT) {
            // Init goes on as its second process.
            Err(Errno::EEXIST) => link(INIT_TEMP_NAME)
                .and_then(|()| renameat(directory, INIT_TEMP_NAME, directory, INIT)),
            noted => noted,
        };
        noted.syscall("symlink").within(|| INIT)
    }

    /// The identity that [`ContainerDir::write_init_link`] wrote; `None` if init does not exist
    /// yet.
    ///
    /// # Errors
    /// The link is damaged, or belongs to another user.
    pub fn read_init_link(&self) -> Result<Option<Process>> {
        self.read_process_link(INIT)
    }

    fn read_process_link(&self, name: &str) -> Result<Option<Process>> {
        let Some(text) = self.read_link(name)? else { return Ok(None) };
        let process = serde_json::from_slice(text.as_os_str().as_encoded_bytes());
        process.map(Some).map_err(|_| Error::new("is damaged").within(name))
    }

    /// Writes the identity of a criu that works on the container, before it is asked for anything.
    ///
    /// # Errors
    /// ENOSPC; ENOENT if the container was deleted meanwhile.
    pub(crate) fn write_criu_link(&self, criu: &Process) -> Result<()> {
        self.remove_criu_link()?;
        let text = to_json(criu)?;
        symlinkat(text.as_slice(), self.directory.as_fd(), CRIU).syscall("symlink").within(|| CRIU)
    }

    /// The criu that works on the container, if it is alive.
    ///
    /// # Errors
    /// The link is damaged, or belongs to another user.
    pub(crate) fn criu_at_work(&self) -> Result<Option<Process>> {
        Ok(self.read_process_link(CRIU)?.filter(Process::is_alive))
    }

    /// Removes what [`ContainerDir::write_criu_link`] wrote.
    ///
    /// # Errors
    /// unlink(2)'s.
    pub(crate) fn remove_criu_link(&self) -> Result<()> {
        self.unlink(c"criu").within(|| CRIU)
    }

    /// Makes a FIFO in the directory, for its owner alone.
    ///
    /// # Errors
    /// mkfifo(3)'s.
    pub(crate) fn make_fifo(&self, name: &CStr) -> std::result::Result<(), davit_sys::Error> {
        mkfifoat(self.directory.as_fd(), name, Mode::S_IRUSR | Mode::S_IWUSR).syscall("mkfifo")
    }

    /// Opens a FIFO in the directory, without waiting for its other end unless `flags` open both.
    ///
    /// # Errors
    /// Those of open(2): ENXIO for writing without a reader.
    pub(crate) fn open_fifo(
        &self,
        name: &CStr,
        flags: OFlag,
    ) -> std::result::Result<OwnedFd, davit_sys::Error> {
        let waits = flags.contains(OFlag::O_RDWR);
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let flags = if waits { flags } else { flags | OFlag::O_NONBLOCK };
        openat(self.directory.as_fd(), name, flags, Mode::empty()).syscall("open")
    }

    /// Replaces the record atomically: a reader sees the old record or the new one.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        operation("record", &"write the record", || self.replace(RECORD, record))
    }

    fn replace(&self, name: &str, content: &(impl Serialize + ?Sized)) -> Result<()> {
        let text = to_json(content)?;
        let replace = || -> std::result::Result<(), davit_sys::Error> {
            self.write(TEMP_NAME, &text)?;
            renameat(self.directory.as_fd(), TEMP_NAME, self.directory.as_fd(), name)
                .syscall("rename")
        };
        replace().within(|| name)
    }

    /// The device rules that `update` has added.
    ///
    /// # Errors
    /// They are damaged.
    pub fn device_rules(&self) -> Result<Vec<LinuxDeviceCgroup>> {
        match std::fs::symlink_metadata(self.path_of(DEVICES)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => self.read(DEVICES).and_then(|text| from_json(&text)).within(|| DEVICES),
        }
    }

    /// Writes the device rules that `update` has added.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub fn write_device_rules(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        self.replace(DEVICES, rules)
    }

    /// Writes the input of init, and behind it the parts that later commands need. Init gets the
    /// file open at its beginning: no container can reach it.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub(crate) fn write_plan(&self, plan: Vec<u8>, later: &LaterParts) -> Result<OwnedFd> {
        let write =
            || self.write(PlanFile::NAME, &PlanFile::join(plan, later)).within(|| PlanFile::NAME);
        operation("record", &"write the plan", write)
    }

    /// Whether the file that [`ContainerDir::write_plan`] writes is there.
    pub(crate) fn has_plan(&self) -> bool {
        fstatat(&*self.directory, PlanFile::NAME, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads the file that [`ContainerDir::write_plan`] wrote.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub(crate) fn plan_file(&self) -> Result<PlanFile> {
        self.read(PlanFile::NAME).and_then(PlanFile::parse).within(|| PlanFile::NAME)
    }

    /// Writes the path of the future cgroup as a symbolic link, which cannot be half written.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub fn write_cgroup_link(&self, path: &Path) -> Result<()> {
        match symlinkat(path, self.directory.as_fd(), CGROUP) {
            Err(Errno::ENAMETOOLONG) => Ok(()),
            made => made.syscall("symlink").within(|| CGROUP),
        }
    }

    /// The path that [`ContainerDir::write_cgroup_link`] wrote; `None` if there is no link.
    ///
    /// # Errors
    /// A path that no container can have; a link of another user.
    pub fn read_cgroup_link(&self) -> Result<Option<PathBuf>> {
        let Some(path) = self.read_link(CGROUP)? else { return Ok(None) };
        davit_cgroups::check_path(&path).within(|| CGROUP)?;
        Ok(Some(path))
    }

    /// The text of a symbolic link in the directory, after the check of its owner; `None` if it
    /// does not exist.
    fn read_link(&self, name: &str) -> Result<Option<PathBuf>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let link = match openat(&*self.directory, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.syscall("open").within(|| name)?,
        };
        let stat = fstat(&link).syscall("fstat").within(|| name)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
            return Err(Error::new("is not a symbolic link").within(name));
        }
        if let Some(untrusted) = Untrusted::of(&stat) {
            return Err(untrusted.refuse("file", &self.message_path(name)));
        }
        Ok(Some(PathBuf::from(readlinkat(&link, "").syscall("readlink").within(|| name)?)))
    }

    /// Makes the directory for the notify socket, accessible to all users of the container.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub fn make_notify_directory(&self) -> Result<()> {
        let open = Mode::from_bits_truncate(0o755);
        mkdirat(self.directory.as_fd(), NOTIFY_DIRECTORY, open).syscall("mkdir")?;
        // The umask of the caller must not change the mode.
        std::fs::set_permissions(self.path_of(NOTIFY_DIRECTORY), PermissionsExt::from_mode(0o755))
            .syscall("chmod")
            .within(|| NOTIFY_DIRECTORY)
    }

    /// Removes everything in the directory.
    pub(super) fn empty(&self) -> std::result::Result<(), davit_sys::Error> {
        davit_sys::file::remove_below(self.directory.as_fd())
    }

    /// Removes the files of nearly every directory; `waited`: its init may have waited for `start`.
    pub(super) fn unlink_common_files(
        &self,
        waited: bool,
    ) -> std::result::Result<(), davit_sys::Error> {
        let waited: &[&CStr] =
            if waited { &[start_fifo::COMMAND, start_fifo::ANSWER] } else { &[] };
        COMMON_FILES.iter().chain(waited).try_for_each(|name| self.unlink(name))
    }

    /// Removes a file of the directory, if there is one.
    pub(super) fn unlink(&self, name: &CStr) -> std::result::Result<(), davit_sys::Error> {
        match unlinkat(self.directory.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            // A directory with this name is removed later, with all other files.
            Err(Errno::ENOENT | Errno::EISDIR | Errno::EPERM) => Ok(()),
            removed => removed.syscall("unlink"),
        }
    }

    /// Reads a file, after the check of its owner and mode.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let file = open_at(&self.directory, name).syscall("open")?;
        let stat = fstat(&file).syscall("fstat")?;
        if let Some(untrusted) = Untrusted::of(&stat) {
            return Err(untrusted.refuse("file", &self.message_path(name)));
        }
        crate::config::input::read_regular(&file, &stat)
    }

    /// The path of a file, for messages.
    fn message_path(&self, name: &str) -> PathBuf {
        let directory = std::fs::read_link(format!("/proc/self/fd/{}", self.directory.as_raw_fd()));
        directory.unwrap_or_else(|_| PathBuf::from(self.id.as_str())).join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::result::Result<OwnedFd, davit_sys::Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(self.directory.as_fd(), name, flags | OFlag::O_NOFOLLOW, mode)
            .syscall("open")?;
        let file = File::from(file);
        file.write_all_at(bytes, 0).syscall("write")?;
        Ok(file.into())
    }
}
