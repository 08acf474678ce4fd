//! The directories of an image and of CRIU's log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use davit_checkpoint::image::{DESCRIPTORS, Image, MARKER, is_of_image};
use davit_sys::OsContext;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::config::input;
use crate::error::{Error, Result, Within};

/// The name of the marker while it is written.
const TEMPORARY: &str = "davit.json.new";

/// An open directory, and its path for messages.
#[derive(Debug)]
pub(super) struct ImageDir {
    directory: OwnedFd,
    path: PathBuf,
}

impl ImageDir {
    /// Opens a directory; with `make` it is made if it does not exist.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub(super) fn open(option: &str, path: &Path, make: bool) -> Result<Self> {
        let step = || format!("{option} {}", path.display());
        if make {
            match mkdirat(AT_FDCWD, path, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).syscall("mkdir").within(step),
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            openat(AT_FDCWD, path, flags, Mode::empty()).syscall("open").within(step)?;
        let path = davit_sys::path::canonical(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { directory, path })
    }

    /// Checks that the image that this one builds on is there: CRIU only says that it is a bad
    /// request. Its path is relative to this directory, so that both can move.
    ///
    /// # Errors
    /// It is absolute; open(2)'s.
    pub(super) fn require_parent(&self, path: &str) -> Result<()> {
        if Path::new(path).is_absolute() {
            return Err(Error::new(format!("--parent-path {path}: is not relative to the image")));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, path, flags, Mode::empty()).syscall("open");
        opened.map(drop).within(|| format!("--parent-path {path}"))
    }

    /// Lets all users look up names in it, though not list them: CRIU does that as root of the
    /// container's user namespace. The files stay readable by their owner alone.
    ///
    /// # Errors
    /// fchmod(2)'s.
    pub(super) fn make_searchable(&self) -> Result<()> {
        let step = || self.path.display().to_string();
        let mode = fstat(&self.directory).syscall("fstat").within(step)?.st_mode & 0o7777;
        if mode & 0o011 == 0o011 {
            return Ok(());
        }
        fchmod(&self.directory, Mode::from_bits_truncate(mode | 0o011))
            .syscall("fchmod")
            .within(step)
    }

    /// Opens the same directory again, in another mount namespace.
    ///
    /// # Errors
    /// open(2)'s.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let step = || self.path.display().to_string();
        let opened = openat(AT_FDCWD, &self.path, flags, Mode::empty()).syscall("open");
        let opened = opened.within(step)?;
        let place = |directory: &OwnedFd| -> Result<(u64, u64)> {
            let stat = fstat(directory).syscall("fstat").within(step)?;
            Ok((stat.st_dev, stat.st_ino))
        };
        if place(&opened)? != place(&self.directory)? {
            return Err(Error::new("was replaced meanwhile").within(step()));
        }
        self.directory = opened;
        Ok(())
    }

    /// Its number in this process: CRIU opens it through /proc.
    pub(super) fn number(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of the descriptor.
    ///
    /// # Errors
    /// No more descriptors.
    pub(super) fn copy(&self) -> Result<OwnedFd> {
        Ok(self.directory.as_fd().try_clone_to_owned().syscall("dup")?)
    }

    /// Removes the marker of an earlier image: until the new one is written, there is none.
    ///
    /// # Errors
    /// unlink(2)'s.
    pub(super) fn begin(&self) -> Result<()> {
        for name in [MARKER, TEMPORARY] {
            match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno).syscall("unlink").within(|| self.named(name)),
            }
        }
        Ok(())
    }

    /// Writes what davit adds to an image, the marker last: from here on it is complete.
    ///
    /// # Errors
    /// Those of open(2), write(2) and rename(2), such as ENOSPC.
    pub(super) fn complete(&self, image: &Image) -> Result<()> {
        let image = Image { sizes: self.sizes()?, ..image.clone() };
        self.write(DESCRIPTORS, &image.descriptors()?)?;
        self.write(TEMPORARY, &image.text()?)?;
        renameat(&self.directory, TEMPORARY, &self.directory, MARKER)
            .syscall("rename")
            .within(|| self.named(MARKER))
    }

    /// The sizes of the files that CRIU has written.
    fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let path = format!("/proc/self/fd/{}", self.number());
        let mut sizes = BTreeMap::new();
        for entry in std::fs::read_dir(path).syscall("open").within(|| self.named(""))? {
            let name = entry.syscall("getdents").within(|| self.named(""))?.file_name();
            let Some(name) = name.to_str().filter(|name| is_of_image(name)) else { continue };
            sizes.insert(name.to_owned(), self.size(name)?);
        }
        Ok(sizes)
    }

    fn size(&self, name: &str) -> Result<u64> {
        let stat = fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let size = stat.syscall("stat").within(|| self.named(name))?.st_size;
        Ok(size.cast_unsigned())
    }

    fn check_sizes(&self, image: &Image) -> Result<()> {
        for (name, size) in &image.sizes {
            let found = self.size(name)?;
            if found != *size {
                let message = format!("has {found} bytes, and had {size} at the checkpoint");
                return Err(Error::new(message).within(self.named(name)));
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let write = || -> std::result::Result<(), davit_sys::Error> {
            let file = openat(&self.directory, name, flags | OFlag::O_NOFOLLOW, mode);
            let mut file = File::from(file.syscall("open")?);
            file.write_all(bytes).syscall("write")?;
            // The image may be needed after a crash of the host, when the container is gone.
            file.sync_all().syscall("fsync")
        };
        write().within(|| self.named(name))
    }

    /// Reads the marker of a complete image.
    ///
    /// # Errors
    /// There is none: the image is not complete, or not davit's; it or a file of CRIU is damaged.
    pub(super) fn image(&self) -> Result<Image> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.directory, MARKER, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let path = self.path.display();
                let message = format!("image {path}: is not complete: it has no {MARKER}");
                return Err(Error::new(message).hint(
                    "a checkpoint that was interrupted, or an image of another runtime: only \
                     `davit checkpoint` makes images that davit restores",
                ));
            }
            opened => opened.syscall("open").within(|| self.named(MARKER))?,
        };
        let stat = fstat(&file).syscall("fstat").within(|| self.named(MARKER))?;
        let text = input::read_regular(&file, &stat).within(|| self.named(MARKER))?;
        let image = Image::parse(&text).within(|| format!("image {}", self.path.display()))?;
        self.check_sizes(&image)?;
        Ok(image)
    }

    fn named(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_complete_once_its_marker_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let dir = ImageDir::open("--image-path", &directory.path().join("new"), true).unwrap();
        let error = dir.image().unwrap_err();
        assert!(error.message().contains("is not complete"), "{error}");
        let text = br#"{"format":1,"davit":"0.2.0","id":"web"}"#;
        let image = Image::parse(text).unwrap();
        let pages = directory.path().join("new/pages-1.img");
        std::fs::write(&pages, "pages").unwrap();
        dir.complete(&image).unwrap();
        let sizes = BTreeMap::from([("pages-1.img".to_owned(), 5)]);
        assert_eq!(dir.image().unwrap(), Image { sizes, ..image });
        std::fs::write(&pages, "page").unwrap();
        let error = dir.image().unwrap_err();
        assert!(error.message().contains("pages-1.img: has 4 bytes, and had 5"), "{error}");
        std::fs::remove_file(&pages).unwrap();
        assert!(dir.image().unwrap_err().message().contains("pages-1.img: stat"));
        dir.begin().unwrap();
        assert!(dir.image().is_err());
    }
}
