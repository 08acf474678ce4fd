//! The container's terminal, without a name being looked up more than once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use sys::path::{Links, open_in_root};
use sys::{During, Error};

use super::Context;
use super::attach::put;
use super::resolve::{Missing, destination};
use crate::op::{Rule, Target};

/// Both sides of a new terminal: the caller's and the process's.
struct Terminal {
    master: OwnedFd,
    terminal: OwnedFd,
}

impl Terminal {
    /// The terminal is left as devpts makes it: whoever copies its output decides about `\r`.
    fn open(root: BorrowedFd<'_>, size: Option<(u16, u16)>) -> Result<Self, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let master = open_in_root(root, c"/dev/pts/ptmx", flags, Links::Refuse)?;
        // An image can have any file of that name; only devpts makes terminals.
        if fstatfs(&master).during("fstatfs")?.filesystem_type() != DEVPTS_SUPER_MAGIC {
            return Err(Error::new("/dev/pts is no devpts: openat2", Errno::ENOTTY));
        }
        sys::pty::unlock(master.as_fd())?;
        let terminal = sys::pty::peer(master.as_fd())?;
        if let Some((rows, columns)) = size {
            sys::pty::resize(terminal.as_fd(), rows, columns)?;
        }
        Ok(Self { master, terminal })
    }
}

impl Context {
    /// A terminal that is `/dev/console` too.
    pub(super) fn console(
        &mut self,
        size: Option<(u16, u16)>,
        master_slot: u16,
        terminal_slot: u16,
    ) -> Result<(), Error> {
        let root = self.root()?;
        let made = Terminal::open(root, size)?;
        // Not by /dev/pts/N, which could be another file by now (CVE-2025-52565).
        let mount = sys::mount::clone_tree(made.terminal.as_fd(), c"", false)?;
        let target = Target { path: c"/dev/console".to_owned(), rule: Rule::NoLinks };
        let console = destination(root, &target, || Ok(Missing::File))?;
        put(mount.as_fd(), console.fd.as_fd())?;
        self.keep(made, master_slot, terminal_slot);
        Ok(())
    }

    /// A terminal for a further process of a container that runs.
    pub(super) fn terminal(
        &mut self,
        size: Option<(u16, u16)>,
        master_slot: u16,
        terminal_slot: u16,
    ) -> Result<(), Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(c"/", flags, Mode::empty()).during("open /")?;
        let made = Terminal::open(root.as_fd(), size)?;
        self.keep(made, master_slot, terminal_slot);
        Ok(())
    }

    fn keep(&mut self, made: Terminal, master_slot: u16, terminal_slot: u16) {
        self.slots.put(master_slot, made.master);
        self.slots.put(terminal_slot, made.terminal);
    }
}
