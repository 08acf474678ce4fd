//! The container's terminal. Each name is looked up once only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::path::{Links, open_in_root};
use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use super::Context;
use super::attach::put;
use super::resolve::FileKind;
use crate::op::{LookupPolicy, Target};

/// A new pseudoterminal: its master, and the terminal of the process.
struct Terminal {
    master: OwnedFd,
    terminal: OwnedFd,
}

impl Terminal {
    /// Opens it with the default settings of devpts: the reader of the master translates `\r`.
    fn open(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<Self, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let master = open_in_root(root, c"/dev/pts/ptmx", flags, Links::Refuse)
            .map_err(|error| Error::new("/dev/pts/ptmx: openat2", error.errno))?;
        // An image may have any file of that name; only devpts has terminals.
        if fstatfs(&master).syscall("fstatfs")?.filesystem_type() != DEVPTS_SUPER_MAGIC {
            return Err(Error::new("/dev/pts is not a devpts: openat2", Errno::ENOTTY));
        }
        davit_sys::pty::unlock(master.as_fd())?;
        let terminal = davit_sys::pty::peer(master.as_fd())?;
        if let Some((rows, columns)) = size {
            davit_sys::pty::resize(terminal.as_fd(), rows, columns)?;
        }
        Ok(Self { master, terminal })
    }
}

impl Context {
    /// A terminal that is also `/dev/console`.
    pub(super) fn console(
        &mut self,
        size: Option<(u16, u16)>,
        master_slot: u16,
        terminal_slot: u16,
        policy: LookupPolicy,
    ) -> Result<(), Error> {
        let root = self.root()?;
        let terminal = Terminal::open(root, size)?;
        // Not by /dev/pts/N, which could be another file by now (CVE-2025-52565).
        let mount = davit_sys::mount::clone_tree(terminal.terminal.as_fd(), c"", false)?;
        let target = Target { path: c"/dev/console".to_owned(), policy };
        let console = self.destination(&target, || Ok(FileKind::File))?;
        put(mount.as_fd(), console.fd.as_fd())?;
        self.store(terminal, master_slot, terminal_slot);
        Ok(())
    }

    /// A terminal for an exec in a running container.
    pub(super) fn terminal(
        &mut self,
        size: Option<(u16, u16)>,
        master_slot: u16,
        terminal_slot: u16,
    ) -> Result<(), Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(c"/", flags, Mode::empty()).syscall("open /")?;
        let terminal = Terminal::open(root.as_fd(), size)?;
        self.store(terminal, master_slot, terminal_slot);
        Ok(())
    }

    fn store(&mut self, new: Terminal, master_slot: u16, terminal_slot: u16) {
        self.slots.put(master_slot, new.master);
        self.slots.put(terminal_slot, new.terminal);
    }
}
